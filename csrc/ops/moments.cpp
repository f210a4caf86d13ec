// Count, mean and Gram matrix of rows, merged into those of earlier rows.
//
// A block of rows is centred on its own mean, in double and rounded once: what float32 loses is relative to the spread
// inside the block, whatever the offset of the data. The blocks' means, and that of the state, are rows of a second
// Gram matrix, in double, each weighed with its count: exact merging is one more product (Chan, Golub & LeVeque 1983).
#include "../syrk.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kBlock = 256;   // panel rows that are centred on one mean
constexpr int64_t kNarrow = 128;  // features up to which each thread takes rows of its own
constexpr int64_t kTasks = 32;    // of a section: the rows whose block means are merged at a time

// How rows are cut, by the number of features alone.
template <class T>
struct Cut {
  int64_t fold, block, slab, task;
  bool narrow;

  Cut(int64_t features, bool weighted)
      : fold(weighted ? 1 : fold_of<T>(features)),
        block(kBlock * fold),
        slab(4 * block),
        task(features <= 32 ? 8 * slab : slab),
        narrow(features <= kNarrow) {}
};

template <class T>
struct Space {
  int64_t depth, blocks;
  double *mean, *removed, *weight, *partial;  // of the blocks, behind a row for the state; of the tasks
  bool* any;
  T* zeros;
  Packed<double> spread;
  Packed<T>* panels;
  Lists* lists;

  Space(Carver& c, const Cut<T>& cut, int64_t rows, int64_t n, int threads) {
    const int64_t section = rows < kTasks * cut.task ? rows : kTasks * cut.task;
    const int64_t sets = cut.narrow ? threads : 1;
    depth = divide_up(rows < cut.slab ? rows : cut.slab, cut.fold);
    blocks = divide_up(section, cut.block);
    mean = c.take<double>((blocks + 1) * n);
    removed = c.take<double>((blocks + 1) * n);
    weight = c.take<double>(blocks + 1);
    partial = c.take<double>(cut.narrow ? divide_up(section, cut.task) * n * n : 0);
    any = c.take<bool>(blocks);
    zeros = c.take<T>(n * threads);
    spread = take_packed<double>(c, blocks + 1, n);
    panels = c.take<Packed<T>>(sets);
    lists = c.take<Lists>(sets);
    for (int64_t i = 0; i < sets; ++i) {
      const Packed<T> p = take_packed<T>(c, depth, n * cut.fold);
      const Lists l = cut.fold > 1 ? Lists() : Lists(c, depth, n);
      if (panels) {
        panels[i] = p;
        lists[i] = l;
      }
    }
  }
  // Whether any of the blocks has columns that were not centred.
  bool listed(int64_t begin, int64_t end) const {
    bool some = false;
    for (int64_t i = begin; i < end; ++i) some |= any[i];
    return some;
  }
};

template <class T>
int64_t moments_space(const Call& call, int64_t capacity, int threads) {
  const int64_t n = call.size[0].value;
  Carver c(nullptr);
  Space<T>(c, Cut<T>(n, call.argument[4] >= 0), call.size[1].at(capacity), n, threads);
  return c.used();
}

// The lower triangle of gram[columns][columns] += sign X' X, on a team: a thread owns tiles.
template <class T>
void gram_shared(double* gram, double sign, const Packed<T>& x, int64_t depth, const Lists& lists, Team& team) {
  constexpr int64_t kChunk = 96;  // rows of the Gram matrix that one task takes
  const int64_t n = x.columns, groups = divide_up(x.count(), kTilePanels), chunks = divide_up(n, kChunk);
  team.each(chunks * groups, [&](int64_t task, int) {
    const int64_t chunk = chunks - 1 - task / groups, end = (chunk + 1) * kChunk;  // the longest first
    gram_column(gram, sign, x, depth, lists, task % groups, chunk * kChunk, end < n ? end : n);
  });
}

// One block: its mean, its weight, and its centred rows from row `first` of the panels on.
template <class T>
void take_block(const Space<T>& space, int64_t block, const Packed<T>& panels, const Lists& lists, int64_t first,
                const T* x, const double* weight, int64_t rows, T* zeros, int64_t ahead) {
  const int64_t n = panels.columns;
  double *mean = space.mean + (block + 1) * n, *removed = space.removed + (block + 1) * n;
  const double total = mean_of(mean, x, weight, rows, n);
  space.weight[block + 1] = total;
  space.any[block] = uncentre(removed, mean, zeros, x, weight, total, rows, n);
  pack_centred(panels, first, x, mean, weight, rows, ahead);
  for (int64_t strip = 0; strip < lists.strips; ++strip) {
    const int64_t column = strip * kStrip;
    bool plain = space.any[block];
    for (int64_t j = column; plain && j < n && j < column + kStrip; ++j) plain = mean[j] == 0;
    for (int64_t r = 0; r < rows; r += kChain) {
      const T* from = panels.data + column / kPanel<T> * panels.stride + (first + r) * kPanel<T> + column % kPanel<T>;
      const int64_t at = (first + r) / kChain * lists.strips + strip, count = rows - r < kChain ? rows - r : kChain;
      const int64_t found = plain ? list_rows<T, kStrip>(lists.rows + at * kChain, from, count) : count;
      lists.length[at] = static_cast<int16_t>(4 * found > 3 * count ? kDense : found);
    }
  }
  for (int64_t j = 0; j < n; ++j) mean[j] += removed[j];
}

