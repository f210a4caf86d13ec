// The Python face of the engine: arrays come in as they are, already C-contiguous and of the right dtype; the package
// checks them at its own door.
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "function.h"
#include "model_file.h"
#include "signature.h"
#include "weights.h"

namespace py = pybind11;

namespace {

using lc::BoundPlan;
using lc::Clock;
using lc::Plan;

// A buffer of `bytes` or more, aligned and C-contiguous. Kept alive by the caller for the time of the run.
void* pointer_of(py::array& a, int64_t bytes, const char* name) {
  if (!lc::is_plain(a))
    throw std::invalid_argument(std::string(name) + ": expected a C-contiguous, aligned array");
  if (a.nbytes() < bytes)
    throw std::invalid_argument(std::string(name) + ": expected at least " + std::to_string(bytes) + " bytes, got " +
                                std::to_string(a.nbytes()));
  return const_cast<void*>(a.data());
}

void give(Plan& p, const std::vector<py::array>& arrays, int64_t rows, int64_t steps) {
  if (arrays.size() != p.external.size())
    throw std::invalid_argument("arrays: expected " + std::to_string(p.external.size()) + ", got " +
                                std::to_string(arrays.size()));
  for (size_t i = 0; i < arrays.size(); ++i) {
    py::array a = arrays[i];
    const Plan::External& e = p.external[i];
    const int64_t times = e.times == "rows" ? rows : e.times == "steps" ? steps : 1;
    p.plan.set_buffer(e.index, pointer_of(a, e.bytes * times, e.name.c_str()));
  }
}

// Name, buffer, shape of a row, dtype.
using PortTuple = std::tuple<std::string, int, std::vector<int64_t>, py::dtype>;
lc::Port port(const PortTuple& t) {
  return {std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t).num()};
}

std::vector<std::string> compressed() {
  std::vector<std::string> names;
  for (const lc::Compressed& each : lc::kCompressed) names.emplace_back(each.name);
  return names;
}

lc::Storage storage_of(const std::string& kind) {
  if (const lc::Compressed* found = lc::find_compressed(kind.c_str()))
    return found->storage;
  throw std::invalid_argument("kind: expected one of compressed(), got " + kind);
}

// A weight (out, in + 1) of floats, the bias its last column.
void pack_weight(const std::string& kind, py::array joined, py::array packed) {
  if (joined.ndim() != 2 || joined.shape(1) < 1 || !joined.dtype().is(py::dtype::of<float>()))
    throw std::invalid_argument("joined: expected a float32 array of shape (out, in + 1)");
  const int64_t out = joined.shape(0), columns = joined.shape(1), in = columns - 1;
  const auto* from = static_cast<const float*>(pointer_of(joined, 4 * out * columns, "joined"));
  const lc::Storage storage = storage_of(kind);
  void* to = pointer_of(packed, lc::weight_bytes(storage, false, out, in), "packed");
  std::vector<float> bias;
  for (int64_t o = 0; o < out; ++o) bias.push_back(from[o * columns + in]);
  lc::pack_weight(storage, from, columns, 1, bias.data(), out, in, to);
}

std::vector<std::string> sets() {
  std::vector<std::string> names;
  for (auto set = lc::instruction_sets(); *set; ++set) names.emplace_back((*set)->name);
  return names;
}

std::vector<std::string> ops() {
  std::vector<std::string> names;
  for (auto table = lc::instruction_sets()[0]->ops; *table; ++table)
    for (const lc::Op* op = *table; op->name; ++op) names.emplace_back(op->name);
  return names;
}

using TensorTuple = std::tuple<std::string, std::string, std::vector<int64_t>, std::ptrdiff_t>;

// What Python's own json makes of it.
py::object to_python(lc::Json::Value json) {
  using Kind = lc::Json::Kind;
  if (json.is(Kind::kObject)) {
    py::dict made;
    for (const lc::Json::Value member : json) made[py::str(member.key())] = to_python(member);
    return std::move(made);
  }
  if (json.is(Kind::kArray)) {
    py::list made;
    for (const lc::Json::Value element : json) made.append(to_python(element));
    return std::move(made);
  }
  if (json.is(Kind::kString))
    return py::str(json.text());
  if (json.is(Kind::kInteger))
    return py::int_(py::str(json.digits()));
  if (json.is(Kind::kReal))
    return py::float_(py::str(json.digits()));
  return json.is(Kind::kNull) ? py::object(py::none()) : py::bool_(json.is(Kind::kTrue));
}

// The header of a model file, and of each tensor its name, dtype, shape and place.
std::tuple<py::object, std::vector<TensorTuple>> read_model(const py::array& data) {
  if (!lc::is_plain(data))
    throw std::invalid_argument("data: expected a C-contiguous, aligned array");
  const char* begin = static_cast<const char*>(data.data());
  lc::ModelFile file;
  {
    const py::gil_scoped_release release;
    file = lc::ModelFile::parse(begin, static_cast<size_t>(data.nbytes()));
  }
  std::vector<TensorTuple> tensors;
  for (const lc::Tensor& t : file.tensors)
    tensors.emplace_back(t.name, lc::type_name(t.type), t.shape, static_cast<const char*>(t.data) - begin);
  const lc::Json header(file.header);
  return {to_python(header.root()), std::move(tensors)};
}

int64_t model_header_bytes(const py::bytes& first, uint64_t file_bytes) {
  const std::string_view given(first);
  return lc::ModelFile::header_bytes(given.data(), given.size() < 8 ? given.size() : file_bytes);
}

std::vector<std::tuple<std::string, std::string, std::string>> file_ops() {
  std::vector<std::tuple<std::string, std::string, std::string>> all;
  for (const lc::Signature& s : lc::signatures()) all.emplace_back(s.op, s.text, s.options);
  return all;
}

}  // namespace

