// The importance-weighted bound of Burda et al. 2016 (eq. 8), and the weight of each sample in its gradient (eq. 14).
#include <math.h>

#include "../op.h"
#include "../row_sum.h"

namespace lc {
namespace LC_ISA {
namespace {

// bound[r] weight?[samples*r] = loss[samples*r] log_ratio[samples*r] beta[steps]; size r; options: samples, mean.
// bound is the negative log of the mean of exp(beta log_ratio - loss) over a row's samples.
template <class T>
int importance_forward(const Call& call, const Run& run) {
  double *bound = run.get<double>(call, 0), *weight = run.get<double>(call, 1);
  const double *loss = run.get<double>(call, 2), *log_ratio = run.get<double>(call, 3);
  const double beta = run.get<double>(call, 4)[run.clock.iteration];
  const int64_t rows = run.size(call, 0), samples = static_cast<int64_t>(call.option[0]);
  const double scale = call.option[1] != 0 ? 1 / static_cast<double>(rows) : 1;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * samples;
    double largest = -HUGE_VAL;
    for (int64_t s = at; s < at + samples; ++s) largest = ::fmax(largest, beta * log_ratio[s] - loss[s]);
    double sum = 0;
    for (int64_t s = at; s < at + samples; ++s) sum += ::exp(beta * log_ratio[s] - loss[s] - largest);
    bound[r] = ::log(static_cast<double>(samples)) - largest - ::log(sum);
    if (weight)
      for (int64_t s = at; s < at + samples; ++s)
        weight[s] = ::exp(beta * log_ratio[s] - loss[s] - largest) / sum * scale;
  }
  return 0;
}

// d[samples*r,f] = weight[samples*r]; sizes n, f: each row of d times its weight, in place
template <class T>
int importance_backward(const Call& call, const Run& run) {
  T* d = run.get<T>(call, 0);
  const double* weight = run.get<double>(call, 1);
  const int64_t rows = run.size(call, 0), features = run.size(call, 1), chunk = rows_a_task(features);
  run.team->each(divide_up(rows, chunk), [&](int64_t task, int) {
    for (int64_t r = task * chunk; r < rows && r < (task + 1) * chunk; ++r) {
      const Vec<T> w = splat(T(weight[r]));
      for_lanes<T>(features, [&](int64_t j, auto get, auto put)
                                 LC_LAMBDA { put(d + r * features + j, get(d + r * features + j) * w); });
    }
  });
  return 0;
}

}  // namespace

extern const Op kImportance[] = {
    {"importance_forward", importance_forward<float>, importance_forward<double>, nullptr, nullptr},
    {"importance_backward", importance_backward<float>, importance_backward<double>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
