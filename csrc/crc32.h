// The checksum of model files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace lc {

// CRC-32 as in zlib, eight bytes at a time: table[k][b] is what byte b does with k bytes after it.
class Crc32 {
 public:
  void add(const unsigned char* data, size_t size) {
    static const Table table;
    uint32_t c = ~value_;
    for (; size >= 8; data += 8, size -= 8) {
      const uint32_t low = c ^ word(data), high = word(data + 4);
      c = 0;
      for (int k = 0; k < 4; ++k) c ^= table.at[7 - k][low >> 8 * k & 255] ^ table.at[3 - k][high >> 8 * k & 255];
    }
    for (; size; ++data, --size) c = c >> 8 ^ table.at[0][(c ^ *data) & 255];
    value_ = ~c;
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
  };
  static uint32_t word(const unsigned char* p) {
    return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 | static_cast<uint32_t>(p[2]) << 16 |
           static_cast<uint32_t>(p[3]) << 24;
  }
  uint32_t value_ = 0;
};

}  // namespace lc
