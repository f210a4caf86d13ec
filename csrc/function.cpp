// A compiled function as Python calls it. The type is written against the C API, so that a call costs one jump and no
// look-up: vectorcall finds the object's own entry, and that the object's own fields.
#include "function.h"

#include <structmember.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

namespace py = pybind11;

namespace lc {
namespace {

using Array = py::detail::PyArray_Proxy;
using Npy = py::detail::npy_api;

struct Object {
  PyObject_HEAD vectorcallfunc call;
  Function* function;
};

Function& function_of(PyObject* self) {
  return *reinterpret_cast<Object*>(self)->function;
}

// Runs body, which returns a new reference; what it throws becomes Python's error.
template <class F>
PyObject* guarded(F&& body) {
  try {
    return body();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

int leading(const Function& f, const Array* x) {
  return x->nd - static_cast<int>(f.input.shape.size());
}

int64_t rows_of(const Function& f, const Array* x) {
  int64_t rows = 1;
  for (int i = 0; i < leading(f, x); ++i) rows *= x->dimensions[i];
  return rows;
}

// A view of what is no array of NumPy's, if it speaks DLPack and lies in main memory.
py::object view_of(PyObject* object, const Port& port) {
  const std::string said =
      port.name + ": expected a NumPy array, or one in main memory that speaks DLPack, got " + Py_TYPE(object)->tp_name;
  if (!py::hasattr(object, "__dlpack__"))
    throw py::type_error(said);
  try {
    return py::module_::import("numpy").attr("from_dlpack")(py::handle(object));
  } catch (py::error_already_set& error) {
    if (error.matches(PyExc_MemoryError) || !error.matches(PyExc_Exception))
      throw;
    py::raise_from(error, PyExc_TypeError, (said + ": " + std::string(py::str(error.value()))).c_str());
    throw py::error_already_set();
  }
}

[[noreturn]] void refuse(const Function& f, PyObject* object, const Port& port, const Array* x) {
  const auto a = py::reinterpret_borrow<py::array>(object);
  std::string came =
      "a " + std::string(py::str(a.dtype())) + " array of shape " + std::string(py::str(a.attr("shape")));
  if (!is_plain(a))
    came += " that is not C-contiguous and aligned";
  std::string shape = "rows <= " + std::to_string(f.plan->plan.capacity());
  if (x)
    for (int i = 0; i < leading(f, x); ++i) shape = (i ? shape + ", " : "") + std::to_string(x->dimensions[i]);
  for (const int64_t size : port.shape) shape += ", " + std::to_string(size);
  throw std::invalid_argument(port.name + ": expected a C-contiguous " + std::string(py::str(py::dtype(port.type))) +
                              " array of shape (" + shape + (port.shape.empty() ? ",)" : ")") + ", got " + came);
}

// The array that fits its port and the input x, null where it is the input; where it had to be brought, views hold it.
// Reads the array's struct: every accessor of pybind11 in its place would cost more than the arithmetic of a small net.
const Array* array_of(const Function& f, PyObject* object, const Port& port, const Array* x,
                      std::vector<py::object>& views) {
  static const Npy& api = Npy::get();
  if (!api.PyArray_Check_(object)) {
    views.push_back(view_of(object, port));
    object = views.back().ptr();
  }
  const auto* array = py::detail::array_proxy(object);
  const auto* dtype = py::detail::array_descriptor_proxy(array->descr);
  constexpr int kPlain = Npy::NPY_ARRAY_C_CONTIGUOUS_ | Npy::NPY_ARRAY_ALIGNED_;
  const int lead = array->nd - static_cast<int>(port.shape.size());
  const bool fits = x ? lead == leading(f, x) && std::equal(x->dimensions, x->dimensions + lead, array->dimensions)
                      : lead == 1 || (f.stacked && lead >= 0);
  if (!fits || !std::equal(port.shape.begin(), port.shape.end(), array->dimensions + lead) ||
      (!x && rows_of(f, array) > f.plan->plan.capacity()) || dtype->type_num != port.type || dtype->byteorder != '=' ||
      (array->flags & kPlain) != kPlain)
    refuse(f, object, port, x);
  if (x && !(array->flags & Npy::NPY_ARRAY_WRITEABLE_))
    throw std::invalid_argument(port.name + ": expected a writeable array");
  return array;
}

py::object make(const Function& f, const Port& port, const Array* x) {
  static const Npy& api = Npy::get();
  Py_intptr_t shape[64];  // NumPy's own limit
  Py_intptr_t* end = std::copy(x->dimensions, x->dimensions + leading(f, x), shape);
  end = std::copy(port.shape.begin(), port.shape.end(), end);
  PyObject* made = api.PyArray_NewFromDescr_(api.PyArray_Type_, api.PyArray_DescrFromType_(port.type),
                                             static_cast<int>(end - shape), shape, nullptr, nullptr, 0, nullptr);
  if (!made)
    throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

// The outputs that the caller gave (null: none), or new ones.
py::object outputs_of(const Function& f, PyObject* out, const Array* x) {
  const size_t count = f.outputs.size();
  if (out) {
    if (count > 1 && !(PyTuple_Check(out) && PyTuple_GET_SIZE(out) == static_cast<py::ssize_t>(count)))
      throw py::type_error("out: expected a tuple of " + std::to_string(count) + " arrays");
    return py::reinterpret_borrow<py::object>(out);
  }
  if (count == 1)
    return make(f, f.outputs[0], x);
  py::tuple made(count);
  for (size_t i = 0; i < count; ++i) made[i] = make(f, f.outputs[i], x);
  return std::move(made);
}

void run_rows(const Function& f, int64_t rows) {
  Clock clock;
  clock.rows = rows;
  if (rows >= f.release_rows) {
    const py::gil_scoped_release release;
    f.plan->plan.run(clock);
  } else {
    f.plan->plan.run(clock);
  }
}

void warm_up(const Function& f) {
  constexpr int64_t kMost = 1024;  // rows; more of them take milliseconds anyway
  BoundPlan& p = f.plan->plan;
  const int64_t rows = std::min(p.capacity(), kMost);
  std::vector<std::pair<int, int64_t>> external;
  const auto add = [&](const Port& port) {
    int64_t bytes = rows * py::dtype(port.type).itemsize();
    for (const int64_t size : port.shape) bytes *= size;
    external.emplace_back(port.index, bytes);
  };
  add(f.input);
  for (const Port& port : f.outputs) add(port);
  const py::gil_scoped_release release;
  p.warm_up(rows, external);
}

PyObject* run(const Function& f, PyObject* given, PyObject* out) {
  BoundPlan& p = f.plan->plan;
  std::vector<py::object> views;
  const Array* x = array_of(f, given, f.input, nullptr, views);
  py::object result = outputs_of(f, out, x);
  // With the GIL too: a run in another thread may have given it up. Where Python has none this alone keeps runs apart,
  // but not the caller's arrays from being resized meanwhile, which NumPy leaves to the caller.
  const BoundPlan::Hold hold(p);
  for (size_t i = 0; i < f.outputs.size(); ++i) {
    PyObject* one = f.outputs.size() > 1 ? PyTuple_GET_ITEM(result.ptr(), static_cast<py::ssize_t>(i)) : result.ptr();
    p.set_buffer(f.outputs[i].index, array_of(f, one, f.outputs[i], x, views)->data);
  }
  p.set_buffer(f.input.index, x->data);
  run_rows(f, rows_of(f, x));
  return result.release().ptr();
}

// f(x) or f(x, out) or f(x, out=out).
PyObject* call(PyObject* self, PyObject* const* arguments, size_t flags, PyObject* names) {
  return guarded([&] {
    const Function& f = function_of(self);
    const py::ssize_t given = PyVectorcall_NARGS(flags), named = names ? PyTuple_GET_SIZE(names) : 0;
    PyObject* taken[2] = {};  // x, out
    bool fits = given <= 2;
    for (py::ssize_t i = 0; fits && i < given; ++i) taken[i] = arguments[i];
    for (py::ssize_t i = 0; fits && i < named; ++i) {
      PyObject* name = PyTuple_GET_ITEM(names, i);
      const int which = PyUnicode_CompareWithASCIIString(name, "out") == 0 ? 1 : 0;
      fits = !taken[which] && (which || PyUnicode_CompareWithASCIIString(name, "x") == 0);
      taken[which] = arguments[given + i];
    }
    if (!fits || !taken[0])
      throw py::type_error(f.name + ": expected f(x) or f(x, out=out)");
    return run(f, taken[0], taken[1] == Py_None ? nullptr : taken[1]);
  });
}

PyObject* clone(PyObject* self, PyObject*) {
  return guarded([&] {
    Function f = function_of(self);
    f.plan = std::make_shared<Plan>(*f.plan);
    return make_function(std::move(f)).release().ptr();
  });
}

PyObject* refuse_to_pickle(PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError,
                  "a compiled function cannot be pickled: save the model and compile it where it is loaded; clone() "
                  "makes a second one for another thread");
  return nullptr;
}

PyObject* represent(PyObject* self) {
  return guarded([&] {
    const Function& f = function_of(self);
    const BoundPlan& p = f.plan->plan;
    return py::str("<compiled {}: batch={}, weights={!r}, threads={}, instruction_set={!r}>")
        .format(f.name, p.capacity(), f.weights, p.threads(), p.set().name)
        .release()
        .ptr();
  });
}

void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  delete reinterpret_cast<Object*>(self)->function;
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace

bool is_plain(const py::array& a) {
  return (a.flags() & py::array::c_style) && (a.flags() & Npy::NPY_ARRAY_ALIGNED_);
}

py::object function_type() {
  static PyMemberDef members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(Object, call), READONLY, nullptr}, {}};
  static PyMethodDef methods[] = {{"clone", clone, METH_NOARGS,
                                   "clone(self) -> Function\n\nThe same function with a workspace of its own, over the "
                                   "same weights: another thread "
                                   "may call it at the same time."},
                                  {"__reduce__", refuse_to_pickle, METH_NOARGS, "__reduce__(self) -> NoReturn"},
                                  {}};
  static PyGetSetDef attributes[] = {
      {"function", [](PyObject* s, void*) { return PyUnicode_FromString(function_of(s).name.c_str()); }, nullptr,
       "Its name.", nullptr},
      {"batch", [](PyObject* s, void*) { return PyLong_FromLongLong(function_of(s).plan->plan.capacity()); }, nullptr,
       "The most rows of a call.", nullptr},
      {"weights", [](PyObject* s, void*) { return PyUnicode_FromString(function_of(s).weights.c_str()); }, nullptr,
       "How the weights are stored.", nullptr},
      {"threads", [](PyObject* s, void*) { return PyLong_FromLongLong(function_of(s).plan->plan.threads()); }, nullptr,
       "How many threads work on a call.", nullptr},
      {"instruction_set", [](PyObject* s, void*) { return PyUnicode_FromString(function_of(s).plan->plan.set().name); },
       nullptr, "What its kernels were compiled for.", nullptr},
      {"error_report", [](PyObject* s, void*) { return function_of(s).error_report.inc_ref().ptr(); }, nullptr,
       "What the storage of the weights costs in accuracy, as a function of data.", nullptr},
      {}};
  static PyType_Slot slots[] = {
      {Py_tp_doc, const_cast<char*>("A function of a model for calls that cannot wait: f(x) or f(x, out=out).")},
      {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
      {Py_tp_repr, reinterpret_cast<void*>(represent)},
      {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
      {Py_tp_members, members},
      {Py_tp_methods, methods},
      {Py_tp_getset, attributes},
      {0, nullptr}};
  static PyType_Spec spec = {
      "latentcore._core.Function", static_cast<int>(sizeof(Object)), 0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
      slots};
  static PyObject* const type = PyType_FromSpec(&spec);
  if (!type)
    throw py::error_already_set();
  return py::reinterpret_borrow<py::object>(type);
}

FunctionObject make_function(Function function) {
  auto held = std::make_unique<Function>(std::move(function));
  if (!held->stacked)
    warm_up(*held);
  const py::object type = function_type();
  PyObject* made = PyType_GenericAlloc(reinterpret_cast<PyTypeObject*>(type.ptr()), 0);
  if (!made)
    throw py::error_already_set();
  auto* object = reinterpret_cast<Object*>(made);
  object->call = call;
  object->function = held.release();
  return py::reinterpret_steal<FunctionObject>(made);
}

}  // namespace lc
