// The Gram matrix of rows: centred and packed into panels one cache line wide, multiplied with themselves.
//
// Only tiles on and below the diagonal are computed. An output is a chain of multiply-adds in T over kChain rows;
// chains are added up in double, in ascending order. What is summed in which order depends on the rows alone.
#pragma once

#include "op.h"
#include "product.h"
#include "transpose.h"
#include "widen.h"

namespace lc {
namespace LC_ISA {

constexpr int64_t kChain = 256;

// A tile: so many rows of the Gram matrix, which divide a panel, and so many panels of its columns.
#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTilePanels = 3;
#elif defined(__AVX2__)
constexpr int kTileRows = 4, kTilePanels = 1;
#else
constexpr int kTileRows = 2, kTilePanels = 1;
#endif

// Rows in panels [divide_up(columns, panel)][stride], a row of a panel at k * panel.
template <class T>
struct Panels {
  T* data;
  int64_t stride;   // elements from one panel to the next
  int64_t columns;  // the last panel is padded with zeros

  LC_INLINE int64_t count() const { return divide_up(columns, kPanel<T>); }
};
// The stride of panels for so many rows: an odd number of lines, so that one row of many panels fits a cache.
template <class T>
LC_INLINE int64_t panel_stride(int64_t rows) {
  return (rows | 1) * kPanel<T>;
}

// mean[columns] = sum of w x over the sum of w, which is returned; zeros if that is 0. weight may be null: ones.
template <class T>
double mean_of(double* mean, const T* x, const double* weight, int64_t rows, int64_t columns) {
  for_wide_lanes(columns, [&](int64_t j, auto, auto put) LC_LAMBDA { put(mean + j, Vec<double>{}); });
  double total = 0;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* row = x + r * columns;
    double w[4];
    for (int i = 0; i < 4; ++i) w[i] = weight ? weight[r + i] : 1;
    total += (w[0] + w[1]) + (w[2] + w[3]);
    for_wide_lanes(columns, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      const Vec<double> low = madd(splat(w[1]), get(row + columns + j), splat(w[0]) * get(row + j));
      const Vec<double> high = madd(splat(w[3]), get(row + 3 * columns + j), splat(w[2]) * get(row + 2 * columns + j));
      put(mean + j, get(mean + j) + (low + high));
    });
  }
  for (; r < rows; ++r) {
    const double w = weight ? weight[r] : 1;
    total += w;
    for_wide_lanes(columns, [&](int64_t j, auto get, auto put)
                                LC_LAMBDA { put(mean + j, madd(splat(w), get(x + r * columns + j), get(mean + j))); });
  }
  if (total != 0)
    for_wide_lanes(columns,
                   [&](int64_t j, auto get, auto put) LC_LAMBDA { put(mean + j, get(mean + j) / splat(total)); });
  return total;
}

// sqrt(w) (x - mean), in double and rounded once, as rows [first, first + rows) of the panels. weight may be null.
template <class T>
void pack_centred(const Panels<T>& panels, int64_t first, const T* x, const double* mean, const double* weight,
                  int64_t rows) {
  constexpr int L = kLanes<double>;
  const int64_t columns = panels.columns, whole = columns / kPanel<T> * kPanel<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * columns;
    T* to = panels.data + (first + r) * kPanel<T>;
    const Vec<double> scale = splat(weight ? __builtin_sqrt(weight[r]) : 1.0);
    for (int64_t j = 0; j < whole; j += kPanel<T>, to += panels.stride)
      for (int v = 0; v < kPanel<T>; v += L) narrow(to + v, (widen(from + j + v) - widen(mean + j + v)) * scale);
    for (int64_t j = whole; j < columns; j += L) {
      const int left = static_cast<int>(columns - j < L ? columns - j : int64_t{L});
      narrow(to + (j - whole), (widen_first(from + j, left) - widen_first(mean + j, left)) * scale);
    }
    for (int64_t j = round_up(columns, L); j < round_up(columns, kPanel<T>); j += L)
      narrow(to + (j - whole), Vec<double>{});
  }
}

