// The mean of each of many groups of rows, and its Gram matrix about that mean.
#include "../syrk.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kSlab = 4 * kChain;  // rows that are packed at a time
constexpr int64_t kGroups = 8;         // that one task takes

template <class T>
int64_t covariance_space(const Call& call, int64_t, int threads) {
  Carver c(nullptr);
  for (int t = 0; t < threads; ++t) take_packed<T>(c, kSlab, fold_of<T>(call.size[1].value) * call.size[1].value);
  return c.used();
}

// mean[r,f] gram[r,f,f] = x[n,f] begin[r] end[r]; sizes r, f, n
template <class T>
int covariance_forward(const Call& call, const Run& run) {
  double *mean = run.get<double>(call, 0), *gram = run.get<double>(call, 1);
  const T* x = run.get<T>(call, 2);
  const uint32_t *begin = run.get<uint32_t>(call, 3), *end = run.get<uint32_t>(call, 4);
  const int64_t groups = run.size(call, 0), n = run.size(call, 1), all = run.size(call, 2);
  for (int64_t g = 0; g < groups; ++g)
    if (begin[g] > end[g] || end[g] > all)
      return kOutOfRange;
  const int64_t fold = fold_of<T>(n);
  Carver sizes(nullptr);
  take_packed<T>(sizes, kSlab, fold * n);

  run.team->each(divide_up(groups, kGroups), [&](int64_t task, int thread) {
    Carver carver(run.workspace + thread * sizes.used());
    const Packed<T> panels = take_packed<T>(carver, kSlab, fold * n);
    for (int64_t g = task * kGroups; g < groups && g < (task + 1) * kGroups; ++g) {
      double *middle = mean + g * n, *square = gram + g * n * n;
      const int64_t rows = int64_t{end[g]} - begin[g];
      const T* from = x + begin[g] * n;
      std::memset(square, 0, sizeof(double) * static_cast<size_t>(n * n));
      if (rows == 0)
        for (int64_t j = 0; j < n; ++j) middle[j] = __builtin_nan("");
      else if (fold > 1)
        folded_mean(middle, from, rows, n);
      else
        mean_of(middle, from, nullptr, rows, n);
      for (int64_t first = 0; first < rows; first += fold * kSlab) {
        const int64_t depth = rows - first < fold * kSlab ? rows - first : fold * kSlab;
        if (fold > 1) {
          folded_gram(square, panels, from + first * n, middle, depth, n);
        } else {
          pack_centred(panels, 0, from + first * n, middle, nullptr, depth, depth * n);
          gram_lower(square, 1, panels, depth, Lists());
        }
      }
      if (panels.count() > 1)
        mirror_lower(square, n, 0, n);
    }
  });
  return 0;
}

}  // namespace

extern const Op kCovariance[] = {{"covariance_forward", covariance_forward<float>, covariance_forward<double>,
                                  covariance_space<float>, covariance_space<double>},
                                 {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
