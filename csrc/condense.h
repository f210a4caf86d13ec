// Reduction of a square matrix to bidiagonal form, of a symmetric one to tridiagonal form, by Householder reflectors
// (Golub & Van Loan, Matrix Computations, 5.4.8 and 8.3.1). The update of step k is carried out together with the
// product that step k + 1 needs of the updated matrix, so that each step reads and writes the matrix once.
#pragma once

#include "householder.h"

namespace lc {
namespace LC_ISA {

// A[i] -= u[i] y + x[i] v and sum += w[i] A[i], rows [begin, end).
template <class T, int N>
__attribute__((noinline)) void update_and_sum(T* a, int64_t stride, int64_t begin, int64_t end, const T* u, const T* x,
                                              const T* w, const T* y, const T* v, T* sum) {
  constexpr int V = N * kSplit, L = kLanes<T>, kRows = V > 2 ? 1 : 2;  // rows at once, with a sum each
  Vec<T> minus_y[V], minus_v[V], total[kRows][V] = {};
#pragma GCC unroll 4
  for (int i = 0; i < V; ++i) {
    minus_y[i] = -load<T>(y + i * L);
    minus_v[i] = -load<T>(v + i * L);
  }
  const auto take = [&](int64_t r, Vec<T>(&to)[V]) LC_LAMBDA {
    const Vec<T> ur = splat(u[r]), xr = splat(x[r]), wr = splat(w[r]);
    T* line = a + r * kPanel<T>;
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
      T* at = line + vector_at<T>(stride, i);
      const Vec<T> updated = madd(xr, minus_v[i], madd(ur, minus_y[i], load<T>(at)));
      store<T>(at, updated);
      to[i] = madd(wr, updated, to[i]);
    }
  };
  int64_t r = begin;
  if constexpr (kRows == 2)
    for (; r + 1 < end; r += 2) {
      take(r, total[0]);
      take(r + 1, total[1]);
    }
  for (; r < end; ++r) take(r, total[0]);
#pragma GCC unroll 4
  for (int i = 0; i < V; ++i) store<T>(sum + i * L, kRows == 2 ? total[0][i] + total[kRows - 1][i] : total[0][i]);
}

// f(i, lanes of A[i .. i + lanes) . v) over panels [first, last), in blocks of rows from `begin`, a multiple of the
// lanes, over [.., end), which a team shares.
template <class T, class F>
LC_INLINE void multiply_rows(const Panels<T>& a, int64_t begin, int64_t end, int64_t first, int64_t last, const T* v,
                             Team* team, F&& f) {
  constexpr int L = kLanes<T>;
  const auto multiply = [&](int64_t i) LC_LAMBDA {
    Vec<T> total[L] = {};
    for (int64_t p = first; p < last; ++p) {
      const T* block = a.line(p, i);
#pragma GCC unroll 4
      for (int s = 0; s < kSplit; ++s) {
        const Vec<T> part = load<T>(v + p * kPanel<T> + s * L);
#pragma GCC unroll 16
        for (int r = 0; r < L; ++r) total[r] = madd(load<T>(block + r * kPanel<T> + s * L), part, total[r]);
      }
    }
    f(i, sums<T>(total));
  };
  const int64_t blocks = divide_up(end - begin, L), pieces = team && blocks > 1 ? team->threads() : 1;
  auto piece = [&](int64_t number, int) {
    const Span span = part_of(blocks, pieces, number);
    for (int64_t b = span.begin; b < span.end; ++b) multiply(begin + b * L);
  };
  if (pieces > 1)
    team->each(pieces, piece);
  else
    piece(0, 0);
}

// Entries of a column, kPanel apart in memory.
template <class T, int... J>
LC_INLINE Vec<T> gather(const T* p, Lanes<J...>) {
  return Vec<T>{p[J * kPanel<T>]...};
}

// n numbers, with room for a block of rows after them.
template <class T>
LC_INLINE T* take_vector(Carver& carver, int64_t n) {
  return carver.take<T>(round_up(n, kPanel<T>) + kSpareAfter);
}
template <class T>
LC_INLINE void clear_vector(T* x, int64_t n) {
  std::memset(x, 0, (round_up(n, kPanel<T>) + kSpareAfter) * sizeof(T));
}

// Matrices that are reduced together, step by step, so that one fills the waits of the other; that pays while both are
// in the first-level cache.
constexpr int kTogether = 2;
template <class T>
LC_INLINE bool pays_together(int64_t n) {
  return n * n * static_cast<int64_t>(sizeof(T)) <= 16384;
}

// Whether the steps of a reduction are worth sharing out: not while the matrix is in one core's second-level cache.
template <class T>
LC_INLINE bool pays_shared(int64_t n) {
  return n * n * static_cast<int64_t>(sizeof(T)) >= 3 << 19;
}

// A = U B V' for the n x n matrix a, which is overwritten: B's diagonal in d, superdiagonal in e[n - 1]; U's
// reflectors, v_k from row k on, V's from k + 1 on.
template <class T>
struct Bidiagonal {
  Panels<T> a;
  ReflectorRows<T> left, right;
  T *d, *e, *x, *y;  // a's pending update is minus left[k - 1] y minus x right[k - 1]
  int64_t n, panels;

