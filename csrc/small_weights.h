// A row of a panel, whatever it is kept in, as a vector of the type that the plan computes in.
#pragma once

#include "simd.h"
#include "weights.h"

namespace lc {
namespace LC_ISA {

LC_INLINE Vec<float> load_row(const float* p) {
  return load<float>(p);
}
LC_INLINE Vec<double> load_row(const double* p) {
  return load<double>(p);
}

#if defined(__AVX512F__)
LC_INLINE Vec<float> load_row(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LC_INLINE Vec<float> load_row(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
#elif defined(__AVX2__)
LC_INLINE Vec<float> load_row(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
LC_INLINE Vec<float> load_row(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
#else
// As many integers as a vector has floats.
template <class I>
LC_INLINE Mask<float> load_integers(const I* p) {
  typedef I Few __attribute__((vector_size(kLanes<float> * sizeof(I))));
  Few few;
  std::memcpy(&few, p, sizeof few);
  return __builtin_convertvector(few, Mask<float>);
}
// The exponent moves from 5 bits with a bias of 15 to 8 with one of 127. Where it is 0 the number is that of the same
// bits above 2^-14, less 2^-14; no step meets a denormal float, which a run takes for 0.
LC_INLINE Vec<float> load_row(const Half* p) {
  constexpr int32_t kExponent = 0x7c00 << 13, kMove = 112 << 23;
  const Mask<float> half = load_integers(reinterpret_cast<const uint16_t*>(p));
  const Mask<float> size = (half & 0x7fff) << 13, exponent = size & kExponent;
  const Mask<float> moved = size + kMove + (exponent == kExponent ? Mask<float>{} + kMove : Mask<float>{});
  const Vec<float> low = bits<Vec<float>>(moved + (1 << 23)) - splat(0x1p-14f);
  const Mask<float> value = exponent == 0 ? bits<Mask<float>>(low) : moved;
  return bits<Vec<float>>(value | (half & 0x8000) << 16);
}
LC_INLINE Vec<float> load_row(const int8_t* p) {
  return __builtin_convertvector(load_integers(p), Vec<float>);
}
#endif

}  // namespace LC_ISA
}  // namespace lc
