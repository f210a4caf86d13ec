// Mutations of model files: of bytes, and of what their JSON is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fuzz {

// splitmix64: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  size_t below(size_t n) { return n ? static_cast<size_t>(next() % n) : 0; }

 private:
  uint64_t state_;
};

// One to four mutations of `file`, some of which take from `other`; then, half of the time, a checksum that fits, and
// nearly always a header's length that does.
std::string mutate(const std::string& file, const std::string& other, Random* random);

}  // namespace fuzz
