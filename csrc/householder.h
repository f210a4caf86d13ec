// Householder reflectors H = I - tau v v', v[first] = 1, and their product. A few at once use the form
// H_0 H_1 ... = I - V S V' with S^-1 = striu(V'V) + diag(1 / tau), so that S is applied by substitution and never
// formed (Joffrain, Low, Quintana-Orti, van de Geijn, Van Zee: Accumulating Householder transformations, revisited,
// 2006).
#pragma once

#include "panels.h"
#include "transpose.h"

namespace lc {
namespace LC_ISA {

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
LC_INLINE void apply_few(const Panels<T>& x, int64_t first, int64_t n, const ReflectorRows<T>& of, Team* team) {
  T gram[R * R];
  const int64_t begin = first / kLanes<T> * kLanes<T>, end = round_up(n, kLanes<T>);
  for (int r = 0; r < R; ++r)
    for (int l = r + 1; l < R; ++l) gram[r * R + l] = dot(of[first + r], of[first + l], begin, end);
  in_groups(team, first / kPanel<T>, panels_of<T>(n), [&](auto panels, int64_t p) {
    apply_few<T, R, decltype(panels)::value>(x.line(p, 0), x.stride, first, n, of[first], of.row, of.tau + first, gram);
  });
}

// x = H_0 H_1 ... H_n-1, n x n, with the help of a team or none.
template <class T>
void accumulate(const Panels<T>& x, const ReflectorRows<T>& of, int64_t n, Team* team) {
  clear(x, n);
  for (int64_t i = 0; i < n; ++i) x(i, i) = 1;
  int64_t first = n;
  for (; first % kFew; --first) apply_few<T, 1>(x, first - 1, n, of, team);
  for (; first; first -= kFew) apply_few<T, kFew>(x, first - kFew, n, of, team);
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

}  // namespace LC_ISA
}  // namespace lc