// gram[rows][columns] += A' B over `depth` rows, A at a[k * panel + m], B in P panels.
template <class T, int P>
__attribute__((noinline)) void gram_tile(double* gram, int64_t gram_row, int rows, int columns, const T* a, const T* b,
                                         int64_t stride, int64_t depth) {
  constexpr int V = P * kSplit, L = kLanes<T>, D = kLanes<double>, W = P * kPanel<T>;
  alignas(64) T chain[kTileRows * W];
  alignas(64) double sum[kTileRows * W];
  for (int m = 0; m < rows; ++m)
    for (int j = 0; j < columns; j += 8) __builtin_prefetch(gram + m * gram_row + j, 1);
  for (int64_t first = 0; first < depth; first += kChain) {
    const int64_t last = first + kChain < depth ? first + kChain : depth;
    Vec<T> acc[kTileRows][V] = {};
    for (int64_t k = first; k < last; ++k, a += kPanel<T>, b += kPanel<T>) {
      Vec<T> row[V];
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) {
        row[v] = load<T>(b + v / kSplit * stride + v % kSplit * L);
        pin(row[v]);
      }
#pragma GCC unroll 16
      for (int m = 0; m < kTileRows; ++m) {
        const Vec<T> x = splat(a[m]);
#pragma GCC unroll 32
        for (int v = 0; v < V; ++v) acc[m][v] = madd(x, row[v], acc[m][v]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kTileRows; ++m)
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) store<T>(chain + m * W + v * L, acc[m][v]);
    if (first == 0)
      for (int i = 0; i < kTileRows * W; i += D) store<double>(sum + i, widen(chain + i));
    else
      for (int i = 0; i < kTileRows * W; i += D) store<double>(sum + i, load<double>(sum + i) + widen(chain + i));
  }
  for (int m = 0; m < rows; ++m) {
    double* to = gram + m * gram_row;
    for_wide_lanes(columns,
                   [&](int64_t j, auto get, auto put) LC_LAMBDA { put(to + j, get(to + j) + get(sum + m * W + j)); });
  }
}

// gram[columns][columns] += X' X for the rows [0, depth) of the panels: rows [begin, end) of the group-th kTilePanels
// panels of columns, as far as they lie on or below the diagonal, and some above it.
template <class T>
void gram_column(double* gram, const Panels<T>& x, int64_t depth, int64_t group, int64_t begin, int64_t end) {
  const int64_t n = x.columns, first = group * kTilePanels;
  const int64_t from = first * kPanel<T> > begin ? first * kPanel<T> : begin;
  const T* b = x.data + first * x.stride;
  for (int64_t i = from; i < end; i += kTileRows) {
    const T* a = x.data + i / kPanel<T> * x.stride + i % kPanel<T>;
    double* c = gram + i * n + first * kPanel<T>;
    const int rows = static_cast<int>(end - i < kTileRows ? end - i : int64_t{kTileRows});
    // Panels up to that of the diagonal, and columns up to the last.
    const int64_t reach = i / kPanel<T> - first + 1;
    const int panels = static_cast<int>(reach < kTilePanels ? reach : int64_t{kTilePanels});
    const int64_t left = n - first * kPanel<T>;
    const int columns = static_cast<int>(panels * kPanel<T> < left ? panels * int64_t{kPanel<T>} : left);
    if (panels == 1)
      gram_tile<T, 1>(c, n, rows, columns, a, b, x.stride, depth);
#if defined(__AVX512F__)
    else if (panels == 2)
      gram_tile<T, 2>(c, n, rows, columns, a, b, x.stride, depth);
    else
      gram_tile<T, 3>(c, n, rows, columns, a, b, x.stride, depth);
#endif
  }
}

// The lower triangle of gram[n][n] += X' X over rows [0, depth) of the panels; a thread owns tiles.
template <class T>
void gram_lower(double* gram, const Panels<T>& x, int64_t depth, Team& team) {
  constexpr int64_t kChunk = 256;  // rows of the Gram matrix that one task takes
  const int64_t n = x.columns, groups = divide_up(x.count(), kTilePanels), chunks = divide_up(n, kChunk);
  team.each(chunks * groups, [&](int64_t task, int) {
    const int64_t end = (task / groups + 1) * kChunk;
    gram_column(gram, x, depth, task % groups, task / groups * kChunk, end < n ? end : n);
  });
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
