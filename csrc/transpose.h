// dst[c][r] = src[r][c], four by four where the processor has the shuffles for it.
#pragma once

#include "simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace lc {
namespace LC_ISA {

template <class T>
LC_INLINE void transpose_4x4(T* dst, int64_t dst_row, const T* src, int64_t src_row) {
#if defined(__SSE2__)
  if constexpr (sizeof(T) == 4) {
    __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + src_row), c = _mm_loadu_ps(src + 2 * src_row),
           d = _mm_loadu_ps(src + 3 * src_row);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(dst, a);
    _mm_storeu_ps(dst + dst_row, b);
    _mm_storeu_ps(dst + 2 * dst_row, c);
    _mm_storeu_ps(dst + 3 * dst_row, d);
  } else {
    for (int r = 0; r < 4; r += 2)
      for (int c = 0; c < 4; c += 2) {
        const __m128d a = _mm_loadu_pd(src + r * src_row + c), b = _mm_loadu_pd(src + (r + 1) * src_row + c);
        _mm_storeu_pd(dst + c * dst_row + r, _mm_unpacklo_pd(a, b));
        _mm_storeu_pd(dst + (c + 1) * dst_row + r, _mm_unpackhi_pd(a, b));
      }
  }
#else
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) dst[c * dst_row + r] = src[r * src_row + c];
#endif
}

// Sixteen columns at a time, so that the lines that are written stay in the first-level cache until they are full.
template <class T>
void transpose(T* dst, int64_t dst_row, const T* src, int64_t src_row, int64_t rows, int64_t columns) {
  for (int64_t first = 0; first < columns; first += 16) {
    const int64_t last = first + 16 < columns ? first + 16 : columns;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      int64_t c = first;
      for (; c + 4 <= last; c += 4) transpose_4x4(dst + c * dst_row + r, dst_row, src + r * src_row + c, src_row);
      for (; c < last; ++c)
        for (int64_t q = r; q < r + 4; ++q) dst[c * dst_row + q] = src[q * src_row + c];
    }
    for (; r < rows; ++r)
      for (int64_t c = first; c < last; ++c) dst[c * dst_row + r] = src[r * src_row + c];
  }
}

}  // namespace LC_ISA
}  // namespace lc
