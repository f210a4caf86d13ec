// What an op is to the engine: a kernel for each dtype, and the workspace that it needs. No Python, no allocation.
#pragma once

#include <cstdint>

#include "compiler.h"
#include "pool.h"

namespace lc {

// The scalars of one run. `rows` and `offset` move within an epoch, `iteration` counts the steps of one call,
// `step` all steps of a model's life, `sample` is the first latent sample that the run draws.
struct Clock {
  int64_t rows = 0, step = 0, epoch = 0, offset = 0, iteration = 0, sample = 0;
  uint64_t seed = 0;
};

constexpr int kMaxArguments = 12, kMaxSizes = 6, kMaxOptions = 8;

// A size is a constant, or that many times the rows of the run.
struct Size {
  int64_t value = 0;
  bool times_rows = false;
  LC_INLINE int64_t at(int64_t rows) const { return times_rows ? value * rows : value; }
};

struct Run;
struct Call;
using Kernel = int (*)(const Call&, const Run&);                            // 0, or a status that ends the run
using Workspace = int64_t (*)(const Call&, int64_t capacity, int threads);  // bytes

// Ends a run: the objective is not finite; a row number lies outside the data.
constexpr int kNotFinite = 1, kOutOfRange = 2;

struct Op {
  const char* name;
  Kernel kernel32, kernel64;
  Workspace workspace32, workspace64;  // null: none
};

struct Call {
  const Op* op = nullptr;
  Kernel kernel = nullptr;
  int argument[kMaxArguments];  // indices into Run::buffer, -1 where absent
  Size size[kMaxSizes];
  double option[kMaxOptions];
};

struct Run {
  void* const* buffer;
  char* workspace;
  Clock clock;
  Team* team;

  template <class T>
  LC_INLINE T* get(const Call& call, int i) const {
    return call.argument[i] < 0 ? nullptr : static_cast<T*>(buffer[call.argument[i]]);
  }
  LC_INLINE int64_t size(const Call& call, int i) const { return call.size[i].at(clock.rows); }
};

LC_INLINE int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}
LC_INLINE int64_t divide_up(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}

// The two words of a seed, Philox's key.
struct Key {
  uint32_t word[2];
  LC_INLINE explicit Key(uint64_t seed) : word{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}
};

// Cuts a workspace into aligned pieces. The same sequence of calls with a null base counts the bytes.
class Carver {
 public:
  LC_INLINE explicit Carver(char* base) : base_(base) {}
  template <class T>
  LC_INLINE T* take(int64_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64) + 64;  // one line apart: no two streams alias
    return piece;
  }
  LC_INLINE int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// The i-th of `parts` even pieces of [0, n).
struct Span {
  int64_t begin, end;
};
LC_INLINE Span part_of(int64_t n, int64_t parts, int64_t i) {
  return {n * i / parts, n * (i + 1) / parts};
}

}  // namespace lc
