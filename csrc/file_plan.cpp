#include "file_plan.h"

#include <algorithm>
#include <array>

#include "signature.h"

namespace lc {
namespace {

using Kind = Json::Kind;

bool is_plain(std::string_view text, size_t most) {
  return !text.empty() && text.size() <= most &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// Reads a plan; every error names it.
class Reader {
 public:
  Reader(Json::Value plan, const std::vector<Tensor>& tensors, const TensorIndex& index)
      : json_(plan), tensors_(tensors), tensor_index_(index), where_("plan " + quoted(plan.key())) {}

  FilePlan read() {
    check_members(where_, json_, {"name", "dtype", "buffers", "calls"});
    plan_.name = json_.key();
    if (!is_plain(plan_.name, kMaxName) || json_.find("name").text() != plan_.name)
      fail("name: expected its name in the list of plans, at most 64 printable characters, got " +
           json_.find("name").shown());
    plan_.is_double = real_type(json_.find("dtype"), where_) == Type::kFloat64;
    read_buffers();
    read_calls();
    return std::move(plan_);
  }

 private:
  static constexpr size_t kMaxName = 64;

  [[noreturn]] void fail(const std::string& what) const { throw FileError(where_ + ": " + what); }

  Json::Value list(const char* name) const {
    const Json::Value found = json_.find(name);
    if (!found.is(Kind::kArray))
      fail(std::string(name) + ": expected an array, got " + found.shown());
    return found;
  }

  Type real_type(Json::Value value, const std::string& what) const {
    for (const Type type : {Type::kFloat32, Type::kFloat64})
      if (value.text() == type_name(type))
        return type;
    throw FileError(what + ": dtype: expected 'float32' or 'float64', got " + value.shown());
  }

  // ---- buffers ------------------------------------------------------------------------------------------------------

  void read_buffers() {
    int64_t bytes = 0;
    int inputs = 0;
    for (const Json::Value json : list("buffers")) {
      const FileBuffer& buffer = plan_.buffers.emplace_back(read_buffer(json));
      const int at = static_cast<int>(plan_.buffers.size()) - 1;
      if (!index_.emplace(buffer.name, at).second)
        fail("the buffer " + quoted(buffer.name) + " is given twice");
      if (buffer.role != Role::kState)
        bytes += buffer.row_bytes + buffer.fixed_bytes;
      if (bytes > ModelFile::kMaxRowBytes)
        fail("a run of one row would take more than " + std::to_string(ModelFile::kMaxRowBytes) + " bytes");
      if (buffer.role == Role::kInput) {
        plan_.input = at;
        ++inputs;
      } else if (buffer.role == Role::kOutput) {
        plan_.outputs.push_back(at);
      }
    }
    if (inputs != 1 || plan_.outputs.empty())
      fail("expected one input and one output or more, got " + std::to_string(inputs) + " and " +
           std::to_string(plan_.outputs.size()));
  }

  FileBuffer read_buffer(Json::Value json) {
    const std::string_view name = json.find("name").text();
    const std::string what =
        where_ + ": buffer " + (name.empty() ? std::to_string(plan_.buffers.size()) : quoted(name));
    check_members(what, json, {"name", "shape", "dtype", "role", "layout"});
    const auto expect = [&](bool fine, const char* expected, const std::string& got) {
      if (!fine)
        throw FileError(what + ": expected " + expected + ", got " + got);
    };
    // Names come from the widths and names of layers: plain, and never long.
    const Json::Value layout = json.find("layout"), role = json.find("role");
    expect(is_plain(name, 2 * kMaxName), "a name of at most 128 printable characters", json.find("name").shown());
    expect(layout.text() == "array" || layout.text() == "weight", "the layout 'array' or 'weight'", layout.shown());
    static constexpr std::array<const char*, 4> kRoles = {"input", "output", "state", "temporary"};
    const auto found = std::find(kRoles.begin(), kRoles.end(), role.text());
    expect(found != kRoles.end(), "the role 'input', 'output', 'state' or 'temporary'", role.shown());

    FileBuffer buffer{};
    buffer.name = name;
    buffer.role = static_cast<Role>(found - kRoles.begin());
    buffer.is_weight = layout.text() == "weight";
    buffer.tensor = buffer.bias = -1;
    buffer.type = real_type(json.find("dtype"), what);
    const Json::Value shape = json.find("shape");
    expect(shape.is(Kind::kArray) && shape.size() >= 1 && shape.size() <= ModelFile::kMaxDimensions,
           "a shape of 1 to 8 dimensions", shape.is(Kind::kArray) ? std::to_string(shape.size()) : shape.shown());
    int64_t elements = 1;  // of one row; one too many stands for all that are too many
    for (const Json::Value dim : shape) {
      const std::optional<Size> size = read_dim(dim);
      expect(size && !(size->times_rows && !buffer.shape.empty()),
             "dimensions from 1 to 2147483647, of which the first may be 'rows' or 'c*rows'", dim.shown());
      elements = std::min(elements * size->value, ModelFile::kMaxRowBytes + 1);
      buffer.shape.push_back(*size);
    }
    const Size first = buffer.shape[0];
    if (buffer.is_weight) {
      expect(buffer.role == Role::kState && buffer.shape.size() == 2 && !first.times_rows && first.value > 0 &&
                 (buffer.type == Type::kFloat64) == plan_.is_double,
             "a weight (out, in) to be a state of the plan's dtype", shape_text(buffer));
    } else {
      for (const Size& size : buffer.shape) expect(size.value > 0, "no dimension of 0", shape_text(buffer));
    }
    if (buffer.role == Role::kState) {
      expect(!first.times_rows, "a state that does not depend on the rows", shape_text(buffer));
      find_tensors(&buffer, what);
      if (!buffer.is_weight)
        buffer.fixed_bytes = tensors_[static_cast<size_t>(buffer.tensor)].elements * type_bytes(buffer.type);
      return buffer;
    }
    if (buffer.role != Role::kTemporary)
      expect(first.times_rows && first.value == 1, "an input or output with 'rows' first", shape_text(buffer));
    expect(elements <= ModelFile::kMaxRowBytes, "at most 2^30 elements a row", shape_text(buffer));
    (first.times_rows ? buffer.row_bytes : buffer.fixed_bytes) = elements * type_bytes(buffer.type);
    return buffer;
  }

  static std::optional<Size> read_dim(Json::Value dim) {
    if (const std::optional<int64_t> value = dim.integer())
      return *value < 0 || *value > ModelFile::kMaxWidth ? std::nullopt : std::optional<Size>({*value, false});
    std::string_view text = dim.text();
    if (text == "rows")
      return Size{1, true};
    constexpr std::string_view kEnd = "*rows";
    if (text.size() <= kEnd.size() || text.size() > kEnd.size() + 10 || text.substr(text.size() - kEnd.size()) != kEnd)
      return std::nullopt;
    text.remove_suffix(kEnd.size());
    int64_t times = 0;
    for (const char c : text) {
      if (c < '0' || c > '9')
        return std::nullopt;
      times = times * 10 + (c - '0');
    }
    return text[0] == '0' || times < 2 || times > ModelFile::kMaxWidth ? std::nullopt
                                                                       : std::optional<Size>({times, true});
  }

  static std::string shape_text(const FileBuffer& buffer) {
    std::string text;
    for (const Size& size : buffer.shape)
      text += (text.empty() ? "(" : ", ") + std::to_string(size.value) + (size.times_rows ? "*rows" : "");
    return type_name(buffer.type) + (" " + text) + ")";
  }

  // ---- states -------------------------------------------------------------------------------------------------------

  int find(const std::string& name) const {
    const auto found = tensor_index_.find(name);
    return found == tensor_index_.end() ? -1 : found->second;
  }

  void find_tensors(FileBuffer* buffer, const std::string& what) const {
    std::vector<int64_t> shape;
    for (const Size& size : buffer->shape) shape.push_back(size.value);
    if (!buffer->is_weight) {
      buffer->tensor = find(buffer->name);
      return check_tensor(buffer->tensor, buffer->name, buffer->type, shape, what);
    }
    std::string name = buffer->name;
    buffer->transposed = name.size() > 2 && name.compare(name.size() - 2, 2, ".T") == 0;
    if (buffer->transposed) {
      name.resize(name.size() - 2);
      std::swap(shape[0], shape[1]);
    }
    buffer->tensor = find(name + ".weight");
    if (buffer->tensor >= 0) {
      buffer->bias = buffer->transposed ? -1 : find(name + ".bias");
      name += ".weight";
    } else if (shape[1] == 0) {
      buffer->bias = find(name);
      return check_tensor(buffer->bias, name, buffer->type, {shape[0]}, what);
    } else {
      buffer->tensor = find(name);
    }
    check_tensor(buffer->tensor, name, buffer->type, shape, what);
    if (buffer->bias >= 0)
      check_tensor(buffer->bias, buffer->name + ".bias", buffer->type, {shape[0]}, what);
  }

  void check_tensor(int at, const std::string& name, Type type, const std::vector<int64_t>& shape,
                    const std::string& what) const {
    if (at < 0)
      throw FileError(what + ": there is no tensor " + quoted(name));
    const Tensor& tensor = tensors_[static_cast<size_t>(at)];
    if (tensor.type != type || tensor.shape != shape)
      throw FileError("tensor " + quoted(name) + ": expected " + tensor_text(type, shape) + ", as " + where_ +
                      " has it, got " + tensor_text(tensor.type, tensor.shape));
  }

  static std::string tensor_text(Type type, const std::vector<int64_t>& shape) {
    std::string text;
    for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
    return type_name(type) + (" (" + text) + ")";
  }

  // ---- calls --------------------------------------------------------------------------------------------------------

  void read_calls() {
    written_.resize(plan_.buffers.size());
    for (const Json::Value json : list("calls")) {
      std::string what = where_ + ": call " + std::to_string(plan_.calls.size());
      check_members(what, json, {"op", "arguments", "options"});
      const Signature* signature = find_signature(json.find("op").text());
      if (!signature)
        throw FileError(what + ": the op " + json.find("op").shown() + " is unknown");
      what = what + ", " + signature->op;
      try {
        plan_.calls.push_back(read_call(*signature, json));
      } catch (const std::invalid_argument& error) {
        throw FileError(what + ": " + error.what());
      }
    }
    for (const int output : plan_.outputs)
      if (!written_[static_cast<size_t>(output)])
        fail("no call writes the output " + quoted(plan_.buffers[static_cast<size_t>(output)].name));
  }

  // Throws std::invalid_argument.
  FileCall read_call(const Signature& signature, Json::Value json) {
    const Json::Value names = json.find("arguments");
    if (names.size() != signature.arguments() || !names.is(Kind::kArray))
      throw std::invalid_argument("arguments: expected " + std::to_string(signature.arguments()) + ", got " +
                                  (names.is(Kind::kArray) ? std::to_string(names.size()) : names.shown()));
    FileCall call{signature.op, {}, {}, signature.option_numbers(json.find("options"))};
    std::vector<Described> described(names.size());
    std::vector<const Described*> buffers;
    for (const Json::Value name : names) {
      if (name.is(Kind::kNull)) {
        call.arguments.push_back(-1);
        buffers.push_back(nullptr);
        continue;
      }
      const auto found = index_.find(name.text());
      if (found == index_.end())
        throw std::invalid_argument("there is no buffer " + name.shown());
      const FileBuffer& buffer = plan_.buffers[static_cast<size_t>(found->second)];
      Described* const each = &described[buffers.size()];
      *each = {buffer.name, type_name(buffer.type), buffer.is_weight, &buffer.shape};
      call.arguments.push_back(found->second);
      buffers.push_back(each);
    }
    call.sizes = signature.unify(buffers, call.options, plan_.is_double ? "float64" : "float32");
    check_order(call, signature.outputs());
    return call;
  }

  // What a call reads is there, and what it writes is nobody's yet.
  void check_order(const FileCall& call, size_t outputs) {
    for (size_t i = outputs; i < call.arguments.size(); ++i)
      if (call.arguments[i] >= 0) {
        const auto at = static_cast<size_t>(call.arguments[i]);
        const Role role = plan_.buffers[at].role;
        if (role != Role::kInput && role != Role::kState && !written_[at])
          throw std::invalid_argument("it reads " + quoted(plan_.buffers[at].name) +
                                      ", which no call before it writes");
      }
    for (size_t i = 0; i < outputs; ++i)
      if (call.arguments[i] >= 0) {
        const auto at = static_cast<size_t>(call.arguments[i]);
        const Role role = plan_.buffers[at].role;
        if (role == Role::kInput || role == Role::kState || written_[at])
          throw std::invalid_argument("it writes " + quoted(plan_.buffers[at].name) + ", which is not its to write");
        written_[at] = true;
      }
  }

  Json::Value json_;
  const std::vector<Tensor>& tensors_;
  const TensorIndex& tensor_index_;
  std::string where_;
  FilePlan plan_{};
  std::map<std::string, int, std::less<>> index_;  // of the buffers, by name
  std::vector<bool> written_;
};

}  // namespace

void check_members(const std::string& what, Json::Value value, std::initializer_list<const char*> names) {
  if (!value.is(Kind::kObject))
    throw FileError(what + ": expected an object, got " + value.shown());
  for (const char* name : names)
    if (!value.find(name))
      throw FileError(what + ": " + quoted(name) + " is missing");
  for (const Json::Value member : value)
    if (std::find(names.begin(), names.end(), member.key()) == names.end())
      throw FileError(what + ": " + quoted(member.key()) + " is unknown");
}

FilePlan read_plan(Json::Value plan, const std::vector<Tensor>& tensors, const TensorIndex& index) {
  return Reader(plan, tensors, index).read();
}

}  // namespace lc
