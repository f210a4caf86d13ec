// The negative log-likelihood of data under a Gaussian of fixed or learned variance, and its gradient, in one pass.
#include <math.h>

#include "../op.h"
#include "../row_sum.h"
#include "../vmath.h"

namespace lc {
namespace LC_ISA {
namespace {

// loss?[samples*r] dmean?[samples*r,f] dlog_variance?[samples*r] = mean[samples*r,f] x[r,f] log_variance?{1,0};
// sizes r, f; options: samples, mean, variance
template <class T>
int gaussian_forward(const Call& call, const Run& run) {
  double* loss = run.get<double>(call, 0);
  T* dmean = run.get<T>(call, 1);
  double* dlog_variance = run.get<double>(call, 2);
  const T *mean = run.get<T>(call, 3), *x = run.get<T>(call, 4), *learned = run.get<T>(call, 5);
  const int64_t rows = run.size(call, 0), features = run.size(call, 1), samples = static_cast<int64_t>(call.option[0]);
  const double raw = learned ? static_cast<double>(learned[0]) : ::log(call.option[2]);
  const double log_variance = learned ? (raw < -30 ? -30 : raw > 20 ? 20 : raw) : raw;
  const bool moves = log_variance == raw;
  const double precision = ::exp(-log_variance), constant = log_variance + 1.8378770664093454836;  // log 2 pi
  const Vec<T> scale = splat(T(call.option[1] != 0 ? precision / static_cast<double>(rows) : precision));
  const int64_t all = rows * samples, chunk = rows_a_task(features);

  run.team->each(divide_up(all, chunk), [&](int64_t task, int) {
    for (int64_t r = task * chunk; r < all && r < (task + 1) * chunk; ++r) {
      const T *m = mean + r * features, *target = x + r / samples * features;
      RowSum<T> sum;
      for_lanes<T>(features, [&](int64_t j, auto get, auto put) LC_LAMBDA {
        const Vec<T> d = get(m + j) - get(target + j);
        sum.add(d * d);
        if (dmean)
          put(dmean + r * features + j, d * scale);
      });
      const double square = sum.total() * precision, count = static_cast<double>(features);
      if (loss)
        loss[r] = 0.5 * (square + count * constant);
      if (dlog_variance)
        dlog_variance[r] = moves ? 0.5 * (count - square) : 0;
    }
  });
  return 0;
}

// dw{1,0} = dlog_variance[n] weight?[n]; size n; option: samples. Their weighted sum, or else the sum over n / samples
template <class T>
int gaussian_backward_variance(const Call& call, const Run& run) {
  T* dw = run.get<T>(call, 0);
  const double *d = run.get<double>(call, 1), *weight = run.get<double>(call, 2);
  const int64_t n = run.size(call, 0);
  const double rows = static_cast<double>(n) / call.option[0];
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += weight ? weight[i] * d[i] : d[i];
  std::memset(dw, 0, sizeof(T) * kPanel<T>);
  dw[0] = T(weight ? sum : sum / rows);
  return 0;
}

}  // namespace

extern const Op kGaussian[] = {
    {"gaussian_forward", gaussian_forward<float>, gaussian_forward<double>, nullptr, nullptr},
    {"gaussian_backward_variance", gaussian_backward_variance<float>, gaussian_backward_variance<double>, nullptr,
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
