// One execution of the fuzzer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuzz {

// What the inputs so far were: parsed without an error, opened (the example reproduced), functions bound and run.
struct Counts {
  int64_t runs = 0, sound = 0, opened = 0, bound = 0;
};
extern Counts counts;

void run_one(const uint8_t* data, size_t size);

}  // namespace fuzz
