// The squared norm of a gradient, added up over tensors for clipping.
#include "../op.h"
#include "../row_sum.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kChunk = 8192;

template <class T>
int64_t gradient_size(const Call& call) {
  return weight_size<T>(call.size[0].value, call.size[1].value);
}
template <class T>
int64_t norm_space(const Call& call, int64_t, int) {
  Carver c(nullptr);
  c.take<double>(divide_up(gradient_size<T>(call), kChunk));
  return c.used();
}

// squared[1] = g{o,i}; sizes o, i; option: accumulate
template <class T>
int norm_forward(const Call& call, const Run& run) {
  double* squared = run.get<double>(call, 0);
  const T* g = run.get<T>(call, 1);
  const int64_t n = gradient_size<T>(call), chunks = divide_up(n, kChunk);
  Carver carver(run.workspace);
  double* partial = carver.take<double>(chunks);
  run.team->each(chunks, [&](int64_t i, int) {
    const int64_t end = (i + 1) * kChunk < n ? (i + 1) * kChunk : n;
    double sum = 0;
    for (int64_t k = i * kChunk; k < end; k += kPanel<T>) {
      double line = 0;
      for (int j = 0; j < kPanel<T>; ++j) line += static_cast<double>(g[k + j]) * static_cast<double>(g[k + j]);
      sum += line;
    }
    partial[i] = sum;
  });
  double sum = call.option[0] != 0 ? *squared : 0;
  for (int64_t i = 0; i < chunks; ++i) sum += partial[i];
  *squared = sum;
  return 0;
}

}  // namespace

extern const Op kNorm[] = {
    {"norm_forward", norm_forward<float>, norm_forward<double>, norm_space<float>, norm_space<double>},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
