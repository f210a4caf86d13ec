// Philox4x32-10 (Salmon et al. 2011, the Random123 form), 16 counters at a time, and the standard normals made of it.
// A value depends on its key and counter alone, never on what else shares its block.
#pragma once

#include "vmath.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace lc {
namespace LC_ISA {

constexpr int kCounters = 16;  // in a block

// The product of the low halves of each pair of lanes: one instruction, which no compiler finds by itself.
LC_INLINE Bits<double> multiply_low(Bits<double> a, Bits<double> b) {
#if defined(__AVX512F__)
  return bits<Bits<double>>(_mm512_maskz_mul_epu32(static_cast<__mmask8>(0xFF), bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX2__)
  return bits<Bits<double>>(_mm256_mul_epu32(bits<__m256i>(a), bits<__m256i>(b)));
#elif defined(__SSE2__)
  return bits<Bits<double>>(_mm_mul_epu32(bits<__m128i>(a), bits<__m128i>(b)));
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

// Ten rounds on 16 counters (c0[i], c1[i], c2[i], c3[i]), in place.
LC_INLINE void philox_block(const uint32_t key[2], uint32_t c0[kCounters], uint32_t c1[kCounters],
                            uint32_t c2[kCounters], uint32_t c3[kCounters]) {
  using Words = Bits<double>;
  uint32_t* const c[4] = {c0, c1, c2, c3};
  for (int i = 0; i < kCounters; i += kVectorBytes / 4) {
    // The low halves hold word w of the even counters, v[0][w], and of the odd ones, v[1][w]; the high halves anything.
    Words v[2][4];
    for (int w = 0; w < 4; ++w) {
      Words both;
      std::memcpy(&both, c[w] + i, sizeof both);
      v[0][w] = both;
      v[1][w] = both >> 32;
    }
    Words k0 = Words{} + key[0], k1 = Words{} + key[1];
    for (int round = 0; round < 10; ++round) {
      for (auto& x : v) {
        const Words p0 = multiply_low(x[0], Words{} + 0xD2511F53u), p1 = multiply_low(x[2], Words{} + 0xCD9E8D57u);
        x[0] = (p1 >> 32) ^ x[1] ^ k0;
        x[1] = p1;
        x[2] = (p0 >> 32) ^ x[3] ^ k1;
        x[3] = p0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int w = 0; w < 4; ++w) {
      const Words merged = (v[0][w] & 0xFFFFFFFFu) | (v[1][w] << 32);
      std::memcpy(c[w] + i, &merged, sizeof merged);
    }
  }
}

// The middle of one of 2^23 equal parts of (0, 1), exact in both types.
template <class T>
LC_INLINE T uniform(uint32_t word) {
  return (static_cast<T>(static_cast<int32_t>(word >> 9)) + T(0.5)) * T(0x1p-23);
}

// Box-Muller: words a and b become two independent standard normals, within 4 units in the last place.
template <class T>
LC_INLINE void box_muller(const uint32_t a[kCounters], const uint32_t b[kCounters], T cosine[kCounters],
                          T sine[kCounters]) {
  T u[kCounters], v[kCounters];
  for (int i = 0; i < kCounters; ++i) u[i] = uniform<T>(a[i]), v[i] = uniform<T>(b[i]);
  for (int i = 0; i < kCounters; i += kLanes<T>) {
    const Vec<T> radius = square_root(log_inside<T>(load<T>(u + i)) * splat(T(-2)));
    Vec<T> c, s;
    vcos_sin_2pi<T>(load<T>(v + i), c, s);
    store<T>(cosine + i, radius * c);
    store<T>(sine + i, radius * s);
  }
}

// out[r * row_stride + j], 0 <= r < n_rows, 0 <= j < per_row: standard normal number e = first_element + j of row
// rows[r], which is number e % 4 of the counter (e / 4, rows[r], step, stream). Counters of all rows fill the blocks.
template <class T>
inline void normals_rows(const uint32_t key[2], const uint32_t* rows, int64_t n_rows, int64_t first_element,
                         int64_t per_row, int64_t row_stride, uint32_t step, uint32_t stream, T* out) {
  const int64_t first = first_element / 4, last = (first_element + per_row - 1) / 4;  // counters of a row
  int64_t row = 0, counter = first;
  while (per_row > 0 && row < n_rows) {
    uint32_t c[4][kCounters];
    T n[4][kCounters], mixed[kCounters][4];
    int64_t target[kCounters];  // the counter's first normal belongs to out[target]
    int begin[kCounters], end[kCounters], used = 0;
    for (; used < kCounters && row < n_rows; ++used) {
      const int64_t offset = counter * 4 - first_element;
      c[0][used] = static_cast<uint32_t>(counter);
      c[1][used] = rows[row];
      target[used] = row * row_stride + offset;
      begin[used] = offset < 0 ? static_cast<int>(-offset) : 0;
      end[used] = per_row - offset < 4 ? static_cast<int>(per_row - offset) : 4;
      row += counter == last;
      counter = counter == last ? first : counter + 1;
    }
    for (int i = used; i < kCounters; ++i) c[0][i] = c[1][i] = 0;
    for (int i = 0; i < kCounters; ++i) c[2][i] = step, c[3][i] = stream;
    philox_block(key, c[0], c[1], c[2], c[3]);
    box_muller<T>(c[0], c[1], n[0], n[1]);
    box_muller<T>(c[2], c[3], n[2], n[3]);
    for (int i = 0; i < kCounters; ++i)
      for (int w = 0; w < 4; ++w) mixed[i][w] = n[w][i];
    for (int i = 0; i < used; ++i) {
      if (begin[i] == 0 && end[i] == 4)
        std::memcpy(out + target[i], mixed[i], sizeof mixed[i]);
      else
        for (int w = begin[i]; w < end[i]; ++w) out[target[i] + w] = mixed[i][w];
    }
  }
}

// out[0 .. count): the standard normals number element0 and on of one row.
template <class T>
inline void normals(const uint32_t key[2], int64_t element0, int64_t count, uint32_t row, uint32_t step,
                    uint32_t stream, T* out) {
  normals_rows<T>(key, &row, 1, element0, count, count, step, stream, out);
}

}  // namespace LC_ISA
}  // namespace lc
