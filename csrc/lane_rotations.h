// A log of rotations (implicit_qr.h) applied to the columns of vectors in lanes.
//
// In scaled form (Gentleman 1973): column k stands as scale[k] * x[k], so that a rotation of columns k and k + 1 costs
// two multiply-adds an entry,
//   x[k], x[k + 1] = x[k] + a * x[k + 1], x[k + 1] - b * x[k],   a = s * scale[k + 1] / (c * scale[k]),
//   scale[k], scale[k + 1] = c * scale[k], c * scale[k + 1],     b = s * scale[k] / (c * scale[k + 1]),
// as exact as the rotation itself however small c. The scales are multiplied in when the log ends, and, as powers of
// two and so without a trace, before one of a lane becomes too small.
#pragma once

#include "lanes.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// Sweeps that a log holds.
constexpr int kSweeps = 16;
// Sweeps that rows go through at once, read and written once for all of them, and rows at once: their registers.
constexpr int kFused = kRegisters == 32 ? 4 : 2, kRows = 4;

template <class T>
struct Limits;
template <>
struct Limits<float> {
  // The least |c|, an angle far below rounding, and the scale under which a sweep may not begin.
  static constexpr float kCosine = 0x1p-28f, kScale = 0x1p-60f;
};
template <>
struct Limits<double> {
  static constexpr double kCosine = 0x1p-60, kScale = 0x1p-600;
};

// `sweeps` sweeps over the planes [begin, end), and then, if there is one, a factor for each column.
template <class T>
struct Pass {
  const Rotation<T>* rotation;
  int sweeps;
  int64_t begin, end;
  const Vec<T>* factor;
};
template <class T>
struct Passes {
  Pass<T> pass[kSweeps];
  int count;
  Vec<T>*scale, *factors;  // [n], [kSweeps][n]
};

template <class T>
LC_INLINE bool any_of(Mask<T> mask) {
  Int<T> any = 0;
  for (int i = 0; i < kLanes<T>; ++i) any |= mask[i];
  return any != 0;
}

// 1 / a to rounding.
template <class T>
LC_INLINE Vec<T> inverse(Vec<T> a) {
#if defined(__AVX512F__)
  const Vec<T> one = splat(T(1));
  if constexpr (sizeof(T) == 4) {
    const Vec<T> r = _mm512_maskz_rcp14_ps(0xFFFF, a);
    return madd(r, madd(-a, r, one), r);
  } else {
    Vec<T> r = _mm512_maskz_rcp14_pd(0xFF, a);
    r = madd(r, madd(-a, r, one), r);
    return madd(r, madd(-a, r, one), r);
  }
#else
  return T(1) / a;
#endif
}

// The sweeps [first, last) as passes, each of so many sweeps that they can be fused; what a sweep lacks of its pass's
// planes does nothing.
template <class T>
void add_passes(Passes<T>* passes, Rotation<T>* rotation, int64_t n, const SweepLog<T>& log, int first, int last) {
  int together = n < kFused ? 2 : kFused;
  while (first < last) {
    while (together > last - first) together /= 2;
    Pass<T>& pass = passes->pass[passes->count++];
    pass = {rotation + first * n, together, n, 0, nullptr};
    for (int s = first; s < first + together; ++s) {
      pass.begin = log.begin[s] < pass.begin ? log.begin[s] : pass.begin;
      pass.end = log.end[s] > pass.end ? log.end[s] : pass.end;
    }
    if (pass.end - pass.begin < together - 1) {
      pass.end = pass.begin + together < n ? pass.begin + together - 1 : n - 1;
      pass.begin = pass.end - together + 1;
    }
    for (int s = first; s < first + together; ++s)
      for (int64_t k = pass.begin; k < pass.end; ++k)
        if (k < log.begin[s] || k >= log.end[s])
          rotation[s * n + k] = Rotation<T>{};
    first += together;
  }
}

// One group's rotations (c, s), in place to (a, -b).
template <class T>
void scale_rotations(Rotation<T>* rotation, int64_t n, const SweepLog<T>& log, Passes<T>* passes) {
  const Vec<T> one = splat(T(1)), least = splat(Limits<T>::kCosine);
  Vec<T>*scale = passes->scale, *factor = passes->factors;
  for (int64_t k = 0; k < n; ++k) scale[k] = one;
  passes->count = 0;
  int begun = 0;  // the first sweep since the last factors
  for (int s = 0; s < log.sweeps; ++s) {
    Vec<T> first = scale[log.begin[s]], smallest = one;
    for (int64_t k = log.begin[s]; k < log.end[s]; ++k) {
      Rotation<T>& by = rotation[s * n + k];
      const Vec<T> second = scale[k + 1], sine = by.s;
      const Vec<T> cosine = magnitude<T>(by.c) < least ? bits<Vec<T>>(sign_of<T>(by.c) | bits<Mask<T>>(least)) : by.c;
      const Vec<T> to_first = cosine * first, to_second = cosine * second;
      by.c = sine * second * inverse<T>(to_first);
      by.s = -(sine * first * inverse<T>(to_second));
      scale[k] = to_first;
      smallest = smaller(smallest, magnitude<T>(to_first));
      first = to_second;
    }
    scale[log.end[s]] = first;
    smallest = smaller(smallest, magnitude<T>(first));

    const Mask<T> low = smallest < Limits<T>::kScale;
    const bool last = s + 1 == log.sweeps;
    if (last || any_of<T>(low)) {
      constexpr Int<T> kExponent = sizeof(T) == 4 ? Int<T>(0x7f800000) : Int<T>(0x7ff0000000000000);
      for (int64_t k = 0; k < n; ++k) {
        const Vec<T> power = low ? bits<Vec<T>>(bits<Mask<T>>(scale[k]) & kExponent) : one;
        factor[k] = last ? scale[k] : power;
        scale[k] = scale[k] / power;
      }
      add_passes(passes, rotation, n, log, begun, s + 1);
      passes->pass[passes->count - 1].factor = factor;
      factor += n;
      begun = s + 1;
    }
  }
}

