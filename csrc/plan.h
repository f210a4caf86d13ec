// A plan bound to the CPU: resolved kernels over one arena. Running it allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernels.h"

namespace lc {

// Where an epoch stands: minibatches of `batch` rows of a data set of `rows` rows, the last one smaller.
struct Epochs {
  int64_t rows, batch;
};

// Where a training run stands.
struct Progress {
  int64_t step, epoch, offset;
};

class BoundPlan {
 public:
  // Holds a plan from the setting of its buffers to the end of its run. If another thread does, the two would share a
  // workspace: throws std::runtime_error, or with std::nothrow holds nothing.
  class Hold {
   public:
    explicit Hold(BoundPlan& plan);
    Hold(BoundPlan& plan, std::nothrow_t) noexcept
        : flag_(plan.busy_.test_and_set(std::memory_order_acquire) ? nullptr : &plan.busy_) {}
    ~Hold() {
      if (flag_)
        flag_->clear(std::memory_order_release);
    }
    explicit operator bool() const { return flag_; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    std::atomic_flag* flag_;
  };

  // Throws std::invalid_argument for a set that cannot run here.
  BoundPlan(const std::string& set, bool is_double, int64_t capacity, int threads);
  // A finished plan again, with an arena of its own; what it holds, both hold. The other may be running.
  BoundPlan(const BoundPlan& other);
  BoundPlan& operator=(const BoundPlan&) = delete;

  // A buffer of the arena; returns its index. Throws std::bad_alloc when the arena would be too large.
  int add_temporary(int64_t bytes);
  // A buffer that the caller owns, the same for all runs.
  int add_held(void* data);
  // A buffer that the caller owns; given by set_buffer before a run.
  int add_external();
  // Throws std::invalid_argument for an unknown op or an index out of range.
  void add_call(const std::string& op, const std::vector<int>& arguments, const std::vector<Size>& sizes,
                const std::vector<double>& options);
  // Lays out the arena; no buffer or call is added afterwards.
  void finish();

  void set_buffer(int index, void* data) { buffers_[static_cast<size_t>(index)] = data; }
  size_t buffer_count() const { return buffers_.size(); }

  // A run over zeros, which maps pages and starts threads so that the first call need not. external: what the caller is
  // to give, and its bytes. Throws std::runtime_error if it fails.
  void warm_up(int64_t rows, const std::vector<std::pair<int, int64_t>>& external);

  // Both need the plan held.
  // One pass; 0, or the status of the call that ended it. Throws std::invalid_argument for rows beyond the capacity.
  int run(const Clock& clock);
  // `steps` passes over successive minibatches; returns as run does. Every whole step moves `progress` on, so that it
  // fits the weights whenever the run ends.
  int train(Clock clock, Epochs epochs, int64_t steps, Progress* progress);

  const InstructionSet& set() const { return *set_; }
  int64_t capacity() const { return capacity_; }
  int threads() const { return threads_; }
  int64_t arena_bytes() const { return arena_bytes_; }
  const char* failed_op() const { return failed_; }

 private:
  struct Free {
    void operator()(char* p) const;
  };
  static constexpr int64_t kHeld = -1, kExternal = -2;
  int add_buffer(int64_t place, void* data);
  void allocate();
  int pass(const Clock& clock, Team& team);

  const InstructionSet* set_;
  bool is_double_;
  int64_t capacity_;
  int threads_;
  std::vector<Call> calls_;
  std::vector<void*> buffers_;
  std::vector<int64_t> places_;  // offsets into the arena, or kHeld, or kExternal
  int64_t arena_bytes_ = 0, workspace_at_ = 0;
  std::unique_ptr<char, Free> arena_;
  const char* failed_ = "";
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace lc
