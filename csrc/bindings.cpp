// The Python face of the engine: arrays come in as they are, already C-contiguous and of the right dtype; the package
// checks them at its own door.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "plan.h"

namespace py = pybind11;

namespace {

using lc::BoundPlan;
using lc::Clock;

bool is_plain(const py::array& a) {
  return (a.flags() & py::array::c_style) && (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_);
}

// A buffer of `bytes` or more, aligned and C-contiguous. Kept alive by the caller for the time of the run.
void* pointer_of(py::array& a, int64_t bytes, const char* name) {
  if (!is_plain(a))
    throw std::invalid_argument(std::string(name) + ": expected a C-contiguous, aligned array");
  if (a.nbytes() < bytes)
    throw std::invalid_argument(std::string(name) + ": expected at least " + std::to_string(bytes) + " bytes, got " +
                                std::to_string(a.nbytes()));
  return const_cast<void*>(a.data());
}

// A bound plan with the arrays that it holds on to.
struct Plan {
  BoundPlan plan;
  std::vector<py::array> held;
  struct External {
    int index;
    int64_t bytes;
    std::string times;  // "", "rows" or "steps": bytes for each of them
    std::string name;
  };
  std::vector<External> external;

  Plan(const std::string& set, bool is_double, int64_t capacity, int threads)
      : plan(set, is_double, capacity, threads) {}

  void give(const std::vector<py::array>& arrays, int64_t rows, int64_t steps) {
    if (arrays.size() != external.size())
      throw std::invalid_argument("arrays: expected " + std::to_string(external.size()) + ", got " +
                                  std::to_string(arrays.size()));
    for (size_t i = 0; i < arrays.size(); ++i) {
      py::array a = arrays[i];
      const External& e = external[i];
      const int64_t times = e.times == "rows" ? rows : e.times == "steps" ? steps : 1;
      plan.set_buffer(e.index, pointer_of(a, e.bytes * times, e.name.c_str()));
    }
  }
};

// A plan of one input and an output or more, nothing else, for calls that cannot wait. A call checks shapes and dtypes,
// then runs: one row for each element of the leading dimensions of its arrays, of which there is one, or any number of
// them in a stack.
struct Function {
  struct Port {
    std::string name;
    int index;
    std::vector<int64_t> shape;  // of one row
    int type;                    // NumPy's number
  };
  std::shared_ptr<Plan> plan;
  Port input;
  std::vector<Port> outputs;
  int64_t release_rows;  // runs of so many rows give up the GIL
  bool stacked;

  using Array = py::detail::PyArray_Proxy;

  // out: null where the caller gave none.
  py::object call(PyObject* x, PyObject* out) {
    BoundPlan& p = plan->plan;
    const Array* given = check(x, input, nullptr);
    const bool many = outputs.size() > 1;
    py::object result;
    if (out) {
      if (many && !(PyTuple_Check(out) && PyTuple_GET_SIZE(out) == static_cast<py::ssize_t>(outputs.size())))
        throw py::type_error("out: expected a tuple of " + std::to_string(outputs.size()) + " arrays");
      result = py::reinterpret_borrow<py::object>(out);
    } else if (many) {
      py::tuple made(outputs.size());
      for (size_t i = 0; i < outputs.size(); ++i) made[i] = make(outputs[i], given);
      result = made;
    } else {
      result = make(outputs[0], given);
    }
    const BoundPlan::Hold hold(p);
    for (size_t i = 0; i < outputs.size(); ++i) {
      PyObject* one = many ? PyTuple_GET_ITEM(result.ptr(), static_cast<py::ssize_t>(i)) : result.ptr();
      const Array* array = check(one, outputs[i], given);
      if (!(array->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_))
        throw std::invalid_argument(outputs[i].name + ": expected a writeable array");
      p.set_buffer(outputs[i].index, array->data);
    }
    p.set_buffer(input.index, given->data);
    Clock clock;
    clock.rows = rows_of(given);
    if (clock.rows >= release_rows) {
      const py::gil_scoped_release release;
      p.run(clock);
    } else {
      p.run(clock);
    }
    return result;
  }

  int leading(const Array* x) const { return x->nd - static_cast<int>(input.shape.size()); }
  int64_t rows_of(const Array* x) const {
    int64_t rows = 1;
    for (int i = 0; i < leading(x); ++i) rows *= x->dimensions[i];
    return rows;
  }

  py::object make(const Port& port, const Array* x) const {
    static const auto& api = py::detail::npy_api::get();
    Py_intptr_t shape[64];  // NumPy's own limit
    Py_intptr_t* end = std::copy(x->dimensions, x->dimensions + leading(x), shape);
    end = std::copy(port.shape.begin(), port.shape.end(), end);
    PyObject* made = api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(port.type),
                                               static_cast<int>(end - shape), shape, nullptr, nullptr, 0, nullptr);
    if (!made)
      throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
  }

