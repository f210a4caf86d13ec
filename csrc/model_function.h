// A function of a model file, bound for calls that cannot wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model_file.h"
#include "plan.h"
#include "weights.h"

namespace lc {

// The states of a plan as the kernels of one instruction set read them; it needs the file no longer. Clones share it.
class Snapshot {
 public:
  // Computes in doubles or in floats, whatever the file holds. Throws std::invalid_argument for a storage that the
  // dtype does not have and for weights beyond the range of floats; std::bad_alloc.
  Snapshot(const ModelFile& file, const FilePlan& plan, bool is_double, Storage storage);

  const FilePlan& plan() const { return plan_; }  // of the dtype asked for, its ops named for the storage
  void* state(size_t buffer) const { return memory_.get() + offsets_[buffer]; }
  int64_t widest() const { return widest_; }  // the largest dimension of a state

 private:
  struct Free {
    void operator()(char* p) const;
  };
  FilePlan plan_;
  std::vector<int64_t> offsets_;
  int64_t widest_ = 1;
  std::unique_ptr<char, Free> memory_;
};

class ModelFunction {
 public:
  // Lays out and touches the memory of its runs and starts their threads. Throws as BoundPlan does; std::bad_alloc
  // where it would take more than `most` bytes beside its weights.
  ModelFunction(std::shared_ptr<const Snapshot> snapshot, const char* instruction_set, int64_t batch, int threads,
                int64_t most);
  // The same function again over the same weights. The other may be running.
  ModelFunction(const ModelFunction& other);
  ModelFunction& operator=(const ModelFunction&) = delete;

  enum class Outcome { kDone, kBusy, kFailed };
  // Up to `batch` rows. outputs: one for each of the plan's. One run at a time; another meanwhile returns kBusy. Throws
  // std::system_error if a thread is needed that cannot be started.
  Outcome run(int64_t rows, const void* input, void* const* outputs);

  const FilePlan& plan() const { return snapshot_->plan(); }
  const char* instruction_set() const { return bound_.set().name; }
  int64_t batch() const { return bound_.capacity(); }

 private:
  void warm_up();

  std::shared_ptr<const Snapshot> snapshot_;
  BoundPlan bound_;
};

// Throws FileError unless the weights make of the file's example the output that is stored with it, up to rounding.
void check_example(const ModelFile& file);

// What this machine has, in bytes.
int64_t physical_memory();

}  // namespace lc
