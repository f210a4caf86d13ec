// The log density of rows under probabilistic PCA (Tipping & Bishop 1999).
#include <math.h>

#include "../op.h"
#include "../row_sum.h"
#include "../widen.h"

namespace lc {
namespace LC_ISA {
namespace {

// loglik[r] = xc?[r,f] xr?[r,f] z[r,k] variance[k] noise[1]; sizes r, f, k
template <class T>
int probabilistic_pca_forward(const Call& call, const Run& run) {
  double* loglik = run.get<double>(call, 0);
  const T *xc = run.get<T>(call, 1), *xr = run.get<T>(call, 2), *z = run.get<T>(call, 3);
  const double *variance = run.get<double>(call, 4), noise = *run.get<double>(call, 5);
  const int64_t rows = run.size(call, 0), codes = run.size(call, 2), chunk = rows_a_task(run.size(call, 1) + codes);
  const int64_t features = xc || xr ? run.size(call, 1) : codes;
  const bool noisy = features > codes;
  double constant = static_cast<double>(features) * 1.8378770664093454836;  // log 2 pi
  if (noisy)
    constant += static_cast<double>(features - codes) * ::log(noise);
  for (int64_t k = 0; k < codes; ++k) constant += ::log(variance[k]);

  run.team->each(divide_up(rows, chunk), [&](int64_t task, int) {
    for (int64_t r = task * chunk; r < rows && r < (task + 1) * chunk; ++r) {
      const int64_t at = r * features;
      RowSum<double> inside, outside;
      for_wide_lanes(codes, [&](int64_t j, auto get, auto) LC_LAMBDA {
        const Vec<double> v = get(z + r * codes + j);
        Vec<double> by = get(variance + j);
        for (int64_t i = codes - j; i < kLanes<double>; ++i) by[i] = 1;
        inside.add(v * v / by);
      });
      for_wide_lanes(noisy ? features : 0, [&](int64_t j, auto get, auto) LC_LAMBDA {
        const Vec<double> v = (xc ? get(xc + at + j) : Vec<double>{}) - (xr ? get(xr + at + j) : Vec<double>{});
        outside.add(v * v);
      });
      loglik[r] = -0.5 * (constant + inside.total() + (noisy ? outside.total() / noise : 0));
    }
  });
  return 0;
}

}  // namespace

extern const Op kProbabilisticPca[] = {{"probabilistic_pca_forward", probabilistic_pca_forward<float>,
                                        probabilistic_pca_forward<double>, nullptr, nullptr},
                                       {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
