// z = mu + e^(logvar / 2) * noise.
#include "../diagonal.h"
#include "../op.h"

namespace lc {
namespace LC_ISA {
namespace {

// z[r,l] = mu[r,l] logvar[r,l] noise[r,l]; sizes r, l
template <class T>
int reparameterize_forward(const Call& call, const Run& run) {
  T* z = run.get<T>(call, 0);
  const T *mu = run.get<T>(call, 1), *logvar = run.get<T>(call, 2), *noise = run.get<T>(call, 3);
  for_lanes<T>(run.size(call, 0) * run.size(call, 1), [&](int64_t i, auto get, auto put) LC_LAMBDA {
    put(z + i, madd(deviation<T>(clamp_logvar<T>(get(logvar + i))), get(noise + i), get(mu + i)));
  });
  return 0;
}

// dmu[r,l] dlogvar[r,l] = dz[r,l] logvar[r,l] noise[r,l]; sizes r, l
template <class T>
int reparameterize_backward(const Call& call, const Run& run) {
  T *dmu = run.get<T>(call, 0), *dlogvar = run.get<T>(call, 1);
  const T *dz = run.get<T>(call, 2), *logvar = run.get<T>(call, 3), *noise = run.get<T>(call, 4);
  for_lanes<T>(run.size(call, 0) * run.size(call, 1), [&](int64_t i, auto get, auto put) LC_LAMBDA {
    const Vec<T> raw = get(logvar + i), g = get(dz + i);
    put(dmu + i, g);
    put(dlogvar + i, g * splat(T(0.5)) * deviation<T>(clamp_logvar<T>(raw)) * get(noise + i) * inside_clamp<T>(raw));
  });
  return 0;
}

}  // namespace

extern const Op kReparameterize[] = {
    {"reparameterize_forward", reparameterize_forward<float>, reparameterize_forward<double>, nullptr, nullptr},
    {"reparameterize_backward", reparameterize_backward<float>, reparameterize_backward<double>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
