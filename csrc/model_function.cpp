#include "model_function.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "signature.h"

namespace lc {
namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kMostForExample = int64_t{1} << 30;

// The array of a state in the dtype of the plan: as it lies in the file, or what `converted` then holds.
template <class T>
const T* array_of(const Tensor& tensor, std::vector<T>& converted) {
  constexpr bool is_double = sizeof(T) == sizeof(double);
  if ((tensor.type == Type::kFloat64) == is_double)
    return static_cast<const T*>(tensor.data);
  using Other = std::conditional_t<is_double, float, double>;
  const auto* from = static_cast<const Other*>(tensor.data);
  converted.resize(static_cast<size_t>(tensor.elements));
  for (int64_t i = 0; i < tensor.elements; ++i) {
    if (!is_double && std::abs(from[i]) > static_cast<Other>(std::numeric_limits<float>::max()))
      throw std::invalid_argument("expected finite numbers in float32");
    converted[static_cast<size_t>(i)] = static_cast<T>(from[i]);
  }
  return converted.data();
}

template <class T>
void copy_state(const ModelFile& file, const FileBuffer& b, Storage storage, void* to) {
  std::vector<T> converted, converted_bias;
  const auto array = [&](int tensor, std::vector<T>& space) {
    return tensor < 0 ? nullptr : array_of(file.tensors[static_cast<size_t>(tensor)], space);
  };
  const T* from = array(b.tensor, converted);
  if (!b.is_weight) {
    std::copy(from, from + file.tensors[static_cast<size_t>(b.tensor)].elements, static_cast<T*>(to));
    return;
  }
  const int64_t out = b.shape[0].value, in = b.shape[1].value;
  pack_weight(storage, from, b.transposed ? 1 : in, b.transposed ? out : 1, array(b.bias, converted_bias), out, in, to);
}

// What a buffer takes in a run of so many rows. Throws std::bad_alloc for more than `most`.
int64_t bytes_of(const FileBuffer& b, int64_t rows, int64_t most) {
  int64_t bytes;
  if (__builtin_mul_overflow(b.row_bytes, rows, &bytes) || __builtin_add_overflow(bytes, b.fixed_bytes, &bytes) ||
      bytes > most)
    throw std::bad_alloc();
  return bytes;
}

char* allocate(int64_t bytes) {
  if (bytes > physical_memory())
    throw std::bad_alloc();
  auto* p = static_cast<char*>(std::aligned_alloc(kLine, static_cast<size_t>(round_up(std::max(bytes, kLine), kLine))));
  if (!p)
    throw std::bad_alloc();
  return p;
}

// Gives a plan another dtype: to every buffer that no op wants in a dtype of its own.
void retype(FilePlan& plan, bool is_double) {
  if (plan.is_double == is_double)
    return;
  std::vector<bool> fixed(plan.buffers.size());
  for (const FileCall& call : plan.calls) {
    const Signature& signature = *find_signature(call.op);
    for (size_t i = 0; i < call.arguments.size(); ++i)
      if (call.arguments[i] >= 0 && !signature.dtype(i).empty())
        fixed[static_cast<size_t>(call.arguments[i])] = true;
  }
  for (size_t i = 0; i < plan.buffers.size(); ++i)
    if (!fixed[i]) {
      FileBuffer& b = plan.buffers[i];
      const Type to = is_double ? Type::kFloat64 : Type::kFloat32;
      b.row_bytes = b.row_bytes / type_bytes(b.type) * type_bytes(to);
      b.fixed_bytes = b.fixed_bytes / type_bytes(b.type) * type_bytes(to);
      b.type = to;
    }
  plan.is_double = is_double;
}

// Names the ops for the storage of their weights: compressed, where linear layers alone read them.
std::vector<Storage> store(FilePlan& plan, Storage storage) {
  std::vector<Storage> kept(plan.buffers.size(), storage);
  const auto is_linear = [](const FileCall& call) { return call.op == forward_op(Storage::kFull); };
  for (const FileCall& call : plan.calls)
    for (const int a : call.arguments)
      if (a >= 0 && !is_linear(call))
        kept[static_cast<size_t>(a)] = Storage::kFull;
  for (FileCall& call : plan.calls)
    if (is_linear(call))
      for (const int a : call.arguments)
        if (a >= 0 && plan.buffers[static_cast<size_t>(a)].is_weight)
          call.op = forward_op(kept[static_cast<size_t>(a)]);
  return kept;
}

}  // namespace

void Snapshot::Free::operator()(char* p) const {
  std::free(p);
}