  static constexpr int P = kPanel<T>, L = kLanes<T>;

  void begin() {
    clear(left, n);
    clear(right, n);
    clear_vector(x, n);
    clear_vector(y, n);
  }
  LC_INLINE void reflect_column(int64_t k) {
    T* u = left[k];
    const T* before = left[k - 1];
    const Vec<T> minus_y = splat(-y[k]), minus_v = splat(-right[k - 1][k]);
    for (int64_t i = k / L * L; i < panels * P; i += L)
      store<T>(u + i, madd(load<T>(x + i), minus_v,
                           madd(load<T>(before + i), minus_y, gather(&a(i, k), typename LaneList<L>::List{}))));
    const Reflector<T> h = reflect(u, k, panels * P);
    d[k] = h.value;
    left.tau[k] = h.tau;
  }
  LC_INLINE void update(int64_t k, Team* team) {
    in_groups(team, (k + 1) / P, panels, [&](auto group, int64_t p) LC_LAMBDA {
      update_and_sum<T, decltype(group)::value>(a.line(p, 0), a.stride, k, n, left[k - 1], x, left[k], y + p * P,
                                                right[k - 1] + p * P, y + p * P);
    });
  }
  LC_INLINE void reflect_row(int64_t k) {
    T* v = right[k];
    const int64_t begin = (k + 1) / L * L;
    const Vec<T> tau = splat(left.tau[k]);
    const Mask<T> here = Mask<T>{} + static_cast<Int<T>>(k);
    for (int64_t j = (k + 1) / P * P; j < panels * P; j += L) {
      const Vec<T> part = numbers<T>(j) > here ? load<T>(y + j) * tau : Vec<T>{};
      store<T>(y + j, part);
      if (j >= begin)
        store<T>(v + j, load<T>(a.line(j / P, k) + j % P) - part);
    }
    const Reflector<T> h = reflect(v, k + 1, panels * P);
    e[k] = h.value;
    right.tau[k] = h.tau;
  }
  LC_INLINE void multiply(int64_t k, Team* team) {
    const T *u = left[k], *v = right[k];
    const int64_t begin = (k + 1) / L * L;
    const Vec<T> along = splat(-dot(y, v, begin, panels * P)), tau = splat(right.tau[k]);
    const Mask<T> here = Mask<T>{} + static_cast<Int<T>>(k);
    multiply_rows(a, begin, n, (k + 1) / P, panels, v, team, [&](int64_t i, Vec<T> part) LC_LAMBDA {
      store<T>(x + i, numbers<T>(i) > here ? madd(load<T>(u + i), along, part) * tau : Vec<T>{});
    });
  }
};
template <class T>
Bidiagonal<T> take_bidiagonal(Carver& carver, int64_t n) {
  return {take_panels<T>(carver, n, n),
          take_reflectors<T>(carver, n),
          take_reflectors<T>(carver, n),
          carver.take<T>(n),
          carver.take<T>(n),
          take_vector<T>(carver, n),
          take_vector<T>(carver, n),
          n,
          panels_of<T>(n)};
}

template <int Q, class T>
__attribute__((noinline)) void bidiagonalize(Bidiagonal<T>* of, Team* team) {
  const int64_t n = of->n;
  for (int q = 0; q < Q; ++q) of[q].begin();
  for (int64_t k = 0; k < n; ++k) {
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].reflect_column(k);
    if (k + 1 == n)
      break;
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].update(k, team);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].reflect_row(k);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].multiply(k, team);
  }
  for (int q = 0; q < Q; ++q) of[q].right.tau[n - 1] = 0;
}

