// exp, log and their kin on the vectors of simd.h: polynomials, no tables, no branches. NaN gives NaN. Denormal numbers
// are never needed: flushing them to zero turns denormal results into 0 and changes nothing else. "Error: a, b" is the
// largest seen for float, double in units in the last place, with or without fused multiply-add: float over every fifth
// bit pattern (log1p, cos, sin: every one of the domain), double over 2e7 random arguments and the edges.
#pragma once

#include "simd.h"

namespace lc {
namespace LC_ISA {

// Constants of one type. The polynomials are minimax fits, lowest power first.
template <class T>
struct Math;

template <>
struct Math<float> {
  using Word = uint32_t;
  typedef Word Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 23, kWidth = 32;
  static constexpr Word kOne = 0x3f800000u, kSqrtHalf = 0x3f3504f3u, kInteger = 0x4b000000u;  // 1, sqrt(1/2), 2^23
  static constexpr float kExponentZero = 0x1p23f + 127, kShift = 0x1.8p23f, kLog2e = 0x1.715476p0f,
                         kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f, kTwoPi = 0x1.922p2f, kSmallest = 0x1p-126f,
                         kLargest = 0x1.fffffep127f, kExpLow = -0x1.5d589ep6f, kExpHigh = 0x1.62e42ep6f,
                         kExpm1Low = -20, kExpm1High = 89, kTanhOne = 10, kErfOne = 4, kErfSlope = 0x1.20dd76p0f;
  // (e^r - 1 - r) / r^2, |r| <= ln(2) / 2
  static constexpr float kExp[] = {0x1.0p-1f, 0x1.5554b0p-3f, 0x1.555486p-5f, 0x1.122838p-7f, 0x1.6d995ep-10f};
  // (2 atanh(s) - 2 s) / s^3 in s^2, |s| <= 1/5
  static constexpr float kLog[] = {0x1.5555b4p-1f, 0x1.992aeep-2f, 0x1.36e6dap-2f};
  // sin(2 pi v) / v - kTwoPi, (cos(2 pi v) - 1) / v^2 in v^2, |v| <= 1/8; half of kTwoPi's bits are 0: exact products
  static constexpr float kSin[] = {-0x1.2aeef4p-16f, -0x1.4abbc0p5f, 0x1.466032p6f, -0x1.2dd048p6f};
  static constexpr float kCos[] = {-0x1.3bd3ccp4f, 0x1.03c1dep6f, -0x1.55c664p6f, 0x1.d9f7bcp5f};
  // -log(1 - erf(x)) / x - kErfSlope, 0 <= x <= kErfOne
  static constexpr float kErf[] = {-0x1.f7ac92p-25f, 0x1.45f308p-1f,  0x1.a4f37ep-4f,   -0x1.39396cp-6f,
                                   -0x1.095aa0p-12f, 0x1.d7b0a0p-10f, -0x1.84553ap-11f, 0x1.5f3bc2p-13f,
                                   -0x1.66457ep-16f, 0x1.40533cp-20f};
};

template <>
struct Math<double> {
  using Word = uint64_t;
  typedef Word Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr int kMantissa = 52, kWidth = 64;
  static constexpr Word kOne = 0x3ff0000000000000u, kSqrtHalf = 0x3fe6a09e667f3bcdu, kInteger = 0x4330000000000000u;
  static constexpr double kExponentZero = 0x1p52 + 1023, kShift = 0x1.8p52, kLog2e = 0x1.71547652b82fep0,
                          kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33, kTwoPi = 0x1.921fb5p2,
                          kSmallest = 0x1p-1022, kLargest = 0x1.fffffffffffffp1023, kExpLow = -0x1.6232bdd7abcd2p9,
                          kExpHigh = 0x1.62e42fefa39efp9, kExpm1Low = -40, kExpm1High = 710, kTanhOne = 20, kErfOne = 6,
                          kErfSlope = 0x1.20dd750429b6dp0;
  static constexpr double kExp[] = {0x1.0000000000005p-1,  0x1.555555555555cp-3,  0x1.55555555520c9p-5,
                                    0x1.111111110e6c0p-7,  0x1.6c16c17f4326cp-10, 0x1.a01a01b5e0a8ep-13,
                                    0x1.a019a660aa67ap-16, 0x1.71dde9efab392p-19, 0x1.28a2d23618febp-22,
                                    0x1.af76d232403e8p-26};
  static constexpr double kLog[] = {0x1.5555555555778p-1, 0x1.99999998f044ep-2, 0x1.249249b279748p-2,
                                    0x1.c71c012d45d7bp-3, 0x1.7474eb78fee8ep-3, 0x1.3852295a6ea4ap-3,
                                    0x1.3ac365eb4c78dp-3};
  static constexpr double kSin[] = {0x1.110b4611a6263p-24, -0x1.4abbce625be53p5, 0x1.466bc6775aadbp6,
                                    -0x1.32d2cce62ade5p6,  0x1.50783485eeb58p5,  -0x1.e3074b7df5a44p3,
                                    0x1.e8eef00a48ad7p1,   -0x1.6c63cb96ae272p-1};
  static constexpr double kCos[] = {-0x1.3bd3cc9be45dep4, 0x1.03c1f081b5ab0p6,  -0x1.55d3c7e3c95bcp6,
                                    0x1.e1f50683b42c5p5,  -0x1.a6d1ecb73fce9p4, 0x1.f9cc6acf8ae03p2,
                                    -0x1.b26fe84939609p0};
  static constexpr double kErf[] = {
      0x1.1ae3a914fed80p-56,  0x1.45f306dc9c8d9p-1,   0x1.a4f4e2a1a9b36p-4,   -0x1.396685908cd4ep-6,
      -0x1.b6b6a1cd313a0p-13, 0x1.bca691e242931p-10,  -0x1.35663bf88db29p-11, 0x1.b29b026d34aa9p-16,
      0x1.0e32efa116922p-14,  -0x1.f032618e643ddp-16, 0x1.a96b69ca26c03p-19,  0x1.a481b051faa36p-19,
      -0x1.116f045906545p-19, 0x1.32603252f8a40p-21,  -0x1.930439cb0f405p-27, -0x1.1a48472a3a84dp-24,
      0x1.290d5d8bc8f39p-25,  -0x1.7222f2d104666p-27, 0x1.4465e37258f81p-29,  -0x1.9d74ef038c950p-32,
      0x1.7a5a4059033e1p-35,  -0x1.d971015cb57b0p-39, 0x1.6b98bc066040ap-43,  -0x1.02d081003efffp-48};
};

// Unsigned integers of T's width: shifts are logical, sums wrap.
template <class T>
using Bits = typename Math<T>::Bits;
template <class T>
LC_INLINE Bits<T> sign_bit(Vec<T> v) {
  return bits<Bits<T>>(v) & (typename Math<T>::Word{1} << (Math<T>::kWidth - 1));
}
template <class T>
LC_INLINE Vec<T> absolute(Vec<T> v) {
  return bits<Vec<T>>(bits<Bits<T>>(v) ^ sign_bit<T>(v));
}

// c[0] + c[1] x + ..., as two interleaved chains: half the latency of one.
template <int I, int Step, class T, int N>
LC_INLINE Vec<T> horner(Vec<T> x, const T (&c)[N]) {
  if constexpr (I + Step >= N)
    return splat(c[I]);
  else
    return madd(horner<I + Step, Step, T, N>(x, c), x, splat(c[I]));
}
template <class T, int N>
LC_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[N]) {
  const Vec<T> xx = x * x;
  return madd(horner<1, 2, T, N>(xx, c), x, horner<0, 2, T, N>(xx, c));
}

// x = n ln 2 + r with |r| <= ln(2) / 2: returns e^r - 1, and n in the low bits of n_bits.
template <class T>
LC_INLINE Vec<T> exp_reduced(Vec<T> x, Bits<T>& n_bits) {
  using M = Math<T>;
  const Vec<T> shifted = madd(x, splat(M::kLog2e), splat(M::kShift)), n = shifted - splat(M::kShift);
  const Vec<T> r = madd(n, splat(-M::kLn2Low), madd(n, splat(-M::kLn2High), x));
  n_bits = bits<Bits<T>>(shifted);
  return madd(r * r, polynomial<T>(r, M::kExp), r);
}

// e^x; 0 below the smallest normal number, infinity above the largest. Error: 1.09, 1.06.
template <class T>
LC_INLINE Vec<T> vexp(Vec<T> x) {
  using M = Math<T>;
  Bits<T> n;
  const Vec<T> p = exp_reduced<T>(x, n) + splat(T(1));
  const Vec<T> y = bits<Vec<T>>(bits<Bits<T>>(p) + (n << M::kMantissa));
  const Vec<T> low = x < splat(M::kExpLow) ? splat(T(0)) : y;
  return x <= splat(M::kExpHigh) ? low : x * splat(M::kLargest);
}

// e^x - 1, kExpm1Low <= x <= kExpm1High; 0 for |x| below 4 kSmallest if denormals are flushed.
template <class T>
LC_INLINE Vec<T> expm1_inside(Vec<T> x) {
  using M = Math<T>;
  Bits<T> n;
  const Vec<T> q = exp_reduced<T>(x, n);
  // 2^(n - 1), so that n = 128 (1024) has one too; doubling is exact.
  const Vec<T> half = bits<Vec<T>>((n << M::kMantissa) + (M::kOne - (typename M::Word{1} << M::kMantissa)));
  const Vec<T> y = madd(half, q, half - splat(T(0.5)));
  return y + y;
}

// e^x - 1. Error: 1.86, 2.29.
template <class T>
LC_INLINE Vec<T> vexpm1(Vec<T> x) {
  using M = Math<T>;
  const Vec<T> y = expm1_inside<T>(smaller(splat(M::kExpm1High), larger(splat(M::kExpm1Low), x)));
  return absolute<T>(x) < splat(M::kSmallest * 4) ? x : y;
}

// e ln 2 + log(1 + f), 1 + f in [sqrt(1/2), 3/2].
template <class T>
LC_INLINE Vec<T> log_reduced(Vec<T> f, Vec<T> e) {
  using M = Math<T>;
  const Vec<T> s = f / (f + splat(T(2))), z = s * s, half = f * f * splat(T(0.5));
  const Vec<T> r = madd(z, polynomial<T>(z, M::kLog), half);
  return madd(e, splat(M::kLn2High), f - (half - madd(s, r, e * splat(M::kLn2Low))));
}

// log(x) for x positive, normal and finite.
template <class T>
LC_INLINE Vec<T> log_inside(Vec<T> x) {
  using M = Math<T>;
  const Bits<T> i = bits<Bits<T>>(x) + (M::kOne - M::kSqrtHalf);
  const Bits<T> m = (i & ((typename M::Word{1} << M::kMantissa) - 1)) + M::kSqrtHalf;
  const Vec<T> e = bits<Vec<T>>((i >> M::kMantissa) | M::kInteger) - splat(M::kExponentZero);
  return log_reduced<T>(bits<Vec<T>>(m) - splat(T(1)), e);
}

// log(x); -infinity for 0 and the denormals, NaN below. Error: 0.83, 0.92.
template <class T>
LC_INLINE Vec<T> vlog(Vec<T> x) {
  using M = Math<T>;
  constexpr T infinity = T(__builtin_inf()), nan = T(__builtin_nan(""));
  const Vec<T> bottom = x < splat(T(0)) ? splat(nan) : splat(-infinity);
  const Vec<T> low = x < splat(M::kSmallest) ? bottom : log_inside<T>(x);
  return x <= splat(M::kLargest) ? low : x;
}

// log(1 + x), 0 <= x <= 1. Error: 0.93, 0.96.
template <class T>
LC_INLINE Vec<T> vlog1p(Vec<T> x) {
  const Vec<T> half = splat(T(0.5)), one = splat(T(1));
  return log_reduced<T>(x <= half ? x : (x - one) * half, x <= half ? splat(T(0)) : one);
}

// tanh(x). Error: 2.50, 2.58.
template <class T>
LC_INLINE Vec<T> vtanh(Vec<T> x) {
  const Vec<T> a = smaller(splat(Math<T>::kTanhOne), absolute<T>(x));
  const Vec<T> t = expm1_inside<T>(a * splat(T(-2)));
  return bits<Vec<T>>(bits<Bits<T>>(absolute<T>(t) / (t + splat(T(2)))) | sign_bit<T>(x));
}

// 1 / (1 + e^-x). Error: 2.47, 2.41.
template <class T>
LC_INLINE Vec<T> vsigmoid(Vec<T> x) {
  return splat(T(1)) / (splat(T(1)) + vexp<T>(-x));
}

// log(1 + e^x), relative accuracy kept for negative x. Error: 1.65, 1.66.
template <class T>
LC_INLINE Vec<T> vsoftplus(Vec<T> x) {
  return larger(splat(T(0)), x) + vlog1p<T>(vexp<T>(-absolute<T>(x)));
}

// c = cos(2 pi u), s = sin(2 pi u), 0 < u < 1. The nearest quarter turn is subtracted exactly. Error: 1.46, 1.48.
template <class T>
LC_INLINE void vcos_sin_2pi(Vec<T> u, Vec<T>& c, Vec<T>& s) {
  using M = Math<T>;
  const Vec<T> shifted = madd(u, splat(T(4)), splat(M::kShift));
  const Vec<T> v = madd(shifted - splat(M::kShift), splat(T(-0.25)), u), z = v * v;
  const Vec<T> cv = madd(z, polynomial<T>(z, M::kCos), splat(T(1)));
  const Vec<T> upper = bits<Vec<T>>(bits<Bits<T>>(v) & -(typename M::Word{1} << (M::kMantissa + 1) / 2));
  const Vec<T> sv = madd(upper, splat(M::kTwoPi), madd(v, polynomial<T>(z, M::kSin), (v - upper) * splat(M::kTwoPi)));
  // An odd quarter turn k = 0 .. 4 swaps the two; bit 1 of k and of k + 1 gives the signs.
  const Bits<T> k = bits<Bits<T>>(shifted);
  const Bits<T> swap = (bits<Bits<T>>(cv) ^ bits<Bits<T>>(sv)) & -(k & 1);
  c = bits<Vec<T>>(bits<Bits<T>>(cv) ^ swap ^ (((k + 1) & 2) << (M::kWidth - 2)));
  s = bits<Vec<T>>(bits<Bits<T>>(sv) ^ swap ^ ((k & 2) << (M::kWidth - 2)));
}

// The error function. Error: 2.72, 2.64. x / 2 (1 + erf(x / sqrt(2))) is gelu(x) within eps |x|.
template <class T>
LC_INLINE Vec<T> verf(Vec<T> x) {
  using M = Math<T>;
  const Vec<T> a = smaller(splat(M::kErfOne), absolute<T>(x));
  const Vec<T> y = expm1_inside<T>(-madd(a, polynomial<T>(a, M::kErf), a * splat(M::kErfSlope)));
  return bits<Vec<T>>(bits<Bits<T>>(absolute<T>(y)) | sign_bit<T>(x));
}

}  // namespace LC_ISA
}  // namespace lc
