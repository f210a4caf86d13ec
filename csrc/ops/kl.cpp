// KL(N(mu, e^logvar) || N(0, 1)) of each row, in nats.
#include "../diagonal.h"
#include "../op.h"
#include "../row_sum.h"

namespace lc {
namespace LC_ISA {
namespace {

// kl[r] = mu[r,l] logvar[r,l]; sizes r, l
template <class T>
int kl_forward(const Call& call, const Run& run) {
  double* kl = run.get<double>(call, 0);
  const T *mu = run.get<T>(call, 1), *logvar = run.get<T>(call, 2);
  const int64_t rows = run.size(call, 0), latent = run.size(call, 1);
  for (int64_t r = 0; r < rows; ++r) {
    RowSum<T> sum;
    for_lanes<T>(latent, [&](int64_t j, auto get, auto) LC_LAMBDA {
      sum.add(kl_of<T>(get(mu + r * latent + j), clamp_logvar<T>(get(logvar + r * latent + j))));
    });
    kl[r] = sum.total();
  }
  return 0;
}

// dmu[r,l] dlogvar[r,l] = dkl[r] mu[r,l] logvar[r,l]; sizes r, l
template <class T>
int kl_backward(const Call& call, const Run& run) {
  T *dmu = run.get<T>(call, 0), *dlogvar = run.get<T>(call, 1);
  const double* dkl = run.get<double>(call, 2);
  const T *mu = run.get<T>(call, 3), *logvar = run.get<T>(call, 4);
  const int64_t rows = run.size(call, 0), latent = run.size(call, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const Vec<T> g = splat(T(dkl[r]));
    for_lanes<T>(latent, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      const int64_t i = r * latent + j;
      const Vec<T> raw = get(logvar + i);
      put(dmu + i, g * get(mu + i));
      put(dlogvar + i, g * splat(T(0.5)) * vexpm1<T>(clamp_logvar<T>(raw)) * inside_clamp<T>(raw));
    });
  }
  return 0;
}

}  // namespace

extern const Op kKl[] = {{"kl_forward", kl_forward<float>, kl_forward<double>, nullptr, nullptr},
                         {"kl_backward", kl_backward<float>, kl_backward<double>, nullptr, nullptr},
                         {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
