// Householder reflectors H = I - tau v v', v[first] = 1, and products of them in blocks. The blocks use the form
// H_0 H_1 ... = I - V S V' with S^-1 = striu(V'V) + diag(1 / tau), so that S is applied by substitution and never
// formed (Joffrain, Low, Quintana-Orti, van de Geijn, Van Zee: Accumulating Householder transformations, revisited,
// 2006).
#pragma once

#include "panels.h"
#include "product.h"
#include "transpose.h"

namespace lc {
namespace LC_ISA {

// Reflectors that are applied at once.
constexpr int64_t kBlock = 16;

template <class T>
struct Reflector {
  T tau, value;
};

// Reflectors in rows, a row of 0 before the first; `row` is a multiple of a panel.
template <class T>
struct ReflectorRows {
  T *at, *tau;
  int64_t row;

  LC_INLINE T* operator[](int64_t k) const { return at + k * row; }
};
template <class T>
LC_INLINE ReflectorRows<T> take_reflectors(Carver& carver, int64_t n) {
  const int64_t row = round_up(n, kPanel<T>) + kPanel<T>;
  T* at = carver.take<T>((n + 1) * row);
  return {at ? at + row : at, carver.take<T>(n), row};
}
template <class T>
LC_INLINE void clear(const ReflectorRows<T>& of, int64_t n) {
  std::memset(of.at - of.row, 0, (n + 1) * of.row * sizeof(T));
}

// Turns x[first .. end) into (value, 0 ...). On return x is v: 0 down to a multiple of the lanes before `first`; `end`
// is such a multiple. Entries are about 1 or smaller: a rest of no length worth the name is left alone (tau = 0).
template <class T>
LC_INLINE Reflector<T> reflect(T* x, int64_t first, int64_t end) {
  constexpr T kLeast = sizeof(T) == 4 ? static_cast<T>(1e-26) : static_cast<T>(1e-60);
  constexpr int L = kLanes<T>;
  const int64_t begin = first / L * L;
  const Mask<T> number = numbers<T>(begin), at = Mask<T>{} + static_cast<Int<T>>(first);
  const Vec<T> start = number > at ? load<T>(x + begin) : Vec<T>{};
  Vec<T> sum0 = start * start, sum1 = {};
  int64_t i = begin + L;
  for (; i + 2 * L <= end; i += 2 * L) {
    sum0 = madd(load<T>(x + i), load<T>(x + i), sum0);
    sum1 = madd(load<T>(x + i + L), load<T>(x + i + L), sum1);
  }
  if (i < end)
    sum0 = madd(load<T>(x + i), load<T>(x + i), sum0);
  const T head = x[first], rest = sum<T>(sum0 + sum1);
  T tau = 0, value = head, inverse = 0;
  if (rest > kLeast) {
    const T square = head * head + rest;
    const T length = sizeof(T) == 4 ? static_cast<T>(__builtin_sqrtf(static_cast<float>(square)))
                                    : static_cast<T>(__builtin_sqrt(static_cast<double>(square)));
    value = head < 0 ? length : -length;
    inverse = 1 / (head - value);
    tau = (value - head) / value;
  }
  const Vec<T> scale = splat(inverse);
  store<T>(x + begin, number == at ? splat(T(1)) : start * scale);
  for (i = begin + L; i < end; i += L) store<T>(x + i, load<T>(x + i) * scale);
  return {tau, value};
}

// c[rows][columns] = init + a b over panels [0, panels) of b and c.
template <class T, Form F>
void multiply(Operands<T> o, int64_t rows, int64_t panels) {
  o.floor = -kInfinity<T>;
  const int group = group_of(rows, panels);
  for (int64_t p = 0; p < panels; p += group)
    product<T, F>(o.template at<F>(0, p), rows, static_cast<int>(panels - p < group ? panels - p : group));
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

// Reflectors k = 0 .. count - 1, v_k in row k of a matrix of rows `row` apart (0 before its 1), and in columns of
// panels.
template <class T>
struct Block {
  const T* rows;
  int64_t row;
  Panels<T> columns, gram;
  const T* tau;
  int64_t count;
};

// x[begin .. end) <- (I - V S V') x, or with S' in its place, over panels [first, last) of x. w: kBlock rows of space.
template <class T, bool kTransposed>
void apply(const Panels<T>& x, int64_t begin, int64_t end, int64_t first, int64_t last, const Block<T>& block,
           const Panels<T>& w, const T* zeros) {
  if (first >= last)
    return;
  Operands<T> o = {};
  o.a = block.rows + begin;
  o.a_row = block.row;
  o.b = x.line(first, begin);
  o.b_panel = x.stride;
  o.init = zeros;
  o.c = w.line(first, 0);
  o.c_row = kPanel<T>;
  o.c_panel = w.stride;
  o.depth = end - begin;
  multiply<T, Form::kRows>(o, block.count, last - first);
  substitute<T, kTransposed>(w, first, last, block.count, block.gram, block.tau);
  o.a = block.columns.line(0, begin);
  o.a_segment = block.columns.stride;
  o.b = w.line(first, 0);
  o.b_panel = w.stride;
  o.c = x.line(first, begin);
  o.c_panel = x.stride;
  o.init = o.c;
  o.init_row = o.c_row;
  o.init_panel = o.c_panel;
  o.depth = round_up(block.count, kPanel<T>);
  multiply<T, Form::kPanels>(o, end - begin, last - first);
}

// The strict upper part of gram = V'V for the block's own reflectors (and for those before them, `before` of them).
template <class T>
void gram_of(const Block<T>& block, int64_t begin, int64_t end, int64_t before, const T* zeros) {
  Operands<T> o = {};
  o.a = block.rows - before * block.row + begin;
  o.a_row = block.row;
  o.b = block.columns.line(0, begin);
  o.b_panel = block.columns.stride;
  o.init = zeros;
  o.c = block.gram.line(0, -before);
  o.c_row = kPanel<T>;
  o.c_panel = block.gram.stride;
  o.depth = end - begin;
  multiply<T, Form::kRows>(o, before + block.count, panels_of<T>(block.count));
}

// What products of reflectors need beside the matrices: w {kBlock, columns}, columns {rows, kBlock}, gram {kBlock,
// kBlock}.
template <class T>
struct Space {
  Panels<T> w, columns, gram;
  T* zeros;
};
template <class T>
Space<T> take_space(Carver& carver, int64_t rows, int64_t columns) {
  return {take_panels<T>(carver, kBlock, columns), take_panels<T>(carver, rows, kBlock),
          take_panels<T>(carver, kBlock, kBlock), carver.take<T>(kPanel<T>)};
}
template <class T>
void clear(const Space<T>& space, int64_t columns) {
  clear(space.w, columns);
  clear(space.columns, kBlock);
  clear(space.gram, kBlock);
  std::memset(space.zeros, 0, 64);
}

// Columns of panels, rows [begin, end), from the rows of the block that starts at reflector `first`.
template <class T>
LC_INLINE void turn_rows(const Panels<T>& columns, int64_t panel, const T* rows, int64_t row, int64_t count,
                         int64_t begin, int64_t end) {
  for (int64_t q = 0; q < count; q += kPanel<T>, ++panel)
    transpose<T>(columns.line(panel, begin), kPanel<T>, rows + q * row + begin, row,
                 count - q < kPanel<T> ? count - q : kPanel<T>, end - begin);
}

// Reflectors that fit into registers beside four vectors of what they are applied to.
constexpr int kFew = kRegisters == 32 ? 4 : 2;

// x <- (I - V S V') x, R reflectors in rows, rows [begin, end) of N panels of x.
template <class T, int R, int N>
__attribute__((noinline)) void apply_few(T* x, int64_t stride, int64_t begin, int64_t end, const T* rows, int64_t row,
                                         const T* tau, const T* gram) {
  constexpr int V = N * kSplit;
  Vec<T> w[R][V] = {};
  for (int64_t i = begin; i < end; ++i) {
    Vec<T> line[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) line[v] = load<T>(x + i * kPanel<T> + vector_at<T>(stride, v));
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[r][v] = madd(splat(rows[r * row + i]), line[v], w[r][v]);
  }
#pragma GCC unroll 4
  for (int r = R - 1; r >= 0; --r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 4
      for (int l = r + 1; l < R; ++l) w[r][v] = madd(splat(gram[r * R + l]), w[l][v], w[r][v]);
      w[r][v] *= splat(-tau[r]);
    }
  for (int64_t i = begin; i < end; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T* at = x + i * kPanel<T> + vector_at<T>(stride, v);
      Vec<T> line = load<T>(at);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) line = madd(splat(rows[r * row + i]), w[r][v], line);
      store<T>(at, line);
    }
}
template <class T, int R>
LC_INLINE void apply_few(const Panels<T>& x, int64_t first, int64_t n, const ReflectorRows<T>& of) {
  T gram[R * R];
  const int64_t begin = first / kLanes<T> * kLanes<T>, end = round_up(n, kLanes<T>);
  for (int r = 0; r < R; ++r)
    for (int l = r + 1; l < R; ++l) gram[r * R + l] = dot(of[first + r], of[first + l], begin, end);
  in_groups(first / kPanel<T>, panels_of<T>(n), [&](auto panels, int64_t p) {
    apply_few<T, R, decltype(panels)::value>(x.line(p, 0), x.stride, first, n, of[first], of.row, of.tau + first, gram);
  });
}

// x = H_0 H_1 ... H_n-1, n x n.
template <class T>
void accumulate(const Panels<T>& x, const ReflectorRows<T>& of, int64_t n) {
  clear(x, n);
  for (int64_t i = 0; i < n; ++i) x(i, i) = 1;
  int64_t first = n;
  for (; first % kFew; --first) apply_few<T, 1>(x, first - 1, n, of);
  for (; first; first -= kFew) apply_few<T, kFew>(x, first - kFew, n, of);
}

// y = x', n x n; y's spare rows and columns become 0.
template <class T>
void transpose_square(const Panels<T>& y, const Panels<T>& x, int64_t n) {
  constexpr int64_t P = kPanel<T>;
  clear(y, n);
  for (int64_t i = 0; i < n; i += P)
    for (int64_t j = 0; j < n; j += P)
      transpose<T>(y.line(i / P, j), P, x.line(j / P, i), P, n - i < P ? n - i : P, n - j < P ? n - j : P);
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
void factor(const Factors<T>& f, int64_t m, int64_t n, bool whole, const Space<T>& space) {
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
    gram_of(block, first, m, whole ? first : 0, space.zeros);
    apply<T, true>(f.a, first, m, panel + kBlock / P, panels_of<T>(n), block, space.w, space.zeros);
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
