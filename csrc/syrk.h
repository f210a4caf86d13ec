// The Gram matrix of rows that lie in panels: their product with themselves, added up in double.
//
// Only tiles on and below the diagonal are computed. An output is a chain of multiply-adds in T over kChain rows;
// chains are added up in double, in ascending order. What is summed in which order depends on the rows alone.
#pragma once

#include "centre.h"
#include "op.h"
#include "product.h"
#include "transpose.h"
#include "widen.h"

namespace lc {
namespace LC_ISA {

constexpr int64_t kChain = 128;

// A strip of the Gram matrix: so many rows, which divide a panel; and the panels that a tile of one may have.
#if defined(__AVX512F__)
constexpr int kStrip = 4, kTilePanels = 6;
#elif defined(__AVX2__)
constexpr int kStrip = 4, kTilePanels = 1;
#else
constexpr int kStrip = 2, kTilePanels = 1;
#endif

// Of each strip of columns, in each chain: the rows that are not all zero; length kDense: not told, take all.
// A null list: no strip is told.
constexpr int16_t kDense = -1;
struct Lists {
  uint8_t* rows;    // [chains][strips][kChain]
  int16_t* length;  // [chains][strips]
  int64_t strips;

  Lists() : rows(nullptr), length(nullptr), strips(0) {}
  Lists(Carver& c, int64_t depth, int64_t columns)
      : rows(c.take<uint8_t>(divide_up(depth, kChain) * divide_up(columns, kStrip) * kChain)),
        length(c.take<int16_t>(divide_up(depth, kChain) * divide_up(columns, kStrip))),
        strips(divide_up(columns, kStrip)) {}
};

// gram[rows][columns] += sign A' B over `depth` rows, A at a[k * panel + m], B in P panels. lists: of the strip of A,
// if any.
template <class T, int M, int P>
__attribute__((noinline)) void gram_tile(double* gram, int64_t gram_row, int rows, int columns, double sign, const T* a,
                                         const T* b, int64_t stride, int64_t depth, const Lists& lists, int64_t strip) {
  constexpr int V = P * kSplit, L = kLanes<T>, D = kLanes<double>, W = P * kPanel<T>;
  alignas(64) double sum[M * W];
  for (int m = 0; m < rows; ++m)
    for (int j = 0; j < columns; j += 8) __builtin_prefetch(gram + m * gram_row + j, 1);
  for (int64_t first = 0; first < depth; first += kChain, a += kChain * kPanel<T>, b += kChain * kPanel<T>) {
    Vec<T> acc[M][V] = {};
    const auto step = [&](int64_t k) LC_LAMBDA {
      Vec<T> row[V];
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) {
        row[v] = load<T>(b + k * kPanel<T> + v / kSplit * stride + v % kSplit * L);
        pin(row[v]);
      }
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec<T> x = splat(a[k * kPanel<T> + m]);
#pragma GCC unroll 32
        for (int v = 0; v < V; ++v) acc[m][v] = madd(x, row[v], acc[m][v]);
      }
    };
    const int64_t at = first / kChain * lists.strips + strip;
    if (lists.rows && lists.length[at] != kDense) {
      const uint8_t* list = lists.rows + at * kChain;
      for (int i = 0; i < lists.length[at]; ++i) step(list[i]);
    } else {
      const int64_t count = depth - first < kChain ? depth - first : kChain;
      for (int64_t k = 0; k < count; ++k) step(k);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) {
        Vec<double> wide[kWide<T>];
        widen<T>(acc[m][v], wide);
        for (int i = 0; i < kWide<T>; ++i) {
          double* to = sum + m * W + v * L + i * D;
          store<double>(to, first ? load<double>(to) + wide[i] : wide[i]);
        }
      }
  }
  for (int m = 0; m < rows; ++m) {
    double* to = gram + m * gram_row;
    for_wide_lanes(columns, [&](int64_t j, auto get, auto put)
                                LC_LAMBDA { put(to + j, get(to + j) + splat(sign) * get(sum + m * W + j)); });
  }
}

// The tiles by their panels, of one strip and of a tall one, whose few panels would leave registers idle.
template <class T>
using Tile = void (*)(double*, int64_t, int, int, double, const T*, const T*, int64_t, int64_t, const Lists&, int64_t);
#if defined(__AVX512F__)
constexpr int kTall = 8, kTallPanels = 3;
template <class T>
constexpr Tile<T> kTiles[2][kTilePanels + 1] = {{nullptr, gram_tile<T, 4, 1>, gram_tile<T, 4, 2>, gram_tile<T, 4, 3>,
                                                 gram_tile<T, 4, 4>, gram_tile<T, 4, 5>, gram_tile<T, 4, 6>},
                                                {nullptr, gram_tile<T, 8, 1>, gram_tile<T, 8, 2>, gram_tile<T, 8, 3>}};
