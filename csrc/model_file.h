// The one reader of saved models: a safetensors file and the JSON in its metadata. A file is hostile until every byte
// of it has been checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "op.h"

namespace lc {

// What is wrong with a file, named: one line of printable UTF-8, from 1 to kMost bytes.
class FileError : public std::runtime_error {
 public:
  static constexpr size_t kMost = 240;
  explicit FileError(const std::string& what);
};

enum class Type { kFloat32, kFloat64, kInt64 };
const char* type_name(Type type);  // "float32", ...
int64_t type_bytes(Type type);

// An array in the caller's bytes, C-contiguous, aligned for its type; of finite numbers where a plan reads it.
struct Tensor {
  std::string name;
  Type type;
  std::vector<int64_t> shape;
  int64_t elements;  // their product
  const void* data;
};

enum class Role { kInput, kOutput, kState, kTemporary };

struct FileBuffer {
  std::string name;
  std::vector<Size> shape;  // of a weight (out, in), of an input or an output (rows, ...) or (rows,)
  Type type;                // kFloat32 or kFloat64
  Role role;
  bool is_weight;   // a linear layer's weight and bias, packed by pack_weight; its type is the plan's, its role kState
  int tensor = -1;  // of a state: where in ModelFile::tensors its array, or the weight (out, in), is; -1: `in` is 0
  int bias = -1;    // of a weight: the bias (out,), or -1: zeros
  int64_t row_bytes;  // of any other buffer: its bytes are row_bytes * rows + fixed_bytes
  int64_t fixed_bytes;
};

// What BoundPlan::add_call takes; arguments index FilePlan::buffers.
struct FileCall {
  std::string op;
  std::vector<int> arguments;
  std::vector<Size> sizes;
  std::vector<double> options;
};

struct FilePlan {
  std::string name;
  bool is_double;
  std::vector<FileBuffer> buffers;
  std::vector<FileCall> calls;
  int input;                 // the one input
  std::vector<int> outputs;  // one or more; a call of a later run reads nothing that none before has written
};

struct ModelFile {
  // What a file may ask for. A run of one row needs at most kMaxRowBytes of temporaries, inputs and outputs.
  static constexpr int64_t kMaxHeader = 8 << 20, kMaxWidth = int64_t{1} << 31, kMaxRowBytes = int64_t{1} << 34;
  static constexpr size_t kMaxPlans = 16, kMaxTensors = 16384, kMaxBuffers = 4096, kMaxCalls = 4096;

  // Checks everything that this header promises. The bytes, whose address must be a multiple of 8, stay the caller's
  // and must outlive the result. Allocates at most a small multiple of the header's length. Throws FileError;
  // std::bad_alloc.
  static ModelFile parse(const void* data, size_t size);

  std::string header;  // JSON text: format, model, config, plans, ...
  std::vector<Tensor> tensors;
  std::vector<FilePlan> plans;                   // by their public names: "decode", ...
  int golden_plan;                               // the plan that an example is held of: index into plans,
  int golden_input, golden_output;               // and of its arrays of the same number of rows: indices into tensors
  const FilePlan* find(const char* name) const;  // null: there is none of that name
};

}  // namespace lc
