// The checksum of model files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lc {

// CRC-32 as in zlib. Long runs are folded 64 bytes at a time by carry-less products where the processor has them
// (Gopal et al. 2009, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction"), the rest goes
// through tables eight bytes at a time: table[k][b] is what byte b does with k bytes after it.
class Crc32 {
 public:
  void add(const unsigned char* data, size_t size) {
    static const Table table;
    uint32_t c = ~value_;
#if defined(__x86_64__)
    if (size >= 2 * kFold && __builtin_cpu_supports("pclmul")) {
      alignas(16) unsigned char rest[16];
      const size_t folded = fold(data, size, c, rest);
      c = table.add(0, rest, sizeof rest);
      data += folded;
      size -= folded;
    }
#endif
    value_ = ~table.add(c, data, size);
  }
  std::string digits() const {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(value_));
    return text;
  }

 private:
  struct Table {
    uint32_t at[8][256];
    Table() {
      for (uint32_t b = 0; b < 256; ++b) {
        uint32_t c = b;
        for (int i = 0; i < 8; ++i) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
        at[0][b] = c;
      }
      for (int k = 1; k < 8; ++k)
        for (int b = 0; b < 256; ++b) at[k][b] = at[k - 1][b] >> 8 ^ at[0][at[k - 1][b] & 255];
    }
    uint32_t add(uint32_t c, const unsigned char* data, size_t size) const {
      for (; size >= 8; data += 8, size -= 8) {
        const uint32_t low = c ^ word(data), high = word(data + 4);
        c = 0;
        for (int k = 0; k < 4; ++k) c ^= at[7 - k][low >> 8 * k & 255] ^ at[3 - k][high >> 8 * k & 255];
      }
      for (; size; ++data, --size) c = c >> 8 ^ at[0][(c ^ *data) & 255];
      return c;
    }
  };
  static uint32_t word(const unsigned char* p) {
    return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
           static_cast<uint32_t>(p[3]) << 24;
  }

#if defined(__x86_64__)
  static constexpr size_t kFold = 64;

  // Leaves in `rest` 16 bytes that go on, from 0, as the whole multiples of 64 bytes do from c. Returns their number.
  __attribute__((target("pclmul"))) static size_t fold(const unsigned char* data, size_t size, uint32_t c,
                                                       unsigned char* rest) {
    // x^(n + 32) and x^(n - 32) modulo the polynomial, reflected, for a place n bits on.
    const __m128i on_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), on_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i lane[4];
    for (int i = 0; i < 4; ++i) lane[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + i);
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128(static_cast<int>(c)));
    size_t at = kFold;
    for (; at + kFold <= size; at += kFold)
      for (int i = 0; i < 4; ++i)
        lane[i] = moved(lane[i], on_512, _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + at) + i));
    for (int i = 1; i < 4; ++i) lane[i] = moved(lane[i - 1], on_128, lane[i]);
    _mm_store_si128(reinterpret_cast<__m128i*>(rest), lane[3]);
    return at;
  }
  // What goes on from `to` as x does from where it stands.
  __attribute__((target("pclmul"))) static __m128i moved(__m128i x, __m128i factors, __m128i to) {
    return _mm_xor_si128(to,
                         _mm_xor_si128(_mm_clmulepi64_si128(x, factors, 0x00), _mm_clmulepi64_si128(x, factors, 0x11)));
  }
#endif

  uint32_t value_ = 0;
};

}  // namespace lc