#else
constexpr int kTall = kStrip, kTallPanels = 0;
template <class T>
constexpr Tile<T> kTiles[2][kTilePanels + 1] = {{nullptr, gram_tile<T, kStrip, 1>}};
#endif

// Rows [begin, end) of gram[columns][columns] += sign X' X, over rows [0, depth) of the panels: what lies in the
// group-th kTilePanels panels of columns, on and below the diagonal, and some above it.
template <class T>
void gram_column(double* gram, double sign, const Packed<T>& x, int64_t depth, const Lists& lists, int64_t group,
                 int64_t begin, int64_t end) {
  const int64_t n = x.columns, first = group * kTilePanels;
  const int64_t from = first * kPanel<T> > begin ? first * kPanel<T> : begin;
  const T* b = x.data + first * x.stride;
  for (int64_t i = from, step; i < end; i += step) {
    const T* a = x.data + i / kPanel<T> * x.stride + i % kPanel<T>;
    double* c = gram + i * n + first * kPanel<T>;
    // Panels up to that of the diagonal, and columns up to the last.
    const int64_t reach = i / kPanel<T> - first + 1, left = n - first * kPanel<T>;
    const int panels = static_cast<int>(reach < kTilePanels ? reach : int64_t{kTilePanels});
    const int columns = static_cast<int>(panels * kPanel<T> < left ? panels * int64_t{kPanel<T>} : left);
    const bool tall = panels <= kTallPanels && !lists.rows && i % kTall == 0;
    step = tall ? kTall : kStrip;
    const int rows = static_cast<int>(end - i < step ? end - i : step);
    kTiles<T>[tall][panels](c, n, rows, columns, sign, a, b, x.stride, depth, lists, i / kStrip);
  }
}

// The lower triangle of gram[columns][columns] += sign X' X over rows [0, depth) of the panels, on this thread.
template <class T>
void gram_lower(double* gram, double sign, const Packed<T>& x, int64_t depth, const Lists& lists) {
  for (int64_t group = 0; group < divide_up(x.count(), kTilePanels); ++group)
    gram_column(gram, sign, x, depth, lists, group, 0, x.columns);
}

// ---- rows so short that several make one of a panel: its Gram matrix holds theirs on its diagonal -----------------

template <class T>
LC_INLINE int64_t fold_of(int64_t columns) {
  return columns > kPanel<T> ? 1 : kPanel<T> / columns;
}

// mean[n] of the rows.
template <class T>
void folded_mean(double* mean, const T* x, int64_t rows, int64_t n) {
  const int64_t fold = fold_of<T>(n), wide = fold * n, whole = rows / fold, rest = rows % fold;
  double sums[kPanel<T>] = {};
  add_rows(sums, x, nullptr, whole, wide);
  add_rows(sums, x + whole * wide, nullptr, 1, rest * n);
  for (int64_t j = 0; j < n; ++j) {
    double sum = 0;
    for (int64_t i = j; i < wide; i += n) sum += sums[i];
    mean[j] = sum / static_cast<double>(rows);
  }
}

// gram[n][n] += the Gram matrix of the rows about the mean. panels: one, of fold_of(n) * n columns.
template <class T>
void folded_gram(double* gram, const Packed<T>& panels, const T* x, const double* mean, int64_t rows, int64_t n) {
  const int64_t wide = panels.columns, fold = wide / n, whole = rows / fold, rest = rows % fold;
  double means[kPanel<T>], square[kPanel<T> * kPanel<T>] = {};
  for (int64_t i = 0; i < wide; ++i) means[i] = mean[i % n];
  pack_centred(panels, 0, x, means, nullptr, whole, rows * n);
  if (rest)
    pack_centred(Packed<T>{panels.data, panels.stride, rest * n}, whole, x + whole * wide, means, nullptr, 1);
  gram_lower(square, 1, panels, whole + (rest > 0), Lists());
  for (int64_t f = 0; f < wide; f += n)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) gram[i * n + j] += square[(f + i) * wide + f + j];
}

constexpr int64_t kMirror = 64;

// Copies rows [begin, end) of the lower triangle of gram[n][n] to the upper one; begin is a multiple of kMirror.
inline void mirror_lower(double* gram, int64_t n, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i += kMirror) {
    const int64_t rows = end - i < kMirror ? end - i : kMirror;
    for (int64_t j = 0; j < i; j += kMirror) transpose(gram + j * n + i, n, gram + i * n + j, n, rows, kMirror);
    for (int64_t r = i; r < i + rows; ++r)
      for (int64_t c = i; c < r; ++c) gram[c * n + r] = gram[r * n + c];
  }
}

}  // namespace LC_ISA
}  // namespace lc
