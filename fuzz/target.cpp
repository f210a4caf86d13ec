// What one input does: it is parsed; what is sound is bound, in every storage, and run; all of it is opened as an
// embedder would. A broken promise ends the process.
#include "target.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "latentcore.h"
#include "model_file.h"
#include "model_function.h"
#include "mutate.h"

namespace fuzz {
namespace {

constexpr int64_t kMost = 1 << 26;    // bytes that a bound function may take
constexpr std::clock_t kSeconds = 2;  // of the processor, that an input may take

#define PROMISE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

bool is_told(const std::string& message) {
  for (const char c : message)
    if (c < 0x20 || c > 0x7e)
      return false;
  return !message.empty() && message.size() <= lc::FileError::kMost;
}

// Bytes on the heap, exactly so many, at an address that doubles may have.
struct Heap {
  explicit Heap(size_t size) : data(static_cast<char*>(std::malloc(size ? size : 1)), &std::free) { PROMISE(data); }
  std::unique_ptr<char, decltype(&std::free)> data;
};

void run(lc::ModelFunction* function, int64_t rows) {
  const lc::FilePlan& plan = function->plan();
  const auto heap_of = [&](int buffer) {
    const auto bytes = static_cast<size_t>(plan.buffers[static_cast<size_t>(buffer)].row_bytes * rows);
    Heap heap(bytes);
    std::memset(heap.data.get(), 0, bytes);
    return heap;
  };
  const Heap input = heap_of(plan.input);
  std::vector<Heap> heaps;
  std::vector<void*> outputs;
  for (const int output : plan.outputs) {
    heaps.push_back(heap_of(output));
    outputs.push_back(heaps.back().data.get());
  }
  PROMISE(function->run(rows, input.data.get(), outputs.data()) != lc::ModelFunction::Outcome::kBusy);
}

void bind(const lc::ModelFile& file, const lc::FilePlan& plan, bool is_double, lc::Storage storage) {
  try {
    const auto snapshot = std::make_shared<const lc::Snapshot>(file, plan, is_double, storage);
    lc::ModelFunction function(snapshot, "auto", 3, 1, kMost);
    for (const int64_t rows : {3, 1, 0}) run(&function, rows);
    ++counts.bound;
  } catch (const std::invalid_argument& error) {
    PROMISE(is_told(error.what()));
  } catch (const std::bad_alloc&) {
  }
}

void open(const void* data, size_t size, bool sound) {
  lc_model* model = nullptr;
  lc_error error;
  const lc_status status = lc_model_open_memory(data, size, &model, &error);
  PROMISE(status == error.status && (status == LC_OK) == (model != nullptr));
  PROMISE(status == LC_OK ? sound && !*error.message : is_told(error.message));
  counts.opened += status == LC_OK;
  lc_model_free(model);
}

}  // namespace

Counts counts;

void run_one(const uint8_t* data, size_t size) {
  const std::clock_t begun = std::clock();
  const Heap copy(size);
  if (size)
    std::memcpy(copy.data.get(), data, size);
  bool sound = false;
  try {
    const lc::ModelFile file = lc::ModelFile::parse(copy.data.get(), size);
    sound = true;
    for (const lc::FilePlan& plan : file.plans) {
      bind(file, plan, plan.is_double, lc::Storage::kFull);
      bind(file, plan, !plan.is_double, lc::Storage::kFull);
      for (const lc::Compressed& each : lc::kCompressed) bind(file, plan, false, each.storage);
    }
  } catch (const lc::FileError& error) {
    PROMISE(is_told(error.what()));
  }
  counts.sound += sound;
  if (sound || counts.runs % 16 == 0)  // which parses once more
    open(copy.data.get(), size, sound);
  ++counts.runs;
  PROMISE(std::clock() - begun < kSeconds * CLOCKS_PER_SEC);
}

}  // namespace fuzz

// Where the compiler brings libFuzzer, it calls these.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::run_one(data, size);
  return 0;
}
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  fuzz::Random random(seed);
  const std::string file(reinterpret_cast<const char*>(data), size), made = fuzz::mutate(file, file, &random);
  const size_t kept = made.size() < most ? made.size() : most;
  std::memcpy(data, made.data(), kept);
  return kept;
}