// A free-threaded Python turns its GIL on to import this: what adds to a plan under construction takes no lock.
PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core: bound plans.";
  m.attr("__version__") = LC_VERSION;
  m.attr("NOT_FINITE") = lc::kNotFinite;
  m.attr("OUT_OF_RANGE") = lc::kOutOfRange;
  m.def("instruction_sets", sets, "The compiled instruction sets that this processor runs, best first.");
  m.def("ops", ops, "The names of all kernels.");
  m.def("compressed", compressed, "The ways to keep the weights of layers in fewer bytes.");
  m.attr("Function") = lc::function_type();
  m.def(
      "weight_bytes",
      [](const std::string& kind, int64_t out, int64_t in) {
        return lc::weight_bytes(storage_of(kind), false, out, in);
      },
      py::arg("kind"), py::arg("out"), py::arg("inputs"), "The bytes of a weight kept as one of compressed().");
  m.def("pack_weight", pack_weight, py::arg("kind"), py::arg("joined"), py::arg("packed"),
        "Fills packed with the weight and bias of joined, (out, in + 1) float32, kept as one of compressed().");
  m.def("file_ops", file_ops, "Name, signature and options (as JSON) of each op that a model file may call.");
  m.def("model_header_bytes", model_header_bytes, py::arg("first"), py::arg("file_bytes"),
        "How long a model file says that its header is, by its first eight bytes. Raises ValueError.");
  m.def("read_model", read_model, py::arg("data"),
        "The header of a model file, and name, dtype, shape and offset of each tensor. Raises ValueError.");

  py::class_<Plan, std::shared_ptr<Plan>>(m, "BoundPlan",
                                          "A plan bound to a capacity of rows. Running it allocates nothing.")
      .def(py::init<const std::string&, bool, int64_t, int>(), py::arg("instruction_set"), py::arg("is_double"),
           py::arg("capacity"), py::arg("threads"))
      .def(
          "add_temporary", [](Plan& p, int64_t bytes) { return p.plan.add_temporary(bytes); }, py::arg("bytes"))
      .def(
          "add_held",
          [](Plan& p, py::array array) {
            p.held.push_back(array);
            return p.plan.add_held(pointer_of(array, 0, "array"));
          },
          py::arg("array"))
      .def(
          "add_external",
          [](Plan& p, const std::string& name, int64_t bytes, const std::string& times) {
            const int index = p.plan.add_external();
            p.external.push_back({index, bytes, times, name});
            return index;
          },
          py::arg("name"), py::arg("bytes"), py::arg("times"))
      .def(
          "add_call",
          [](Plan& p, const std::string& op, const std::vector<int>& arguments,
             const std::vector<std::pair<int64_t, bool>>& sizes, const std::vector<double>& options) {
            std::vector<lc::Size> converted;
            for (const auto& [value, times_rows] : sizes) converted.push_back({value, times_rows});
            p.plan.add_call(op, arguments, converted, options);
          },
          py::arg("op"), py::arg("arguments"), py::arg("sizes"), py::arg("options"))
      .def("finish", [](Plan& p) { p.plan.finish(); })
      .def(
          "run",
          [](Plan& p, const std::vector<py::array>& arrays, int64_t rows, int64_t step, int64_t epoch, int64_t offset,
             int64_t sample, uint64_t seed, bool release_gil) {
            const BoundPlan::Hold hold(p.plan);
            give(p, arrays, rows, 1);
            const Clock clock{rows, step, epoch, offset, 0, sample, seed};
            if (!release_gil)
              return p.plan.run(clock);
            const py::gil_scoped_release release;
            return p.plan.run(clock);
          },
          py::arg("arrays"), py::arg("rows"), py::arg("step"), py::arg("epoch"), py::arg("offset"), py::arg("sample"),
          py::arg("seed"), py::arg("release_gil"))
      .def(
          "train",
          [](Plan& p, const std::vector<py::array>& arrays, py::array progress, uint64_t seed, int64_t data_rows,
             int64_t batch, int64_t steps) {
            const BoundPlan::Hold hold(p.plan);
            give(p, arrays, batch, steps);
            Clock clock;
            clock.seed = seed;
            auto* at = static_cast<lc::Progress*>(pointer_of(progress, sizeof(lc::Progress), "progress"));
            const py::gil_scoped_release release;
            return p.plan.train(clock, {data_rows, batch}, steps, at);
          },
          py::arg("arrays"), py::arg("progress"), py::arg("seed"), py::arg("data_rows"), py::arg("batch"),
          py::arg("steps"))
      .def(
          "function",
          [](std::shared_ptr<Plan> plan, const std::string& name, const std::string& weights, const PortTuple& input,
             const std::vector<PortTuple>& outputs, int64_t release_rows, bool stacked, py::object error_report) {
            std::vector<lc::Port> ports(outputs.size());
            std::transform(outputs.begin(), outputs.end(), ports.begin(), port);
            return lc::make_function({std::move(plan), name, weights, port(input), std::move(ports), release_rows,
                                      stacked, std::move(error_report)});
          },
          py::arg("name"), py::arg("weights"), py::arg("input"), py::arg("outputs"), py::arg("release_rows"),
          py::arg("stacked"), py::arg("error_report"))
      .def_property_readonly("failed_op", [](const Plan& p) { return std::string(p.plan.failed_op()); })
      .def_property_readonly("arena_bytes", [](const Plan& p) { return p.plan.arena_bytes(); })
      .def_property_readonly("instruction_set", [](const Plan& p) { return std::string(p.plan.set().name); });
}
