// What the files of the binding share: a bound plan with the arrays that it holds on to, and the function made of it.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "plan.h"

namespace lc {

struct Plan {
  BoundPlan plan;
  std::vector<pybind11::array> held;
  struct External {
    int index;
    int64_t bytes;
    std::string times;  // "", "rows" or "steps": bytes for each of them
    std::string name;
  };
  std::vector<External> external;

  Plan(const std::string& set, bool is_double, int64_t capacity, int threads)
      : plan(set, is_double, capacity, threads) {}
};

// An array of a function: its name in errors, its buffer, the shape of one row, NumPy's number of its dtype.
struct Port {
  std::string name;
  int index;
  std::vector<int64_t> shape;
  int type;
};

// A plan of one input and an output or more, nothing else, for calls that cannot wait.
struct Function {
  std::shared_ptr<Plan> plan;
  std::string name, weights;  // what was compiled
  Port input;
  std::vector<Port> outputs;
  int64_t release_rows;  // runs of so many rows give up the GIL
  bool stacked;          // arrays may have any number of leading dimensions, not rows alone
  pybind11::object error_report;
};

// Whether an array is C-contiguous and aligned.
bool is_plain(const pybind11::array& a);

// The type that Python sees, and an object of it.
struct FunctionObject : pybind11::object {
  using object::object;
};
pybind11::object function_type();
FunctionObject make_function(Function function);

}  // namespace lc

template <>
struct pybind11::detail::handle_type_name<lc::FunctionObject> {
  static constexpr auto name = const_name("latentcore._core.Function");
};