// R rows through the F sweeps of a pass; sweeps stand n apart.
template <class T, int R, int F, bool kFactor, class Lane>
LC_INLINE void rotate_rows(Vec<T>* q, int64_t row, int64_t n, const Pass<T>& pass, Lane of) {
  const Rotation<T>* by = pass.rotation;
  const int64_t begin = pass.begin, end = pass.end;
  Vec<T> carry[F][R];  // the column that each sweep carries on
  // Sweeps f .. g - 1, the first of them on plane k; y is the column that comes in, and then that which goes out.
  const auto turn = [&](Vec<T>& y, int r, int f, int g, int64_t k) LC_LAMBDA {
#pragma GCC unroll 4
    for (int i = f; i < g; ++i) {
      const Rotation<T>& b = by[i * n + k - i + f];
      const Vec<T> out = madd(of(b.c), y, carry[i][r]);
      carry[i][r] = madd(of(b.s), carry[i][r], y);
      y = out;
    }
  };
  const auto put = [&](int r, int64_t k, Vec<T> y) LC_LAMBDA { q[r * row + k] = kFactor ? y * of(pass.factor[k]) : y; };
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    for (int64_t k = 0; k < begin && kFactor; ++k) put(r, k, q[r * row + k]);
    for (int64_t k = end + 1; k < n && kFactor; ++k) put(r, k, q[r * row + k]);
    carry[0][r] = q[r * row + begin];
#pragma GCC unroll 4
    for (int f = 1; f < F; ++f) {
      carry[f][r] = q[r * row + begin + f];
      turn(carry[f][r], r, 0, f, begin + f - 1);
    }
  }
  for (int64_t k = begin + F - 1; k < end; ++k) {
    Vec<T> c[F], s[F];  // in registers for all rows
#pragma GCC unroll 4
    for (int f = 0; f < F; ++f) {
      c[f] = of(by[f * n + k - f].c);
      s[f] = of(by[f * n + k - f].s);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      Vec<T> y = q[r * row + k + 1];
#pragma GCC unroll 4
      for (int f = 0; f < F; ++f) {
        const Vec<T> out = madd(c[f], y, carry[f][r]);
        carry[f][r] = madd(s[f], carry[f][r], y);
        y = out;
      }
      put(r, k + 1 - F, y);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int f = 1; f <= F; ++f) {
      Vec<T> y = carry[f - 1][r];
      turn(y, r, f, F, end - 1);
      put(r, end + f - F, y);
    }
}

template <class T, int R, bool kFactor, class Lane>
LC_INLINE void rotate_rows(Vec<T>* q, int64_t row, int64_t n, const Pass<T>& pass, Lane of) {
  if (pass.sweeps == 1)
    rotate_rows<T, R, 1, kFactor>(q, row, n, pass, of);
  else if (pass.sweeps == 2)
    rotate_rows<T, R, 2, kFactor>(q, row, n, pass, of);
  else
    rotate_rows<T, R, kFused, kFactor>(q, row, n, pass, of);
}
template <class T, int R, class Lane>
void rotate_rows(Vec<T>* q, int64_t row, int64_t n, const Passes<T>& passes, Lane of) {
  for (int p = 0; p < passes.count; ++p)
    if (passes.pass[p].factor)
      rotate_rows<T, R, true>(q, row, n, passes.pass[p], of);
    else
      rotate_rows<T, R, false>(q, row, n, passes.pass[p], of);
}
template <class T, class Lane>
LC_INLINE void rotate_all(Vec<T>* q, int64_t row, int64_t rows, int64_t n, const Passes<T>& passes, Lane of) {
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) rotate_rows<T, kRows>(q + i * row, row, n, passes, of);
  if (i + 2 <= rows) {
    rotate_rows<T, 2>(q + i * row, row, n, passes, of);
    i += 2;
  }
  if (i < rows)
    rotate_rows<T, 1>(q + i * row, row, n, passes, of);
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
