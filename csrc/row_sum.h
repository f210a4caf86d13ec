// A sum of many lanes of T in a fixed shape: short runs in T, joined in double.
#pragma once

#include "simd.h"

namespace lc {
namespace LC_ISA {

template <class T>
class RowSum {
 public:
  LC_INLINE void add(Vec<T> v) {
    run_ += v;
    if (++length_ == kRun)
      flush();
  }
  LC_INLINE double total() {
    flush();
    return total_;
  }

 private:
  static constexpr int kRun = 32;
  LC_INLINE void flush() {
    double sum = 0;
    for (int i = 0; i < kLanes<T>; ++i) sum += static_cast<double>(run_[i]);
    total_ += sum;
    run_ = Vec<T>{};
    length_ = 0;
  }
  Vec<T> run_ = {};
  int length_ = 0;
  double total_ = 0;
};

// Rows that one task of an elementwise op takes, so that it is worth a hand-over.
LC_INLINE int64_t rows_a_task(int64_t features) {
  return features >= 4096 ? 1 : 4096 / (features > 0 ? features : 1) + 1;
}

}  // namespace LC_ISA
}  // namespace lc