// The same where several rows make one of a panel; adds its Gram matrix to gram[n][n].
template <class T>
void take_folded(const Space<T>& space, int64_t block, const Packed<T>& panels, const T* x, int64_t rows, int64_t n,
                 double* gram) {
  double* mean = space.mean + (block + 1) * n;
  folded_mean(mean, x, rows, n);
  folded_gram(gram, panels, x, mean, rows, n);
  space.weight[block + 1] = static_cast<double>(rows);
  space.any[block] = false;
}

// count[1] mean[f] gram[f,f] = x[r,f] weight?[r]; sizes f, r; option: accumulate
template <class T>
int moments_forward(const Call& call, const Run& run) {
  double *count = run.get<double>(call, 0), *mean = run.get<double>(call, 1), *gram = run.get<double>(call, 2);
  const T* data = run.get<T>(call, 3);
  const double* weights = run.get<double>(call, 4);
  const int64_t n = run.size(call, 0), all = run.size(call, 1);
  const Cut<T> cut(n, weights != nullptr);
  Carver carver(run.workspace);
  Team& team = *run.team;
  const Space<T> space(carver, cut, all, n, team.threads());

  if (call.option[0] == 0 || *count == 0) {
    *count = 0;
    std::memset(mean, 0, sizeof(double) * static_cast<size_t>(n));
    std::memset(gram, 0, sizeof(double) * static_cast<size_t>(n * n));
  }
  for (int64_t section = 0; section < all; section += kTasks * cut.task) {
    const int64_t rows = all - section < kTasks * cut.task ? all - section : kTasks * cut.task;
    const int64_t tasks = divide_up(rows, cut.task), blocks = divide_up(rows, cut.block);
    const T* x = data + section * n;
    const double* weight = weights ? weights + section : nullptr;
    // The rows of block i, which lie in the panels from row `first` on.
    const auto take = [&](int64_t i, int64_t first, const Packed<T>& panels, const Lists& lists, int thread,
                          int64_t ahead) {
      const int64_t row = i * cut.block, size = rows - row < cut.block ? rows - row : cut.block;
      take_block(space, i, panels, lists, first, x + row * n, weight ? weight + row : nullptr, size,
                 space.zeros + thread * n, ahead * size * n);
    };
    if (cut.narrow) {
      team.each(tasks, [&](int64_t task, int thread) {
        double* own = space.partial + task * n * n;
        std::memset(own, 0, sizeof(double) * static_cast<size_t>(n * n));
        const int64_t end = (task + 1) * cut.task < rows ? (task + 1) * cut.task : rows;
        for (int64_t slab = task * cut.task; slab < end; slab += cut.slab) {
          const int64_t last = slab + cut.slab < end ? slab + cut.slab : end;
          const int64_t begin = slab / cut.block, stop = divide_up(last, cut.block);
          for (int64_t i = begin; i < stop; ++i) {
            const int64_t row = i * cut.block, size = last - row < cut.block ? last - row : cut.block;
            if (cut.fold > 1)
              take_folded(space, i, space.panels[thread], x + row * n, size, n, own);
            else
              take(i, row - slab, space.panels[thread], space.lists[thread], thread, 1);
          }
          if (cut.fold == 1)
            gram_lower(own, 1, space.panels[thread], last - slab,
                       space.listed(begin, stop) ? space.lists[thread] : Lists());
        }
      });
      for (int64_t task = 0; task < tasks; ++task)
        for_lanes<double>(n * n, [&](int64_t i, auto get, auto put) LC_LAMBDA {
          put(gram + i, get(gram + i) + get(space.partial + task * n * n + i));
        });
    } else {
      for (int64_t slab = 0; slab < rows; slab += cut.slab) {
        const int64_t depth = rows - slab < cut.slab ? rows - slab : cut.slab, begin = slab / cut.block;
        team.each(divide_up(depth, cut.block), [&](int64_t i, int thread) {
          take(begin + i, i * cut.block, space.panels[0], space.lists[0], thread, team.threads());
        });
        const bool listed = space.listed(begin, begin + divide_up(depth, cut.block));
        gram_shared(gram, 1, space.panels[0], depth, listed ? space.lists[0] : Lists(), team);
      }
    }

    std::memcpy(space.mean, mean, sizeof(double) * static_cast<size_t>(n));
    space.weight[0] = *count;
    *count = mean_of(mean, space.mean, space.weight, blocks + 1, n);
    pack_centred(space.spread, 0, space.mean, mean, space.weight, blocks + 1);
    gram_shared(gram, 1, space.spread, blocks + 1, Lists(), team);
    if (space.listed(0, blocks)) {  // what was not centred has its mean's part in it
      std::memset(space.removed, 0, sizeof(double) * static_cast<size_t>(n));
      pack_centred(space.spread, 0, space.removed, space.removed, space.weight, blocks + 1);
      gram_shared(gram, -1, space.spread, blocks + 1, Lists(), team);
    }
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
