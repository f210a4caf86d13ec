// Elements of T as lanes of double, and back, rounded once.
#pragma once

#include "simd.h"

namespace lc {
namespace LC_ISA {

typedef float NarrowLanes __attribute__((vector_size(kVectorBytes / 2)));

template <class T>
LC_INLINE Vec<double> widen(const T* p) {
  if constexpr (sizeof(T) == 8) {
    return load<double>(p);
  } else {
#if defined(__AVX512F__)
    return _mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(p));
#elif defined(__AVX2__)
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    NarrowLanes v;
    std::memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, Vec<double>);
#endif
  }
}
// A vector of T as so many vectors of double.
template <class T>
constexpr int kWide = kLanes<T> / kLanes<double>;
template <class T>
LC_INLINE void widen(Vec<T> v, Vec<double> (&wide)[kWide<T>]) {
  if constexpr (sizeof(T) == 8) {
    wide[0] = v;
  } else {
#if defined(__AVX512F__)
    wide[0] = _mm512_maskz_cvtps_pd(0xFF, _mm512_castps512_ps256(v));
    wide[1] = _mm512_maskz_cvtps_pd(0xFF, _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xF, _mm512_castps_pd(v), 1)));
#elif defined(__AVX2__)
    wide[0] = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    wide[1] = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
#else
    for (int i = 0; i < kLanes<T>; ++i) wide[i / kLanes<double>][i % kLanes<double>] = static_cast<double>(v[i]);
#endif
  }
}
template <class T>
LC_INLINE void narrow(T* p, Vec<double> v) {
  if constexpr (sizeof(T) == 8) {
    store<double>(p, v);
  } else {
#if defined(__AVX512F__)
    _mm256_storeu_ps(p, _mm512_maskz_cvtpd_ps(0xFF, v));
#elif defined(__AVX2__)
    _mm_storeu_ps(p, _mm256_cvtpd_ps(v));
#else
    const NarrowLanes n = __builtin_convertvector(v, NarrowLanes);
    std::memcpy(p, &n, sizeof n);
#endif
  }
}

// The first n lanes (0 <= n <= lanes of double); the others read as zero and are not touched in memory.
template <class T>
LC_INLINE Vec<double> widen_first(const T* p, int n) {
  Vec<double> v = {};
  for (int i = 0; i < n; ++i) v[i] = static_cast<double>(p[i]);
  return v;
}
template <>
LC_INLINE Vec<double> widen_first<double>(const double* p, int n) {
  return load_first<double>(p, n);
}
template <class T>
LC_INLINE void narrow_first(T* p, Vec<double> v, int n) {
  for (int i = 0; i < n; ++i) p[i] = static_cast<T>(v[i]);
}
template <>
LC_INLINE void narrow_first<double>(double* p, Vec<double> v, int n) {
  store_first<double>(p, v, n);
}
#if defined(__AVX512F__)
template <>
LC_INLINE Vec<double> widen_first<float>(const float* p, int n) {
  return _mm512_maskz_cvtps_pd(0xFF, _mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << n) - 1u), p));
}
template <>
LC_INLINE void narrow_first<float>(float* p, Vec<double> v, int n) {
  _mm256_mask_storeu_ps(p, static_cast<__mmask8>((1u << n) - 1u), _mm512_maskz_cvtpd_ps(0xFF, v));
}
#endif

// f over n contiguous elements, in lanes of double. f(offset, load, store): load(const T*) for any T, and
// store(T*, Vec<double>), reach the lanes at offset.
template <class F>
LC_INLINE void for_wide_lanes(int64_t n, F&& f) {
  constexpr int L = kLanes<double>;
  int64_t i = 0;
  for (; i + L <= n; i += L)
    f(i, [](const auto* p) LC_LAMBDA { return widen(p); }, [](auto* p, Vec<double> v) LC_LAMBDA { narrow(p, v); });
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    f(
        i, [rest](const auto* p) LC_LAMBDA { return widen_first(p, rest); },
        [rest](auto* p, Vec<double> v) LC_LAMBDA { narrow_first(p, v, rest); });
  }
}

}  // namespace LC_ISA
}  // namespace lc