// A = Q T Q' for the symmetric n x n matrix a, which is overwritten: T's diagonal in d, off-diagonal in e[n - 1]; Q's
// reflectors, v_k from row k + 1 on.
template <class T>
struct Tridiagonal {
  Panels<T> a;
  ReflectorRows<T> left;
  T *d, *e, *w, *sum;  // a's pending update is minus left[k - 1] w' minus w left[k - 1]'
  int64_t n, panels;

  static constexpr int P = kPanel<T>, L = kLanes<T>;

  void begin() {
    clear(left, n);
    clear_vector(w, n);
    clear_vector(sum, n);
  }
  LC_INLINE void reflect_row(int64_t k) {
    T* u = left[k];
    const T* before = left[k - 1];
    d[k] = a(k, k) - 2 * before[k] * w[k];
    const Vec<T> minus_u = splat(-before[k]), minus_w = splat(-w[k]);
    for (int64_t j = (k + 1) / L * L; j < panels * P; j += L)
      store<T>(u + j,
               madd(load<T>(before + j), minus_w, madd(load<T>(w + j), minus_u, load<T>(a.line(j / P, k) + j % P))));
    if (k + 1 == n)
      return;
    const Reflector<T> h = reflect(u, k + 1, panels * P);
    e[k] = h.value;
    left.tau[k] = h.tau;
  }
  LC_INLINE void update(int64_t k, Team* team) {
    in_groups(team, (k + 1) / P, panels, [&](auto group, int64_t p) LC_LAMBDA {
      update_and_sum<T, decltype(group)::value>(a.line(p, 0), a.stride, k + 1, n, left[k - 1], w, left[k], w + p * P,
                                                left[k - 1] + p * P, sum + p * P);
    });
  }
  LC_INLINE void multiply(int64_t k) {
    const T *u = left[k], t = left.tau[k];
    const Vec<T> tau = splat(t), along = splat(t * t * dot(sum, u, (k + 1) / L * L, panels * P) * T(-0.5));
    const Mask<T> here = Mask<T>{} + static_cast<Int<T>>(k);
    for (int64_t j = (k + 1) / P * P; j < panels * P; j += L)
      store<T>(w + j, numbers<T>(j) > here ? madd(load<T>(sum + j), tau, load<T>(u + j) * along) : Vec<T>{});
  }
};
template <class T>
Tridiagonal<T> take_tridiagonal(Carver& carver, int64_t n) {
  return {take_panels<T>(carver, n, n),
          take_reflectors<T>(carver, n),
          carver.take<T>(n),
          carver.take<T>(n),
          take_vector<T>(carver, n),
          take_vector<T>(carver, n),
          n,
          panels_of<T>(n)};
}

template <int Q, class T>
__attribute__((noinline)) void tridiagonalize(Tridiagonal<T>* of, Team* team) {
  const int64_t n = of->n;
  for (int q = 0; q < Q; ++q) of[q].begin();
  for (int64_t k = 0; k < n; ++k) {
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].reflect_row(k);
    if (k + 1 == n)
      break;
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].update(k, team);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) of[q].multiply(k);
  }
  for (int q = 0; q < Q; ++q) of[q].left.tau[n - 1] = 0;
}

}  // namespace LC_ISA
}  // namespace lc
