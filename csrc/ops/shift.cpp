// Rows moved by one vector, in double: data with a large offset keeps its digits.
#include "../op.h"
#include "../row_sum.h"
#include "../widen.h"

namespace lc {
namespace LC_ISA {
namespace {

// y[r,f] = x[r,f] by[f]; sizes r, f; option: subtract
template <class T>
int shift_forward(const Call& call, const Run& run) {
  T* y = run.get<T>(call, 0);
  const T* x = run.get<T>(call, 1);
  const double* by = run.get<double>(call, 2);
  const int64_t rows = run.size(call, 0), features = run.size(call, 1), chunk = rows_a_task(features);
  const Vec<double> sign = splat(call.option[0] != 0 ? -1.0 : 1.0);
  run.team->each(divide_up(rows, chunk), [&](int64_t task, int) {
    for (int64_t r = task * chunk; r < rows && r < (task + 1) * chunk; ++r)
      for_wide_lanes(features, [&](int64_t j, auto get, auto put) LC_LAMBDA {
        put(y + r * features + j, get(x + r * features + j) + sign * get(by + j));
      });
  });
  return 0;
}

}  // namespace

extern const Op kShift[] = {{"shift_forward", shift_forward<float>, shift_forward<double>, nullptr, nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
