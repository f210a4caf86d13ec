#include "model_file.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

#include "crc32.h"
#include "file_plan.h"

namespace lc {
namespace {

using Kind = Json::Kind;
using Bytes = const unsigned char*;

constexpr int64_t kFormat = 1;
constexpr const char *kKey = "latentcore", *kMetadata = "__metadata__";
// What every file begins with, after eight bytes; eight hexadecimal digits follow, the checksum.
constexpr std::string_view kOpening = R"({"__metadata__":{"latentcore":"{\"crc32\": \")";
constexpr size_t kDigits = 8;
constexpr int64_t kMostElements = int64_t{1} << 60;

struct Dtype {
  Type type;
  const char *name, *code;  // here, and in a file
  int64_t bytes;
};
constexpr std::array<Dtype, 3> kDtypes = {
    {{Type::kFloat32, "float32", "F32", 4}, {Type::kFloat64, "float64", "F64", 8}, {Type::kInt64, "int64", "I64", 8}}};

const Dtype& dtype(Type type) {
  return kDtypes[static_cast<size_t>(type)];
}

// ---- the checksum ---------------------------------------------------------------------------------------------------

// The checksum is that of the whole file with its own digits as zeros.
void check_sum(Bytes data, size_t size, std::string_view head) {
  if (head.substr(0, kOpening.size()) != kOpening || head.size() < kOpening.size() + kDigits)
    throw FileError("the file is damaged: the checksum is missing");
  const size_t at = 8 + kOpening.size();
  Crc32 crc;
  crc.add(data, at);
  crc.add(reinterpret_cast<Bytes>("00000000"), kDigits);
  crc.add(data + at + kDigits, size - at - kDigits);
  const std::string_view stored = head.substr(kOpening.size(), kDigits);
  if (stored != crc.digits())
    throw FileError("the file is damaged: the checksum is " + quoted(stored) + ", the contents give '" + crc.digits() +
                    "'");
}

// ---- the layout of safetensors --------------------------------------------------------------------------------------

// Reads the entry of one tensor; `contents` are the bytes after the header. Gives where its array ends.
Tensor read_tensor(Json::Value json, std::string_view contents, size_t* begin, size_t* end) {
  Tensor tensor{std::string(json.key()), Type::kFloat32, {}, 1, nullptr};
  const std::string what = "tensor " + quoted(tensor.name);
  check_members(what, json, {"dtype", "shape", "data_offsets"});
  const std::string_view code = json.find("dtype").text();
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& d) { return code == d.code; });
  if (found == kDtypes.end())
    throw FileError(what + ": expected the dtype F32, F64 or I64, got " + json.find("dtype").shown());
  tensor.type = found->type;

  const Json::Value shape = json.find("shape"), offsets = json.find("data_offsets");
  if (!shape.is(Kind::kArray) || shape.size() > ModelFile::kMaxDimensions)
    throw FileError(what + ": expected a shape of at most 8 dimensions, got " +
                    (shape.is(Kind::kArray) ? std::to_string(shape.size()) : shape.shown()));
  for (const Json::Value dim : shape) {
    const std::optional<int64_t> size = dim.integer();
    if (!size || *size < 0 || *size > ModelFile::kMaxWidth)
      throw FileError(what + ": expected dimensions from 0 to 2147483647, got " + dim.shown());
    if (tensor.elements > kMostElements / std::max(*size, int64_t{1}))
      throw FileError(what + ": a shape of more elements than any file holds");
    tensor.elements *= *size;
    tensor.shape.push_back(*size);
  }
  std::array<std::optional<int64_t>, 2> bounds;
  size_t given = 0;
  for (const Json::Value offset : offsets) {
    if (given < bounds.size())
      bounds[given] = offset.integer();
    ++given;
  }
  const auto [from, to] = bounds;
  if (!offsets.is(Kind::kArray) || given != bounds.size() || !from || !to || *from < 0 || *to < *from ||
      static_cast<uint64_t>(*to) > contents.size())
    throw FileError(what + ": expected data_offsets within the " + std::to_string(contents.size()) + " bytes of data");
  if (tensor.elements > (*to - *from) / found->bytes || tensor.elements * found->bytes != *to - *from)
    throw FileError(what + ": its shape does not make the " + std::to_string(*to - *from) + " bytes that it is given");
  tensor.data = contents.data() + *from;
  if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(found->bytes))
    throw FileError(what + ": its data is not aligned");
  *begin = static_cast<size_t>(*from);
  *end = static_cast<size_t>(*to);
  return tensor;
}

// All tensors, in the order of their data, which must follow each other without a hole.
std::vector<Tensor> read_tensors(Json::Value header, std::string_view contents) {
  struct Placed {
    size_t begin, end;
    Tensor tensor;
  };
  std::vector<Placed> placed;
  placed.reserve(header.size());
  for (const Json::Value json : header)
    if (json.key() != kMetadata) {
      size_t begin = 0, end = 0;
      Tensor tensor = read_tensor(json, contents, &begin, &end);
      placed.push_back({begin, end, std::move(tensor)});
    }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  size_t end = 0;
  std::vector<Tensor> tensors;
  tensors.reserve(placed.size());
  for (Placed& each : placed) {
    if (each.begin != end)
      throw FileError("tensor " + quoted(each.tensor.name) + ": its data begins at " + std::to_string(each.begin) +
                      ", expected " + std::to_string(end) + ", where that of the one before ends");
    end = each.end;
    tensors.push_back(std::move(each.tensor));
  }
  if (end != contents.size())
    throw FileError("the file is damaged: its tensors take " + std::to_string(end) + " bytes of data, it has " +
                    std::to_string(contents.size()));
  return tensors;
}