  // An array that fits its port and the input x, null where it is the input. Reads the array's struct: every accessor
  // of pybind11 in its place would cost more than the arithmetic of a small network.
  const Array* check(PyObject* object, const Port& port, const Array* x) const {
    static const auto& api = py::detail::npy_api::get();
    if (!api.PyArray_Check_(object))
      throw py::type_error(port.name + ": expected a NumPy array");
    const auto* array = py::detail::array_proxy(object);
    const auto* dtype = py::detail::array_descriptor_proxy(array->descr);
    constexpr int kPlain = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const int lead = array->nd - static_cast<int>(port.shape.size());
    const bool fits = x ? lead == leading(x) && std::equal(x->dimensions, x->dimensions + lead, array->dimensions)
                        : lead == 1 || (stacked && lead >= 0);
    if (fits && std::equal(port.shape.begin(), port.shape.end(), array->dimensions + lead) &&
        (x || rows_of(array) <= plan->plan.capacity()) && dtype->type_num == port.type && dtype->byteorder == '=' &&
        (array->flags & kPlain) == kPlain)
      return array;
    const py::array a = py::reinterpret_borrow<py::array>(object);
    std::string came =
        "a " + std::string(py::str(a.dtype())) + " array of shape " + std::string(py::str(a.attr("shape")));
    if (!is_plain(a))
      came += " that is not C-contiguous and aligned";
    std::string shape = "rows <= " + std::to_string(plan->plan.capacity());
    if (x)
      for (int i = 0; i < leading(x); ++i) shape = (i ? shape + ", " : "") + std::to_string(x->dimensions[i]);
    for (const int64_t size : port.shape) shape += ", " + std::to_string(size);
    throw std::invalid_argument(port.name + ": expected a C-contiguous " + std::string(py::str(py::dtype(port.type))) +
                                " array of shape (" + shape + (port.shape.empty() ? ",)" : ")") + ", got " + came);
  }

  // f(x) or f(x, out) or f(x, out=out), without pybind11's argument conversion.
  static PyObject* slot(PyObject* self, PyObject* args, PyObject* kwargs) {
    try {
      const py::ssize_t given = PyTuple_GET_SIZE(args), named = kwargs ? PyDict_Size(kwargs) : 0;
      PyObject* x = given > 0 ? PyTuple_GET_ITEM(args, 0) : named ? PyDict_GetItemString(kwargs, "x") : nullptr;
      PyObject* out = given > 1 ? PyTuple_GET_ITEM(args, 1) : named ? PyDict_GetItemString(kwargs, "out") : nullptr;
      const py::ssize_t taken = (x != nullptr) + (out != nullptr);
      if (!x || given > 2 || given + named != taken)
        throw py::type_error("expected f(x) or f(x, out=out)");
      return py::cast<Function&>(py::handle(self)).call(x, out && out != Py_None ? out : nullptr).release().ptr();
    } catch (py::error_already_set& error) {
      error.restore();
    } catch (const py::builtin_exception& error) {
      error.set_error();
    } catch (const std::invalid_argument& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
  }
};

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

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core: bound plans.";
  m.attr("__version__") = LC_VERSION;
  m.attr("NOT_FINITE") = lc::kNotFinite;
  m.attr("OUT_OF_RANGE") = lc::kOutOfRange;
  m.def("instruction_sets", sets, "The compiled instruction sets that this processor runs, best first.");
  m.def("ops", ops, "The names of all kernels.");

  py::class_<Plan, std::shared_ptr<Plan>>(m, "BoundPlan",
                                          "A plan bound to a capacity of rows. Running it allocates nothing.")
      .def(py::init<const std::string&, bool, int64_t, int>(), py::arg("instruction_set"), py::arg("is_double"),
           py::arg("capacity"), py::arg("threads"))
      .def(
          "add_temporary", [](Plan& p, int64_t bytes) { return p.plan.add_temporary(bytes); }, py::arg("bytes"))
      .def(
          "add_held",
          [](Plan& p, py::array array) {
            const int index = p.plan.add_external();
            p.plan.set_buffer(index, pointer_of(array, 0, "array"));
            p.held.push_back(std::move(array));
            return index;
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
            p.give(arrays, rows, 1);
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
            p.give(arrays, batch, steps);
            Clock clock;
            clock.seed = seed;
            auto* at = static_cast<lc::Progress*>(pointer_of(progress, sizeof(lc::Progress), "progress"));
            const py::gil_scoped_release release;
            return p.plan.train(clock, {data_rows, batch}, steps, at);
          },
          py::arg("arrays"), py::arg("progress"), py::arg("seed"), py::arg("data_rows"), py::arg("batch"),
          py::arg("steps"))
      .def_property_readonly("failed_op", [](const Plan& p) { return std::string(p.plan.failed_op()); })
      .def_property_readonly("arena_bytes", [](const Plan& p) { return p.plan.arena_bytes(); })
      .def_property_readonly("instruction_set", [](const Plan& p) { return std::string(p.plan.set().name); });

  using PortTuple = std::tuple<std::string, int, std::vector<int64_t>, py::dtype>;
  py::class_<Function>(m, "Function", "A bound plan of one input, for calls that cannot wait: f(x) or f(x, out=out).",
                       py::custom_type_setup([](PyHeapTypeObject* type) { type->ht_type.tp_call = Function::slot; }))
      .def(py::init([](std::shared_ptr<Plan> plan, const PortTuple& input, const std::vector<PortTuple>& outputs,
                       int64_t release_rows, bool stacked) {
             const auto port = [](const PortTuple& t) {
               return Function::Port{std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t).num()};
             };
             Function f{std::move(plan), port(input), {}, release_rows, stacked};
             for (const PortTuple& t : outputs) f.outputs.push_back(port(t));
             return f;
           }),
           py::arg("plan"), py::arg("input"), py::arg("outputs"), py::arg("release_rows"), py::arg("stacked"));
}
