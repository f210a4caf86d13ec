// The one reader of saved models: a safetensors file, and the JSON in its metadata. A file is hostile until every byte
// of it has been checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "op.h"

namespace lc {

// What is wrong with a file, named: one line of 1 to kMost printable ASCII characters.
class FileError : public std::invalid_argument {
 public:
  static constexpr size_t kMost = 240;
  explicit FileError(const std::string& what);
};

enum class Type { kFloat32, kFloat64, kInt64 };
const char* type_name(Type type);  // "float32", ...
int64_t type_bytes(Type type);

// An array in the caller's bytes, C-contiguous, aligned for its type. The numbers of one that a plan reads are finite.
struct Tensor {
  std::string name;
  Type type;
  std::vector<int64_t> shape;
  int64_t elements;  // their product
  const void* data;
};

enum class Role { kInput, kOutput, kState, kTemporary };

struct FileBuffer {
  std::string name;  // printable ASCII
  std::vector<Size> shape;
  Type type;  // kFloat32 or kFloat64
  Role role;
  // A weight is the (out, in) weight and the bias of a linear layer, of the plan's type, a state. Its tensors are
  // W.weight (out, in) and, if it is there, W.bias (out,); else W alone: (out, in), or where `in` is 0 the bias (out,).
  // W.T is the transpose of W. Any other state is the tensor of its name.
  bool is_weight;
  int tensor = -1;          // of a state: its array or its weight, an index into ModelFile::tensors; -1 where `in` is 0
  int bias = -1;            // of a weight: its bias, or -1: zeros
  bool transposed = false;  // the tensor is (in, out)
  // Of an array: it takes row_bytes * rows + fixed_bytes.
  int64_t row_bytes = 0, fixed_bytes = 0;
};

// What BoundPlan::add_call takes; arguments are indices into FilePlan::buffers, which fit each other.
struct FileCall {
  std::string op;
  std::vector<int> arguments;
  std::vector<Size> sizes;
  std::vector<double> options;
};

// A plan in which every buffer is written before it is read, and once.
struct FilePlan {
  std::string name;
  bool is_double;
  std::vector<FileBuffer> buffers;
  std::vector<FileCall> calls;
  int input;                 // the one input, (rows, ...)
  std::vector<int> outputs;  // one or more, (rows, ...)
};

struct ModelFile {
  // What a file may ask for: a header of so many bytes, arrays of so many dimensions, none wider than this, and plans
  // that take so many bytes of inputs, outputs and temporaries in a run of one row.
  static constexpr int64_t kMaxHeader = 8 << 20, kMaxWidth = (int64_t{1} << 31) - 1, kMaxRowBytes = int64_t{1} << 30;
  static constexpr size_t kMaxDimensions = 8;

  // The bytes of the header of a file of so many bytes, by its first eight (or fewer, where it has no more): to be
  // asked before a file is read into memory. Throws FileError.
  static int64_t header_bytes(const void* first, uint64_t file_bytes);

  // Checks all that is promised here. The bytes, at an address that is a multiple of 8, stay the caller's and must
  // outlive the result. Allocates at most a small multiple of the header. Throws FileError, std::bad_alloc.
  static ModelFile parse(const void* data, size_t size);

  std::string header;  // JSON: format, model, config, golden, plans, ...
  std::vector<Tensor> tensors;
  std::vector<FilePlan> plans;      // by their public names: "decode", ...
  int golden_plan;                  // the plan of one output that the file holds an example of, an index into plans
  int golden_input, golden_output;  // the example, of the same number of rows: indices into tensors
};

}  // namespace lc