Snapshot::Snapshot(const ModelFile& file, const FilePlan& plan, bool is_double, Storage storage)
    : plan_(plan), offsets_(plan.buffers.size()) {
  retype(plan_, is_double);
  const std::vector<Storage> kept = store(plan_, storage);
  int64_t total = 0;
  for (size_t i = 0; i < plan_.buffers.size(); ++i) {
    const FileBuffer& b = plan_.buffers[i];
    if (b.role != Role::kState)
      continue;
    for (const Size& dim : b.shape) widest_ = std::max(widest_, dim.value);
    offsets_[i] = total;
    total += round_up(b.is_weight ? weight_bytes(kept[i], is_double, b.shape[0].value, b.shape[1].value)
                                  : file.tensors[static_cast<size_t>(b.tensor)].elements * type_bytes(b.type),
                      kLine);
  }
  memory_.reset(allocate(total));
  for (size_t i = 0; i < plan_.buffers.size(); ++i) {
    const FileBuffer& b = plan_.buffers[i];
    if (b.role != Role::kState)
      continue;
    try {
      b.type == Type::kFloat64 ? copy_state<double>(file, b, kept[i], state(i))
                               : copy_state<float>(file, b, kept[i], state(i));
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("weights: " + b.name + ": " + error.what());
    }
  }
}

ModelFunction::ModelFunction(std::shared_ptr<const Snapshot> snapshot, const char* instruction_set, int64_t batch,
                             int threads, int64_t most)
    : snapshot_(std::move(snapshot)), bound_(instruction_set, plan().is_double, batch, threads) {
  for (size_t i = 0; i < plan().buffers.size(); ++i) {
    const FileBuffer& b = plan().buffers[i];
    if (b.role == Role::kState) {
      bound_.add_held(snapshot_->state(i));
      continue;
    }
    const int64_t bytes = bytes_of(b, batch, most);
    most -= bytes;
    b.role == Role::kTemporary ? bound_.add_temporary(bytes) : bound_.add_external();
  }
  for (const FileCall& call : plan().calls) bound_.add_call(call.op, call.arguments, call.sizes, call.options);
  bound_.finish();
  warm_up();
}

ModelFunction::ModelFunction(const ModelFunction& other) : snapshot_(other.snapshot_), bound_(other.bound_) {
  warm_up();
}

void ModelFunction::warm_up() {
  std::vector<std::pair<int, int64_t>> external;
  const auto add = [&](int buffer) {
    const FileBuffer& b = plan().buffers[static_cast<size_t>(buffer)];
    external.emplace_back(buffer, b.row_bytes * batch() + b.fixed_bytes);
  };
  add(plan().input);
  for (const int output : plan().outputs) add(output);
  bound_.warm_up(batch(), external);
}

ModelFunction::Outcome ModelFunction::run(int64_t rows, const void* input, void* const* outputs) {
  const BoundPlan::Hold hold(bound_, std::nothrow);
  if (!hold)
    return Outcome::kBusy;
  bound_.set_buffer(plan().input, const_cast<void*>(input));
  for (size_t i = 0; i < plan().outputs.size(); ++i) bound_.set_buffer(plan().outputs[i], outputs[i]);
  Clock clock;
  clock.rows = rows;
  return bound_.run(clock) ? Outcome::kFailed : Outcome::kDone;
}

namespace {

template <class T>
void compare(const Tensor& stored, const std::vector<char>& made, int64_t widest) {
  const auto* want = static_cast<const T*>(stored.data);
  const auto* got = reinterpret_cast<const T*>(made.data());
  double scale = 0, worst = 0;
  for (int64_t i = 0; i < stored.elements; ++i) {
    const double apart = std::abs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    scale = std::max(scale, std::abs(static_cast<double>(got[i])));
    if (!(apart <= worst))
      worst = std::isnan(apart) ? std::numeric_limits<double>::infinity() : apart;
  }
  const double tolerance = 100 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                           std::sqrt(static_cast<double>(widest)) * (scale + 1);
  if (worst > tolerance || std::isinf(worst)) {
    char text[120];
    std::snprintf(text, sizeof text, "golden:output: the weights miss it by %.2g, at most %.2g is rounding", worst,
                  tolerance);
    throw FileError(text);
  }
}

}  // namespace

void check_example(const ModelFile& file) {
  const FilePlan& plan = file.plans[static_cast<size_t>(file.golden_plan)];
  const Tensor& given = file.tensors[static_cast<size_t>(file.golden_input)];
  const Tensor& stored = file.tensors[static_cast<size_t>(file.golden_output)];
  const auto snapshot = std::make_shared<const Snapshot>(file, plan, plan.is_double, Storage::kFull);
  const int64_t rows = given.shape[0];
  ModelFunction function(snapshot, "auto", std::max<int64_t>(rows, 1), 1, kMostForExample);
  std::vector<char> made(static_cast<size_t>(stored.elements * type_bytes(stored.type)));
  void* const outputs[] = {made.data()};
  function.run(rows, given.data, outputs);
  stored.type == Type::kFloat64 ? compare<double>(stored, made, snapshot->widest())
                                : compare<float>(stored, made, snapshot->widest());
}

int64_t physical_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

}  // namespace lc
