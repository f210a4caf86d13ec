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
// lanes, over [.., end).
template <class T, class F>
LC_INLINE void multiply_rows(const Panels<T>& a, int64_t begin, int64_t end, int64_t first, int64_t last, const T* v,
                             F&& f) {
  constexpr int L = kLanes<T>;
  for (int64_t i = begin; i < end; i += L) {
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
  }
}

// Entries of a column, kPanel apart in memory.
template <class T, int... J>
LC_INLINE Vec<T> gather(const T* p, Lanes<J...>) {
  return Vec<T>{p[J * kPanel<T>]...};
}

// Vectors of one length, {n} with room for a block of rows after them.
template <class T>
LC_INLINE T* take_vector(Carver& carver, int64_t n) {
  return carver.take<T>(round_up(n, kPanel<T>) + kSpareAfter);
}
template <class T>
LC_INLINE void clear_vector(T* x, int64_t n) {
  std::memset(x, 0, (round_up(n, kPanel<T>) + kSpareAfter) * sizeof(T));
}

// A = U B V' for the n x n matrix a, which is overwritten: B's diagonal in d, superdiagonal in e[n - 1]; the reflectors
// of U in rows of u (v_k in row k from k on), those of V in rows of v (from k + 1 on); `row` is a multiple of a panel.
template <class T>
struct Bidiagonal {
  T *d, *e;
  T *u, *v, *tau_u, *tau_v;
  int64_t row;
  T *x, *y, *zeros;  // vectors
};
template <class T>
void bidiagonalize(const Panels<T>& a, int64_t n, const Bidiagonal<T>& b) {
  constexpr int P = kPanel<T>, L = kLanes<T>;
  const int64_t panels = panels_of<T>(n), end = panels * P;
  std::memset(b.u, 0, n * b.row * sizeof(T));
  std::memset(b.v, 0, n * b.row * sizeof(T));
  clear_vector(b.x, n);
  clear_vector(b.y, n);
  clear_vector(b.zeros, n);
  const T *u_before = b.zeros, *v_before = b.zeros;
  for (int64_t k = 0; k < n; ++k) {
    T *u = b.u + k * b.row, *v = b.v + k * b.row;
    const Vec<T> minus_y = splat(-b.y[k]), minus_v = splat(-v_before[k]);
    for (int64_t i = k / L * L; i < end; i += L)
      store<T>(u + i, madd(load<T>(b.x + i), minus_v,
                           madd(load<T>(u_before + i), minus_y, gather(&a(i, k), typename LaneList<L>::List{}))));
    const Reflector<T> left = reflect(u, k, end);
    b.d[k] = left.value;
    b.tau_u[k] = left.tau;
    b.tau_v[k] = 0;
    if (k + 1 == n)
      break;

    const int64_t first = (k + 1) / P, begin = (k + 1) / L * L;
    in_groups(first, panels, [&](auto group, int64_t p) {
      update_and_sum<T, decltype(group)::value>(a.line(p, 0), a.stride, k, n, u_before, b.x, u, b.y + p * P,
                                                v_before + p * P, b.y + p * P);
    });
    const Vec<T> tau = splat(left.tau);
    const Mask<T> here = Mask<T>{} + static_cast<Int<T>>(k);
    for (int64_t j = first * P; j < end; j += L) {
      const Vec<T> y = numbers<T>(j) > here ? load<T>(b.y + j) * tau : Vec<T>{};
      store<T>(b.y + j, y);
      if (j >= begin)
        store<T>(v + j, load<T>(a.line(j / P, k) + j % P) - y);
    }
    const Reflector<T> right = reflect(v, k + 1, end);
    b.e[k] = right.value;
    b.tau_v[k] = right.tau;
    const Vec<T> along = splat(-dot(b.y, v, begin, end)), tau_x = splat(right.tau);
    multiply_rows(a, begin, end, first, panels, v, [&](int64_t i, Vec<T> x) LC_LAMBDA {
      store<T>(b.x + i, numbers<T>(i) > here ? madd(load<T>(u + i), along, x) * tau_x : Vec<T>{});
    });
    u_before = u;
    v_before = v;
  }
}

// A = Q T Q' for the symmetric n x n matrix a, which is overwritten: T's diagonal in d, off-diagonal in e[n - 1]; the
// reflectors of Q in rows of u (v_k in row k from k + 1 on).
template <class T>
struct Tridiagonal {
  T *d, *e;
  T *u, *tau;
  int64_t row;
  T *w, *sum, *zeros;  // vectors
};
template <class T>
void tridiagonalize(const Panels<T>& a, int64_t n, const Tridiagonal<T>& t) {
  constexpr int P = kPanel<T>, L = kLanes<T>;
  const int64_t panels = panels_of<T>(n), end = panels * P;
  std::memset(t.u, 0, n * t.row * sizeof(T));
  clear_vector(t.w, n);
  clear_vector(t.sum, n);
  clear_vector(t.zeros, n);
  const T* before = t.zeros;
  for (int64_t k = 0; k < n; ++k) {
    T* u = t.u + k * t.row;
    t.d[k] = a(k, k) - 2 * before[k] * t.w[k];
    t.tau[k] = 0;
    if (k + 1 == n)
      break;
    const int64_t first = (k + 1) / P, begin = (k + 1) / L * L;
    const Vec<T> minus_u = splat(-before[k]), minus_w = splat(-t.w[k]);
    for (int64_t j = begin; j < end; j += L)
      store<T>(u + j,
               madd(load<T>(before + j), minus_w, madd(load<T>(t.w + j), minus_u, load<T>(a.line(j / P, k) + j % P))));
    const Reflector<T> h = reflect(u, k + 1, end);
    t.e[k] = h.value;
    t.tau[k] = h.tau;
    in_groups(first, panels, [&](auto group, int64_t p) {
      update_and_sum<T, decltype(group)::value>(a.line(p, 0), a.stride, k + 1, n, before, t.w, u, t.w + p * P,
                                                before + p * P, t.sum + p * P);
    });
    const Vec<T> tau = splat(h.tau), along = splat(h.tau * h.tau * dot(t.sum, u, begin, end) * T(-0.5));
    const Mask<T> here = Mask<T>{} + static_cast<Int<T>>(k);
    for (int64_t j = first * P; j < end; j += L)
      store<T>(t.w + j, numbers<T>(j) > here ? madd(load<T>(t.sum + j), tau, load<T>(u + j) * along) : Vec<T>{});
    before = u;
  }
}

}  // namespace LC_ISA
}  // namespace lc
