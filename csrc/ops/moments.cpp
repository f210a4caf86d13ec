// Count, mean and Gram matrix of rows, merged into those of earlier rows.
//
// A block of rows is centred on its own mean, in double and rounded once: what float32 loses is relative to the spread
// inside the block, whatever the offset of the data. The blocks' means, and that of the state, are rows of a second
// Gram matrix, in double, each weighed with its count: exact merging is one more product (Chan, Golub & LeVeque 1983).
#include "../syrk.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kBlock = kChain;        // rows that are centred on one mean
constexpr int64_t kSlab = 4 * kBlock;     // rows that are packed at a time
constexpr int64_t kSection = 64 * kSlab;  // rows whose block means are merged at a time

template <class T>
struct Space {
  int64_t slab, means;  // rows of a slab; block means of a section, and the state's
  T* panels;
  double *mean, *weight, *spread;

  Space(Carver& c, int64_t rows, int64_t features)
      : slab(rows < kSlab ? rows : kSlab),
        means(divide_up(rows < kSection ? rows : kSection, kBlock) + 1),
        panels(c.take<T>(panel_stride<T>(slab) * divide_up(features, kPanel<T>))),
        mean(c.take<double>(means * features)),
        weight(c.take<double>(means)),
        spread(c.take<double>(panel_stride<double>(means) * divide_up(features, kPanel<double>))) {}
};

template <class T>
int64_t moments_space(const Call& call, int64_t capacity, int) {
  Carver c(nullptr);
  Space<T>(c, call.size[1].at(capacity), call.size[0].at(capacity));
  return c.used();
}

// count[1] mean[f] gram[f,f] = x[r,f] weight?[r]; sizes f, r; option: accumulate
template <class T>
int moments_forward(const Call& call, const Run& run) {
  double *count = run.get<double>(call, 0), *mean = run.get<double>(call, 1), *gram = run.get<double>(call, 2);
  const T* x = run.get<T>(call, 3);
  const double* weight = run.get<double>(call, 4);
  const int64_t n = run.size(call, 0), all = run.size(call, 1);
  Carver carver(run.workspace);
  const Space<T> space(carver, all, n);
  Team& team = *run.team;

  if (call.option[0] == 0 || *count == 0) {
    *count = 0;
    std::memset(mean, 0, sizeof(double) * static_cast<size_t>(n));
    std::memset(gram, 0, sizeof(double) * static_cast<size_t>(n * n));
  }
  for (int64_t section = 0; section < all; section += kSection) {
    const int64_t rows = all - section < kSection ? all - section : kSection, blocks = divide_up(rows, kBlock);
    for (int64_t slab = 0; slab < rows; slab += kSlab) {
      const int64_t depth = rows - slab < kSlab ? rows - slab : kSlab;
      const Panels<T> panels{space.panels, panel_stride<T>(space.slab), n};
      team.each(divide_up(depth, kBlock), [&](int64_t i, int) {
        const int64_t first = i * kBlock, size = depth - first < kBlock ? depth - first : kBlock;
        const int64_t row = section + slab + first, block = 1 + slab / kBlock + i;
        const T* from = x + row * n;
        const double* w = weight ? weight + row : nullptr;
        space.weight[block] = mean_of(space.mean + block * n, from, w, size, n);
        pack_centred(panels, first, from, space.mean + block * n, w, size);
      });
      gram_lower(gram, panels, depth, team);
    }
    std::memcpy(space.mean, mean, sizeof(double) * static_cast<size_t>(n));
    space.weight[0] = *count;
    *count = mean_of(mean, space.mean, space.weight, blocks + 1, n);
    const Panels<double> spread{space.spread, panel_stride<double>(space.means), n};
    pack_centred(spread, 0, space.mean, mean, space.weight, blocks + 1);
    gram_lower(gram, spread, blocks + 1, team);
  }
  team.each(divide_up(n, kMirror), [&](int64_t task, int) {
    const int64_t end = (task + 1) * kMirror;
    mirror_lower(gram, n, task * kMirror, end < n ? end : n);
  });
  return 0;
}

}  // namespace

extern const Op kMoments[] = {
    {"moments_forward", moments_forward<float>, moments_forward<double>, moments_space<float>, moments_space<double>},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
