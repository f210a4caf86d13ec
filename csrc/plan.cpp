#include "plan.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lc {
namespace {

constexpr int64_t kMaxArena = int64_t{1} << 46, kHugePage = 2 << 20;

}  // namespace

BoundPlan::Hold::Hold(BoundPlan& plan) : Hold(plan, std::nothrow) {
  if (!*this)
    throw std::runtime_error("this plan is running in another thread: give each thread a clone of its own");
}

void BoundPlan::Free::operator()(char* p) const {
  std::free(p);
}

BoundPlan::BoundPlan(const std::string& set, bool is_double, int64_t capacity, int threads)
    : set_(instruction_set(set.c_str())), is_double_(is_double), capacity_(capacity), threads_(threads) {
  if (!set_)
    throw std::invalid_argument("instruction_set: '" + set + "' is not available on this processor");
  if (capacity < 1)
    throw std::invalid_argument("capacity: expected at least 1 row, got " + std::to_string(capacity));
  if (threads < 1)
    throw std::invalid_argument("threads: expected at least 1, got " + std::to_string(threads));
}

BoundPlan::BoundPlan(const BoundPlan& other)
    : set_(other.set_),
      is_double_(other.is_double_),
      capacity_(other.capacity_),
      threads_(other.threads_),
      calls_(other.calls_),
      buffers_(other.buffers_.size()),
      places_(other.places_),
      arena_bytes_(other.arena_bytes_),
      workspace_at_(other.workspace_at_) {
  for (size_t i = 0; i < buffers_.size(); ++i)
    if (places_[i] == kHeld)
      buffers_[i] = other.buffers_[i];
  allocate();
}

int BoundPlan::add_buffer(int64_t place, void* data) {
  places_.push_back(place);
  buffers_.push_back(data);
  return static_cast<int>(buffers_.size()) - 1;
}

int BoundPlan::add_temporary(int64_t bytes) {
  if (bytes < 0 || bytes > kMaxArena - arena_bytes_)
    throw std::bad_alloc();
  const int64_t place = arena_bytes_;
  arena_bytes_ += round_up(bytes, 64) + 64;  // one line apart: no two streams alias
  return add_buffer(place, nullptr);
}

int BoundPlan::add_held(void* data) {
  return add_buffer(kHeld, data);
}

int BoundPlan::add_external() {
  return add_buffer(kExternal, nullptr);
}

void BoundPlan::add_call(const std::string& op, const std::vector<int>& arguments, const std::vector<Size>& sizes,
                         const std::vector<double>& options) {
  Call call;
  call.op = find_op(*set_, op.c_str());
  if (!call.op)
    throw std::invalid_argument("op: '" + op + "' is unknown");
  if (arguments.size() > kMaxArguments || sizes.size() > kMaxSizes || options.size() > kMaxOptions)
    throw std::invalid_argument("op: '" + op + "' has too many arguments, sizes or options");
  for (const int a : arguments)
    if (a < -1 || a >= static_cast<int>(buffers_.size()))
      throw std::invalid_argument("op: '" + op + "' names no buffer");
  std::fill(std::copy(arguments.begin(), arguments.end(), call.argument), call.argument + kMaxArguments, -1);
  std::copy(sizes.begin(), sizes.end(), call.size);
  std::fill(std::copy(options.begin(), options.end(), call.option), call.option + kMaxOptions, 0.0);
  call.kernel = is_double_ ? call.op->kernel64 : call.op->kernel32;
  if (!call.kernel)
    throw std::invalid_argument("op: '" + op + "' computes in floats alone");
  calls_.push_back(call);
}

void BoundPlan::finish() {
  int64_t most = 0;
  for (const Call& call : calls_) {
    const Workspace space = is_double_ ? call.op->workspace64 : call.op->workspace32;
    if (space)
      most = std::max(most, space(call, capacity_, threads_));
  }
  if (most > kMaxArena - arena_bytes_)
    throw std::bad_alloc();
  workspace_at_ = arena_bytes_;
  arena_bytes_ += most;
  arena_bytes_ = arena_bytes_ < kHugePage ? round_up(arena_bytes_, 64) + 64 : round_up(arena_bytes_, kHugePage);
  allocate();
}

void BoundPlan::allocate() {
  const int64_t page = arena_bytes_ < kHugePage ? 64 : kHugePage;
  arena_.reset(static_cast<char*>(std::aligned_alloc(static_cast<size_t>(page), static_cast<size_t>(arena_bytes_))));
  if (!arena_)
    throw std::bad_alloc();
#if defined(__linux__)
  if (page == kHugePage)
    madvise(arena_.get(), static_cast<size_t>(arena_bytes_), MADV_HUGEPAGE);  // advice: may be refused
#endif
  for (size_t i = 0; i < buffers_.size(); ++i)
    if (places_[i] >= 0)
      buffers_[i] = arena_.get() + places_[i];
}

int BoundPlan::pass(const Clock& clock, Team& team) {
  const Run run{buffers_.data(), arena_.get() + workspace_at_, clock, &team};
  for (const Call& call : calls_)
    if (const int status = call.kernel(call, run)) {
      failed_ = call.op->name;
      return status;
    }
  return 0;
}

int BoundPlan::run(const Clock& clock) {
  if (clock.rows < 0 || clock.rows > capacity_)
    throw std::invalid_argument("rows: expected at most " + std::to_string(capacity_) + ", got " +
                                std::to_string(clock.rows));
  const FlushDenormals flush;
  Team team(threads_);
  return pass(clock, team);
}

void BoundPlan::warm_up(int64_t rows, const std::vector<std::pair<int, int64_t>>& external) {
  const Hold hold(*this);
  std::vector<std::vector<char>> zeros;
  for (const auto& [buffer, bytes] : external)
    set_buffer(buffer, zeros.emplace_back(static_cast<size_t>(bytes)).data());
  Clock clock;
  clock.rows = rows;
  if (run(clock))
    throw std::runtime_error(std::string(failed_) + ": a run over zeros failed");
}

int BoundPlan::train(Clock clock, Epochs epochs, int64_t steps, Progress* progress) {
  if (epochs.batch < 1 || epochs.batch > capacity_ || epochs.rows < 1 || progress->offset < 0 ||
      progress->offset >= epochs.rows)
    throw std::invalid_argument("batch: expected 1 to " + std::to_string(capacity_) + " rows within the data, got " +
                                std::to_string(epochs.batch) + " of " + std::to_string(epochs.rows));
  const FlushDenormals flush;
  Team team(threads_);
  for (clock.iteration = 0; clock.iteration < steps; ++clock.iteration) {
    clock.step = progress->step;
    clock.epoch = progress->epoch;
    clock.offset = progress->offset;
    clock.rows = std::min(epochs.batch, epochs.rows - clock.offset);
    if (const int status = pass(clock, team))
      return status;
    const bool last = clock.offset + clock.rows >= epochs.rows;
    *progress = {clock.step + 1, clock.epoch + last, last ? 0 : clock.offset + clock.rows};
  }
  return 0;
}

}  // namespace lc
