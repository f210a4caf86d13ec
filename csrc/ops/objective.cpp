// What a step minimises and reports; a step whose objective is not finite ends the run before anything is updated.
#include <math.h>

#include "../op.h"

namespace lc {
namespace LC_ISA {
namespace {

double mean_of(const double* value, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += value[i];
  return sum / static_cast<double>(n);
}

// metrics[steps,m] = recon[n] kl_dim?[l] bound?[r] beta[steps]; sizes m, n, l, r; option: free_bits.
// A row of metrics: objective, recon, kl, kl of each dimension.
template <class T>
int objective_forward(const Call& call, const Run& run) {
  const int64_t width = run.size(call, 0), latent = run.size(call, 2);
  double* metrics = run.get<double>(call, 0) + run.clock.iteration * width;
  const double *kl_dim = run.get<double>(call, 2), *bound = run.get<double>(call, 3);
  const double beta = run.get<double>(call, 4)[run.clock.iteration];
  const double recon = mean_of(run.get<double>(call, 1), run.size(call, 1));
  double kl = 0, charged = 0;
  for (int64_t j = 0; kl_dim && j < latent; ++j) {
    kl += kl_dim[j];
    charged += ::fmax(kl_dim[j], call.option[0]);
    metrics[3 + j] = kl_dim[j];
  }
  metrics[0] = bound ? mean_of(bound, run.size(call, 3)) : recon + beta * charged;
  metrics[1] = recon;
  metrics[2] = kl;
  return isfinite(metrics[0]) && isfinite(recon) && isfinite(kl) ? 0 : kNotFinite;
}

// score[r] = recon[samples*r] kl?[r]; size r; option: samples. The evidence lower bound of each row.
template <class T>
int score_forward(const Call& call, const Run& run) {
  double* score = run.get<double>(call, 0);
  const double *recon = run.get<double>(call, 1), *kl = run.get<double>(call, 2);
  const int64_t rows = run.size(call, 0), samples = static_cast<int64_t>(call.option[0]);
  for (int64_t r = 0; r < rows; ++r) score[r] = -mean_of(recon + r * samples, samples) - (kl ? kl[r] : 0);
  return 0;
}

}  // namespace

extern const Op kObjective[] = {
    {"objective_forward", objective_forward<float>, objective_forward<double>, nullptr, nullptr},
    {"score_forward", score_forward<float>, score_forward<double>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
