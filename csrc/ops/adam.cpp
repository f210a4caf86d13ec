// Adam over stored gradients, with the clip to a global norm.
#include "../adam.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kChunk = 8192;

// w{o,i} m{o,i} v{o,i} = g{o,i} learning_rate[steps] squared_norm?[1]; sizes o, i;
// options: beta1, beta2, epsilon, weight_decay, max_norm
template <class T>
int adam_update(const Call& call, const Run& run) {
  T *w = run.get<T>(call, 0), *m = run.get<T>(call, 1), *v = run.get<T>(call, 2);
  const T* g = run.get<T>(call, 3);
  const double *rate = run.get<double>(call, 4), *squared = run.get<double>(call, 5);
  const Adam<T> adam(call.option, rate[run.clock.iteration], run.clock.step);
  const double ratio = squared ? call.option[4] / (::sqrt(*squared) + 1e-6) : 1;
  const T scale = T(ratio < 1 ? ratio : 1);
  const int64_t n = weight_size<T>(run.size(call, 0), run.size(call, 1));
  run.team->each(divide_up(n, kChunk), [&](int64_t i, int) {
    const int64_t at = i * kChunk;
    adam(w + at, m + at, v + at, g + at, scale, n - at < kChunk ? n - at : kChunk);
  });
  return 0;
}

}  // namespace

extern const Op kAdam[] = {{"adam_update", adam_update<float>, adam_update<double>, nullptr, nullptr},
                           {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
