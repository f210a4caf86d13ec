// The vector type of one instruction set, and the few operations that the compiler's own vector arithmetic lacks.
// Every file that includes this is compiled once per set; LC_ISA names the namespace that keeps the copies apart.
// Nothing here instantiates a template of the standard library: a linker may merge such a template's copies and run
// AVX-512 code on a machine that has none.
#pragma once

#include <cstdint>
#include <cstring>

#include "compiler.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace lc {
namespace LC_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32, kRegisters = 16;
#else
constexpr int kVectorBytes = 16, kRegisters = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  using Integer = int32_t;
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Mask __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  using Integer = int64_t;
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Mask __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vec = typename VectorOf<T>::Vector;
template <class T>
using Mask = typename VectorOf<T>::Mask;  // also the integer vector of the same lane width
template <class T>
using Int = typename VectorOf<T>::Integer;

// A weight panel is one cache line wide on every instruction set: 16 floats or 8 doubles.
template <class T>
constexpr int kPanel = 64 / static_cast<int>(sizeof(T));
// Elements of a weight {out, in} and its bias, in panels [out / panel][in + 1][panel].
template <class T>
LC_INLINE int64_t weight_size(int64_t out, int64_t in) {
  return (out + kPanel<T> - 1) / kPanel<T> * (in + 1) * kPanel<T>;
}
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
template <class T>
constexpr T kInfinity = static_cast<T>(__builtin_inf());
// Vectors in a panel row.
constexpr int kSplit = 64 / kVectorBytes;

template <class T>
LC_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
LC_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

LC_INLINE Vec<float> splat(float x) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(x);
#elif defined(__AVX2__)
  return _mm256_set1_ps(x);
#else
  return Vec<float>{x, x, x, x};
#endif
}
LC_INLINE Vec<double> splat(double x) {
#if defined(__AVX512F__)
  return _mm512_set1_pd(x);
#elif defined(__AVX2__)
  return _mm256_set1_pd(x);
#else
  return Vec<double>{x, x};
#endif
}

// a * b + c, fused where the set has it. Never written as an expression, so that no compiler flag decides.
template <class V>
LC_INLINE V madd(V a, V b, V c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(c[0]) == 4)
    return _mm512_fmadd_ps(a, b, c);
  else
    return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
  if constexpr (sizeof(c[0]) == 4)
    return _mm256_fmadd_ps(a, b, c);
  else
    return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// The larger (smaller) lane; a NaN in b comes through.
#if defined(__AVX512F__)
#define LC_BY_TYPE(name, a, b)                     \
  if constexpr (sizeof(a[0]) == 4)                 \
    return _mm512_maskz_##name##_ps(0xFFFF, a, b); \
  else                                             \
    return _mm512_maskz_##name##_pd(0xFF, a, b);
#elif defined(__AVX2__)
#define LC_BY_TYPE(name, a, b)       \
  if constexpr (sizeof(a[0]) == 4)   \
    return _mm256_##name##_ps(a, b); \
  else                               \
    return _mm256_##name##_pd(a, b);
#endif
template <class V>
LC_INLINE V larger(V a, V b) {
#if defined(__AVX2__)
  LC_BY_TYPE(max, a, b)
#else
  return a > b ? a : b;
#endif
}
template <class V>
LC_INLINE V smaller(V a, V b) {
#if defined(__AVX2__)
  LC_BY_TYPE(min, a, b)
#else
  return a < b ? a : b;
#endif
}
#undef LC_BY_TYPE

template <class V>
LC_INLINE V square_root(V a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(a[0]) == 4)
    return _mm512_maskz_sqrt_ps(0xFFFF, a);
  else
    return _mm512_maskz_sqrt_pd(0xFF, a);
#elif defined(__AVX2__)
  if constexpr (sizeof(a[0]) == 4)
    return _mm256_sqrt_ps(a);
  else
    return _mm256_sqrt_pd(a);
#else
  V r;
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) {
    if constexpr (sizeof(a[0]) == 4)
      r[i] = __builtin_sqrtf(a[i]);
    else
      r[i] = __builtin_sqrt(a[i]);
  }
  return r;
#endif
}

// The same bits read as another vector type.
template <class To, class From>
LC_INLINE To bits(From v) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(v);
}

// The first n lanes (0 <= n <= lanes); the others read as zero and are not touched in memory.
template <class T>
LC_INLINE Vec<T> load_first(const T* p, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p);
  else
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p);
#else
  Vec<T> v = {};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}
template <class T>
LC_INLINE void store_first(T* p, Vec<T> v, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
  else
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), v);
#else
  for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// f over n contiguous elements. A ragged end goes through the same vector code, so that an element's result does not
// depend on where it stands. f(offset, load, store): load(const T*) and store(T*, Vec<T>) reach the lanes at offset.
template <class T, class F>
LC_INLINE void for_lanes(int64_t n, F&& f) {
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>)
    f(i, [](const T* p) { return load<T>(p); }, [](T* p, Vec<T> v) { store<T>(p, v); });
  if (i < n) {
    const int rest = static_cast<int>(n - i);
    f(i, [rest](const T* p) { return load_first<T>(p, rest); }, [rest](T* p, Vec<T> v) { store_first<T>(p, v, rest); });
  }
}

}  // namespace LC_ISA
}  // namespace lc
