// The negative log-likelihood of data in [0, 1] under Bernoulli logits, and its gradient, in one pass.
#include "../op.h"
#include "../row_sum.h"
#include "../vmath.h"

namespace lc {
namespace LC_ISA {
namespace {

// loss?[samples*r] dlogits?[samples*r,f] = logits[samples*r,f] x[r,f]; sizes r, f; options: samples, mean
template <class T>
int bernoulli_forward(const Call& call, const Run& run) {
  double* loss = run.get<double>(call, 0);
  T* dlogits = run.get<T>(call, 1);
  const T *logits = run.get<T>(call, 2), *x = run.get<T>(call, 3);
  const int64_t rows = run.size(call, 0), features = run.size(call, 1), samples = static_cast<int64_t>(call.option[0]);
  const Vec<T> scale = splat(T(call.option[1] != 0 ? 1 / static_cast<double>(rows) : 1));
  const int64_t all = rows * samples, chunk = rows_a_task(features);

  run.team->each(divide_up(all, chunk), [&](int64_t task, int) {
    for (int64_t r = task * chunk; r < all && r < (task + 1) * chunk; ++r) {
      const T *l = logits + r * features, *target = x + r / samples * features;
      RowSum<T> sum;
      for_lanes<T>(features, [&](int64_t j, auto get, auto put) LC_LAMBDA {
        const Vec<T> zero = splat(T(0)), one = splat(T(1));
        const Vec<T> v = get(l + j), t = get(target + j), size = v < zero ? zero - v : v;
        const Vec<T> e = vexp<T>(zero - size);
        // A lane past the end has v = t = 0: its log 2 must not count.
        Vec<T> element = larger(zero, v) - v * t + vlog1p<T>(e);
        if (features - j < kLanes<T>)
          for (int64_t lane = features - j; lane < kLanes<T>; ++lane) element[lane] = 0;
        sum.add(element);
        if (dlogits)
          put(dlogits + r * features + j, ((v < zero ? e : one) / (one + e) - t) * scale);
      });
      if (loss)
        loss[r] = sum.total();
    }
  });
  return 0;
}

}  // namespace

extern const Op kBernoulli[] = {
    {"bernoulli_forward", bernoulli_forward<float>, bernoulli_forward<double>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
