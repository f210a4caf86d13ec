// QR factors of tall matrices by Householder reflectors in blocks, S as in householder.h: a panel of columns is reduced
// as rows, the rest of the matrix by products of matrices.
#pragma once

#include "householder.h"
#include "product.h"

namespace lc {
namespace LC_ISA {

// Reflectors that are applied at once.
constexpr int64_t kBlock = 16;
// Terms in one chain of a sum over rows: chains are added up, so that rounding does not grow with the rows.
constexpr int64_t kChain = 256;

// c[rows][columns] = init + a b over panels [0, panels) of b and c.
template <class T, Form F>
void multiply(Operands<T> o, int64_t rows, int64_t panels) {
  o.floor = -kInfinity<T>;
  const int group = group_of(rows, panels);
  for (int64_t p = 0; p < panels; p += group)
    product<T, F>(o.from(p), rows, static_cast<int>(panels - p < group ? panels - p : group));
}

// c = a b over panels [0, panels), a sum over many rows of b. part: scratch of c's size, zeros: a line.
template <class T>
void multiply_chains(const Panels<T>& c, const T* a, int64_t a_row, const Panels<T>& b, int64_t depth, int64_t rows,
                     int64_t panels, const Panels<T>& part, const T* zeros) {
  constexpr int P = kPanel<T>;
  for (int64_t k = 0; k < depth; k += kChain) {
    const Panels<T>& to = k ? part : c;
    Operands<T> o = {};
    o.a = a + k;
    o.a_row = a_row;
    o.b = b.line(0, k);
    o.b_panel = b.stride;
    o.init = zeros;
    o.c = to.at;
    o.c_row = P;
    o.c_panel = to.stride;
    o.depth = depth - k < kChain ? depth - k : kChain;
    multiply<T, Form::kRows>(o, rows, panels);
    for (int64_t p = 0; k && p < panels; ++p)
      for (int64_t i = 0; i < rows * P; i += kLanes<T>)
        store<T>(c.line(p, 0) + i, load<T>(c.line(p, 0) + i) + load<T>(part.line(p, 0) + i));
  }
}

// W = -S W (or -S' W) in place, over the panels [first, last) of W's `count` rows; gram's strict upper part is V'V's.
template <class T, bool kTransposed>
void substitute(const Panels<T>& w, int64_t first, int64_t last, int64_t count, const Panels<T>& gram, const T* tau) {
  in_groups(first, last, [&](auto panels, int64_t panel) {
    constexpr int V = decltype(panels)::value * kSplit;
    T* base = w.line(panel, 0);
    for (int64_t step = 0; step < count; ++step) {
      const int64_t i = kTransposed ? step : count - 1 - step;
      const int64_t begin = kTransposed ? 0 : i + 1, end = kTransposed ? i : count;
      T* row = base + i * kPanel<T>;
      Vec<T> sum[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[v] = load<T>(row + vector_at<T>(w.stride, v));
      for (int64_t l = begin; l < end; ++l) {
        const Vec<T> g = splat(kTransposed ? gram(l, i) : gram(i, l));
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[v] = madd(g, load<T>(base + l * kPanel<T> + vector_at<T>(w.stride, v)), sum[v]);
      }
      const Vec<T> scale = splat(-tau[i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store<T>(row + vector_at<T>(w.stride, v), sum[v] * scale);
    }
  });
}

// What the factors need beside them: w and part {kBlock, n}, part {n, kBlock}, gram {kBlock, kBlock}.
template <class T>
struct TallSpace {
  Panels<T> w, part, gram_part, gram;
  T* zeros;
};
template <class T>
TallSpace<T> take_tall_space(Carver& carver, int64_t n) {
  return {take_panels<T>(carver, kBlock, n), take_panels<T>(carver, kBlock, n), take_panels<T>(carver, n, kBlock),
          take_panels<T>(carver, kBlock, kBlock), carver.take<T>(kPanel<T>)};
}
template <class T>
void clear(const TallSpace<T>& space, int64_t n) {
  clear(space.w, n);
  clear(space.part, n);
  clear(space.gram_part, kBlock);
  clear(space.gram, kBlock);
  std::memset(space.zeros, 0, kPanel<T> * sizeof(T));
}

// Reflectors k = 0 .. count - 1, v_k in row k of a matrix of rows `row` apart and in column k of panels.
template <class T>
struct Block {
  const T* rows;
  int64_t row;
  Panels<T> columns, gram;
  const T* tau;
  int64_t count;
};

// x <- (I - V S' V') x, rows [begin, end) of panels [first, last) of x.
template <class T>
void apply(const Panels<T>& x, int64_t begin, int64_t end, int64_t first, int64_t last, const Block<T>& block,
           const TallSpace<T>& space) {
  if (first >= last)
    return;
  const Panels<T> rest = {x.line(first, begin), x.stride}, w = space.w;
  multiply_chains(w, block.rows + begin, block.row, rest, end - begin, block.count, last - first, space.part,
                  space.zeros);
  substitute<T, true>(w, 0, last - first, block.count, block.gram, block.tau);
  Operands<T> o = {};
  o.a = block.columns.line(0, begin);
  o.a_segment = block.columns.stride;
  o.b = w.at;
  o.b_panel = w.stride;
  o.c = rest.at;
  o.c_row = kPanel<T>;
  o.c_panel = rest.stride;
  o.init = o.c;
  o.init_row = o.c_row;
  o.init_panel = o.c_panel;
  o.depth = round_up(block.count, kPanel<T>);
  multiply<T, Form::kPanels>(o, end - begin, last - first);
}

// Columns of panels, rows [begin, end), from the rows of the block that starts at reflector `first`.
template <class T>
LC_INLINE void turn_rows(const Panels<T>& columns, int64_t panel, const T* rows, int64_t row, int64_t count,
                         int64_t begin, int64_t end) {
  for (int64_t q = 0; q < count; q += kPanel<T>, ++panel)
    transpose<T>(columns.line(panel, begin), kPanel<T>, rows + q * row + begin, row,
                 count - q < kPanel<T> ? count - q : kPanel<T>, end - begin);
}

// N rows of x less tau (x . v) v.
template <class T, int N>
LC_INLINE void reflect_rows(T* x, int64_t row, const T* v, T tau, int64_t begin, int64_t end) {
  constexpr int L = kLanes<T>;
  Vec<T> sum_of[N] = {};
  for (int64_t i = begin; i < end; i += L) {
    const Vec<T> a = load<T>(v + i);
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) sum_of[r] = madd(a, load<T>(x + r * row + i), sum_of[r]);
  }
  Vec<T> by[N];
#pragma GCC unroll 4
  for (int r = 0; r < N; ++r) by[r] = splat(-tau * sum<T>(sum_of[r]));
  for (int64_t i = begin; i < end; i += L) {
    const Vec<T> a = load<T>(v + i);
#pragma GCC unroll 4
    for (int r = 0; r < N; ++r) store<T>(x + r * row + i, madd(a, by[r], load<T>(x + r * row + i)));
  }
}

// The QR factors of a, m x n, m > n: on return a = V, rows = V' (rows `row` apart, a multiple of the lanes), r = R with
// zeros below, and if `whole` gram is the strict upper part of V'V, else a kBlock square of scratch.
template <class T>
struct Factors {
  Panels<T> a, r, gram;
  T* rows;
  int64_t row;
  T* tau;
};
template <class T>
void factor(const Factors<T>& f, int64_t m, int64_t n, bool whole, const TallSpace<T>& space) {
  constexpr int P = kPanel<T>;
  const int64_t end = round_up(m, kLanes<T>);
  clear(f.r, n);
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = n - first < kBlock ? n - first : kBlock, panel = first / P;
    T* rows = f.rows + first * f.row;
    for (int64_t q = 0; q < count; q += P) {
      const int64_t width = count - q < P ? count - q : P;
      T* above = f.a.line(panel + q / P, 0);
      std::memcpy(f.r.line(panel + q / P, 0), above, first * P * sizeof(T));
      std::memset(above, 0, first * P * sizeof(T));
      transpose<T>(rows + q * f.row + first, f.row, above + first * P, P, m - first, width);
    }
    for (int64_t j = 0; j < count; ++j)
      for (int64_t i = m; i < end; ++i) rows[j * f.row + i] = 0;
    for (int64_t j = 0; j < count; ++j) {
      T* v = rows + j * f.row;
      const int64_t at = first + j;
      for (int64_t i = first; i < at; ++i) {
        f.r(i, at) = v[i];
        v[i] = 0;
      }
      const Reflector<T> h = reflect(v, at, end);
      f.tau[at] = h.tau;
      f.r(at, at) = h.value;
      const int64_t begin = at / kLanes<T> * kLanes<T>;
      int64_t i = j + 1;
      for (; i + 4 <= count; i += 4) reflect_rows<T, 4>(rows + i * f.row, f.row, v, h.tau, begin, end);
      for (; i < count; ++i) reflect_rows<T, 1>(rows + i * f.row, f.row, v, h.tau, begin, end);
    }
    turn_rows(f.a, panel, rows, f.row, count, first, m);
    const Panels<T> gram = whole ? Panels<T>{f.gram.line(panel, first), f.gram.stride} : f.gram;
    const Block<T> block = {rows, f.row, {f.a.line(panel, 0), f.a.stride}, gram, f.tau + first, count};
    const int64_t before = whole ? first : 0;
    multiply_chains<T>({gram.line(0, -before), gram.stride}, rows - before * f.row + first, f.row,
                       {f.a.line(panel, first), f.a.stride}, m - first, before + count, panels_of<T>(count),
                       space.gram_part, space.zeros);
    apply(f.a, first, m, panel + kBlock / P, panels_of<T>(n), block, space);
  }
}

// x = Q [y; 0], m x n, from V {m, n} in row-major memory; y, n x n, and gram as above. rows {n, row} and w, n x n, are
// scratch.
template <class T>
void expand(const Panels<T>& x, const Panels<T>& y, const T* v, int64_t m, int64_t n, const Panels<T>& gram,
            const T* tau, T* rows, int64_t row, const Panels<T>& w, const T* zeros) {
  const int64_t panels = panels_of<T>(n);
  transpose<T>(rows, row, v, n, n, n);
  Operands<T> o = {};
  o.a = rows;
  o.a_row = row;
  o.b = y.at;
  o.b_panel = y.stride;
  o.init = zeros;
  o.c = w.at;
  o.c_row = kPanel<T>;
  o.c_panel = w.stride;
  o.depth = n;
  multiply<T, Form::kRows>(o, n, panels);
  substitute<T, false>(w, 0, panels, n, gram, tau);
  o.a = v + n * n;
  o.a_row = n;
  o.b = w.at;
  o.b_panel = w.stride;
  o.c = x.line(0, n);
  o.c_panel = x.stride;
  multiply<T, Form::kRows>(o, m - n, panels);
  o.a = v;
  o.init = y.at;
  o.init_row = kPanel<T>;
  o.init_panel = y.stride;
  o.c = x.at;
  multiply<T, Form::kRows>(o, n, panels);
}

}  // namespace LC_ISA
}  // namespace lc