// ---- what a plan reads ----------------------------------------------------------------------------------------------

// Whether none has all bits of the exponent.
template <class Word>
bool are_finite(const void* data, int64_t elements, Word exponent) {
  bool found = false;
  for (int64_t i = 0; i < elements; ++i) found |= (static_cast<const Word*>(data)[i] & exponent) == exponent;
  return !found;
}

void check_finite(const Tensor& tensor) {
  const bool fine = tensor.type == Type::kFloat64
                        ? are_finite<uint64_t>(tensor.data, tensor.elements, uint64_t{0x7ff} << 52)
                        : are_finite<uint32_t>(tensor.data, tensor.elements, uint32_t{0xff} << 23);
  if (!fine)
    throw FileError("tensor " + quoted(tensor.name) + ": expected finite numbers in " + type_name(tensor.type));
}

// The example: rows for the one input and the one output of its plan.
void read_golden(Json::Value name, const TensorIndex& index, ModelFile* file) {
  const auto named = [&](const FilePlan& plan) { return name.text() == plan.name; };
  const auto found = std::find_if(file->plans.begin(), file->plans.end(), named);
  if (found == file->plans.end() || found->outputs.size() != 1)
    throw FileError("golden: expected the name of a plan of one output, got " + name.shown());
  file->golden_plan = static_cast<int>(found - file->plans.begin());
  int64_t rows = -1;
  const auto tensor_of = [&](const char* tensor_name, int buffer_at) {
    const auto at = index.find(tensor_name);
    if (at == index.end())
      throw FileError(std::string("there is no tensor '") + tensor_name + "'");
    const Tensor& tensor = file->tensors[static_cast<size_t>(at->second)];
    const FileBuffer& buffer = found->buffers[static_cast<size_t>(buffer_at)];
    bool fits = tensor.type == buffer.type && tensor.shape.size() == buffer.shape.size() && tensor.shape[0] > 0;
    for (size_t i = 1; fits && i < buffer.shape.size(); ++i) fits = tensor.shape[i] == buffer.shape[i].value;
    if (!fits || (rows >= 0 && tensor.shape[0] != rows))
      throw FileError("tensor '" + tensor.name + "': expected rows that fit " + quoted(buffer.name) + " of plan " +
                      quoted(found->name) + ", in both of the example as many");
    rows = tensor.shape[0];
    check_finite(tensor);
    return at->second;
  };
  file->golden_input = tensor_of("golden:input", found->input);
  file->golden_output = tensor_of("golden:output", found->outputs[0]);
}

// JSON that may be anything, `what` in a message.
Json parsed(std::string_view text, const char* what) {
  try {
    return Json(text);
  } catch (const std::invalid_argument& error) {
    throw FileError(std::string(what) + " is not JSON: " + error.what());
  }
}

}  // namespace

const char* type_name(Type type) {
  return dtype(type).name;
}
int64_t type_bytes(Type type) {
  return dtype(type).bytes;
}

FileError::FileError(const std::string& what)
    : std::invalid_argument(what.size() > kMost ? what.substr(0, kMost - 3) + "..." : what) {}

int64_t ModelFile::header_bytes(const void* first, uint64_t file_bytes) {
  uint64_t length = 0;
  for (size_t i = 0; i < 8 && i < file_bytes; ++i) length |= uint64_t{static_cast<Bytes>(first)[i]} << 8 * i;
  if (length < 2 || file_bytes < 8 || length > file_bytes - 8)
    throw FileError("not a safetensors file: its " + std::to_string(file_bytes) + " bytes cannot hold a header of " +
                    std::to_string(length) + " bytes");
  if (length > static_cast<uint64_t>(kMaxHeader))
    throw FileError("expected a header of at most " + std::to_string(kMaxHeader) + " bytes, got " +
                    std::to_string(length));
  return static_cast<int64_t>(length);
}

ModelFile ModelFile::parse(const void* data, size_t size) {
  const auto length = static_cast<size_t>(header_bytes(data, size));
  const std::string_view all(static_cast<const char*>(data), size), head = all.substr(8, length);
  const Json outer = parsed(head, "not a safetensors file: its header");
  const Json::Value text = outer.root().find(kMetadata).find(kKey);
  if (!text.is(Kind::kString))
    throw FileError("not a model of latentcore: its metadata has no text 'latentcore'");

  ModelFile file{};
  file.header = text.text();
  const Json header = parsed(file.header, "the file is damaged: its description");
  const Json::Value root = header.root(), format = root.find("format"), plans = root.find("plans");
  if (format.integer() != kFormat)
    throw FileError("expected a model of format " + std::to_string(kFormat) + ", got " + format.shown());
  check_sum(static_cast<Bytes>(data), size, head);
  file.tensors = read_tensors(outer.root(), all.substr(8 + length));
  TensorIndex index;
  for (size_t i = 0; i < file.tensors.size(); ++i) index.emplace(file.tensors[i].name, static_cast<int>(i));

  if (!plans.is(Kind::kObject))
    throw FileError("plans: expected an object, got " + plans.shown());
  std::vector<bool> read(file.tensors.size());
  for (const Json::Value plan : plans) {
    file.plans.push_back(read_plan(plan, file.tensors, index));
    for (const FileBuffer& buffer : file.plans.back().buffers)
      for (const int at : {buffer.tensor, buffer.bias})
        if (at >= 0 && !read[static_cast<size_t>(at)]) {
          check_finite(file.tensors[static_cast<size_t>(at)]);
          read[static_cast<size_t>(at)] = true;
        }
  }
  read_golden(root.find("golden"), index, &file);
  return file;
}

}  // namespace lc
