// The thin SVD of small matrices, one in each lane: Householder bidiagonalisation and implicit-shift QR (Golub & Kahan
// 1965), of the triangular factor where a matrix is tall (Chan 1982).
#pragma once

#include "lane_vectors.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// a[rows][C] -= u[rows] y[C] + x[rows] v[C] unless this is the first step, then y[C] = a' next.
template <class T, int C, bool kFirst>
LC_INLINE void update_columns(Vec<T>* a, int64_t row, int64_t rows, const Vec<T>* u, const Vec<T>* x, const Vec<T>* v,
                              const Vec<T>* next, Vec<T>* y) {
  Vec<T> sum[C] = {}, minus_y[C], minus_v[C];
  for (int c = 0; c < C && !kFirst; ++c) {
    minus_y[c] = -y[c];
    minus_v[c] = -v[c];
  }
  for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Vec<T> t = a[i * row + c];
      if constexpr (!kFirst) {
        t = madd(x[i], minus_v[c], madd(u[i], minus_y[c], t));
        a[i * row + c] = t;
      }
      sum[c] = madd(next[i], t, sum[c]);
    }
  for (int c = 0; c < C; ++c) y[c] = sum[c];
}
template <class T, bool kFirst>
void update(Vec<T>* a, int64_t row, int64_t rows, int64_t columns, const Vec<T>* u, const Vec<T>* x, const Vec<T>* v,
            const Vec<T>* next, Vec<T>* y) {
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4) update_columns<T, 4, kFirst>(a + c, row, rows, u, x, v + c, next, y + c);
  for (; c < columns; ++c) update_columns<T, 1, kFirst>(a + c, row, rows, u, x, v + c, next, y + c);
}

// x[R] = a[R][columns] v - scale u[R]
template <class T, int R>
LC_INLINE void multiply_rows(const Vec<T>* a, int64_t row, int64_t columns, const Vec<T>* v, const Vec<T>* u,
                             Vec<T> scale, Vec<T>* x) {
  Vec<T> sum[R] = {};
  for (int64_t j = 0; j < columns; ++j)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = madd(a[r * row + j], v[j], sum[r]);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) x[r] = madd(-scale, u[r], sum[r]);
}
template <class T>
void multiply(const Vec<T>* a, int64_t row, int64_t rows, int64_t columns, const Vec<T>* v, const Vec<T>* u,
              Vec<T> scale, Vec<T>* x) {
  int64_t i = 0;
  for (; i + 8 <= rows; i += 8) multiply_rows<T, 8>(a + i * row, row, columns, v, u + i, scale, x + i);
  for (; i + 2 <= rows; i += 2) multiply_rows<T, 2>(a + i * row, row, columns, v, u + i, scale, x + i);
  for (; i < rows; ++i) multiply_rows<T, 1>(a + i * row, row, columns, v, u + i, scale, x + i);
}

// a[m][n], m >= n, to bidiagonal form: d[k * step], e[k * step]. Column k keeps the reflector of rows k .. m - 1 (none
// for the last row), row k that of columns k + 1 .. n - 1 (0 if it is one column). scratch[2 m + n].
template <class T>
void bidiagonalise(Vec<T>* a, int64_t row, int64_t m, int64_t n, Vec<T>* d, Vec<T>* e, int64_t step, Vec<T>* scratch) {
  Vec<T>*u = scratch, *x = scratch + m, *y = scratch + 2 * m;
  for (int64_t k = 0; k < n; ++k) {
    const Vec<T>* above = a + (k - 1) * row;  // the reflector of the row before
    Vec<T>*column = a + k, *here = a + k * row;
    if (k)
      for (int64_t i = k; i < m; ++i) column[i * row] = madd(-x[i], above[k], madd(-u[i], y[k], column[i * row]));
    if (k == m - 1) {
      d[k * step] = here[k];
      return;
    }
    const Reflector<T> left = reflector<T>(here[k], sum_of_products<T>(k + 1, m, [&](int64_t i, Vec<T> sum) LC_LAMBDA {
                                             return madd(column[i * row], column[i * row], sum);
                                           }));
    d[k * step] = left.value;
    Vec<T>* next = scratch + 2 * m + n;
    here[k] = next[k] = left.first;
    for (int64_t i = k + 1; i < m; ++i) column[i * row] = next[i] = column[i * row] * left.factor;
    const int64_t rest = n - k - 1;
    if (rest == 0)
      return;
    if (k)
      update<T, false>(here + k + 1, row, m - k, rest, u + k, x + k, above + k + 1, next + k, y + k + 1);
    else
      update<T, true>(here + k + 1, row, m - k, rest, u + k, x + k, y + k + 1, next + k, y + k + 1);
    for (int64_t i = k; i < m; ++i) u[i] = next[i];
    for (int64_t j = k + 1; j < n; ++j) here[j] = madd(-u[k], y[j], here[j]);
    const Reflector<T> right = reflector<T>(
        here[k + 1],
        sum_of_products<T>(k + 2, n, [&](int64_t j, Vec<T> sum) LC_LAMBDA { return madd(here[j], here[j], sum); }));
    e[k * step] = right.value;
    here[k + 1] = right.first;
    for (int64_t j = k + 2; j < n; ++j) here[j] = here[j] * right.factor;
    const Vec<T> both =
        sum_of_products<T>(k + 1, n, [&](int64_t j, Vec<T> sum) LC_LAMBDA { return madd(y[j], here[j], sum); });
    multiply<T>(here + row + k + 1, row, m - k - 1, rest, here + k + 1, u + k + 1, both, x + k + 1);
  }
}

// Reflectors k .. k + some - 1 of triangularise side by side: v[m - k][some].
template <class T>
LC_INLINE void copy_reflectors(Vec<T>* v, const Vec<T>* a, int64_t row, int64_t m, int64_t k, int some,
                               const Vec<T>* first) {
  for (int64_t i = k; i < m; ++i)
    for (int r = 0; r < some; ++r)
      v[(i - k) * some + r] = i < k + r ? Vec<T>{} : i == k + r ? first[i] : a[i * row + k + r];
}

// a[m][n], m > n, to R in its upper triangle, the reflector of column k in rows k .. m - 1, its first entry in
// first[k].
template <class T>
void triangularise(Vec<T>* a, int64_t row, int64_t m, int64_t n, Vec<T>* first, Vec<T>* v) {
  for (int64_t k = 0; k < n; k += 4) {
    const int some = static_cast<int>(n - k < 4 ? n - k : 4);
    for (int64_t c = k; c < k + some; ++c) {
      for (int64_t p = k; p < c; ++p) {
        const auto entry = [&](int64_t i) LC_LAMBDA { return i == p ? first[p] : a[i * row + p]; };
        const Vec<T> dot = -sum_of_products<T>(
            p, m, [&](int64_t i, Vec<T> sum) LC_LAMBDA { return madd(entry(i), a[i * row + c], sum); });
        for (int64_t i = p; i < m; ++i) a[i * row + c] = madd(dot, entry(i), a[i * row + c]);
      }
      const Reflector<T> left =
          reflector<T>(a[c * row + c], sum_of_products<T>(c + 1, m, [&](int64_t i, Vec<T> sum) LC_LAMBDA {
                         return madd(a[i * row + c], a[i * row + c], sum);
                       }));
      first[c] = left.first;
      a[c * row + c] = left.value;
      for (int64_t i = c + 1; i < m; ++i) a[i * row + c] = a[i * row + c] * left.factor;
    }
    if (k + some < n) {
      copy_reflectors<T>(v, a, row, m, k, some, first);
      reflect<T, true>(some, a + k * row + k + some, row, m - k, n - k - some, v);
    }
  }
}

// q[m][columns] = Q q, Q of triangularise's a and first.
template <class T>
void apply_triangle(Vec<T>* q, int64_t row, int64_t m, int64_t n, const Vec<T>* a, const Vec<T>* first, Vec<T>* v) {
  for (int64_t k = (n - 1) / 4 * 4; k >= 0; k -= 4) {
    const int some = static_cast<int>(n - k < 4 ? n - k : 4);
    copy_reflectors<T>(v, a, row, m, k, some, first);
    reflect<T, false>(some, q + k * row, row, m - k, n, v);
  }
}

// Whether QR comes first.
LC_INLINE bool is_tall(int64_t m, int64_t n) {
  return 2 * m > 3 * n;
}

// The workspace of one thread: G groups of kLanes matrices of m x n, m >= n.
template <class T, int G>
struct SvdSpace {
  bool tall;    // QR first
  int64_t row;  // vectors from row to row: odd, so that a column does not fall into few sets of the cache
  Vec<T>*a[G], *core[G], *u[G], *v[G], *first[G], *d, *e, *scratch,
      *alone[2];  // where tall, R is the core; else they are one
  Mask<T>* flip;
  SweepLog<T> log;
  Passes<T> passes;
  Order<T> order;
  T* buffer;
  SvdSpace(Carver& c, int64_t m, int64_t n, bool vectors) : tall(is_tall(m, n)), row(n | 1), order(c, n) {
    for (int g = 0; g < G; ++g) {
      a[g] = c.take<Vec<T>>(m * row);
      core[g] = tall ? c.take<Vec<T>>(n * row) : a[g];
      u[g] = tall && vectors ? c.take<Vec<T>>(m * row) : core[g];
      v[g] = vectors ? c.take<Vec<T>>(n * row) : nullptr;
      first[g] = tall ? c.take<Vec<T>>(n) : nullptr;
    }
    d = c.take<Vec<T>>(n * G);
    e = c.take<Vec<T>>(n * G);
    scratch = c.take<Vec<T>>(4 * m + n);
    flip = c.take<Mask<T>>(n);
    log.right = vectors ? c.take<Rotation<T>>(kSweeps * n * G) : nullptr;
    log.left = vectors ? c.take<Rotation<T>>(kSweeps * n * G) : nullptr;
    log.capacity = kSweeps;
    for (int side = 0; side < 2 && vectors; ++side)
      alone[side] = c.take<Vec<T>>(Vectors<T>::size_alone(side && !tall ? m : n, n));
    passes.scale = c.take<Vec<T>>(n);
    passes.factors = vectors ? c.take<Vec<T>>(kSweeps * n) : nullptr;
    buffer = c.take<T>(round_up(n, kLanes<T>) * kLanes<T>);
  }
};

// One run's arguments: `count` matrices a[rows][columns] at a, k = min(rows, columns); u and vt null: values only.
template <class T>
struct SvdArguments {
  T *u, *s, *vt;
  uint32_t* status;
  const T* a;
  int64_t count, rows, columns;
  // The matrices from i on, `some` of them.
  SvdArguments part(int64_t i, int64_t some) const {
    const int64_t k = rows < columns ? rows : columns;
    SvdArguments p = *this;
    p.u = u ? u + i * rows * k : nullptr;
    p.s += i * k;
    p.vt = vt ? vt + i * k * columns : nullptr;
    p.status += i;
    p.a += i * rows * columns;
    p.count = some;
    return p;
  }
  // Those in the lanes of group g.
  SvdArguments group(int g) const {
    const int64_t rest = count - g * kLanes<T>;
    return part(g * kLanes<T>, rest < kLanes<T> ? rest : kLanes<T>);
  }
};

template <class T, int G, bool kVectors>
void svd_groups(const SvdArguments<T>& all, SvdSpace<T, G>& w) {
  const bool wide = all.rows < all.columns;
  const int64_t m = wide ? all.columns : all.rows, n = wide ? all.rows : all.columns, row = w.row;
  const int64_t core_rows = w.tall ? n : m;
  const auto left = [&](int g) { return Vectors<T>(w.core[g], row, core_rows, n, all.count, w.alone[1]); };
  const auto right = [&](int g) { return Vectors<T>(w.v[g], row, n, n, all.count, w.alone[0]); };
  Scale<T> scale[G];
  for (int g = 0; g < G; ++g) {
    const SvdArguments<T> one = all.group(g);
    const Places<T> places(one.a, m * n, one.count);
    scale[g] = pack_scaled<T, false>(w.a[g], wide ? 1 : row, wide ? row : 1, places, one.rows, one.columns);
    Vec<T>*a = w.a[g], *core = w.core[g];
    if (w.tall) {
      triangularise<T>(a, row, m, n, w.first[g], w.scratch);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) core[i * row + j] = i <= j ? a[i * row + j] : Vec<T>{};
    }
    bidiagonalise<T>(core, row, core_rows, n, w.d + g, w.e + g, G, w.scratch);
    if constexpr (kVectors) {
      right(g).accumulate(1, n > 2 ? n - 2 : 0, w.scratch,
                          [&](int64_t i, int64_t k) LC_LAMBDA { return core[k * row + i]; });
      left(g).accumulate(0, core_rows > n ? n : n - 1, w.scratch,
                         [&](int64_t i, int64_t k) LC_LAMBDA { return core[i * row + k]; });
    }
  }
  Mask<T> failed[G];
  bidiagonal_qr<T, G, kVectors>(n, w.d, w.e, kVectors ? &w.log : nullptr, failed, [&](const SweepLog<T>& log) {
    for (int g = 0; g < G; ++g) {
      right(g).rotate(log.right + g * kSweeps * n, log, &w.passes);
      left(g).rotate(log.left + g * kSweeps * n, log, &w.passes);
    }
  });
  for (int g = 0; g < G; ++g) {
    const SvdArguments<T> one = all.group(g);
    const int64_t count = one.count;
    Vec<T>*d = w.d + g, *key = w.scratch;
    for (int64_t c = 0; c < n; ++c) key[c] = magnitude<T>(d[c * G]);
    w.order.template sort<true>(n, key, 1, w.flip);
    unpack_values<T>(one.s, n, count, key, 1, scale[g].up, w.order.place);
    if constexpr (kVectors) {
      right(g).finish();
      left(g).finish();
      Vec<T>*u = w.u[g], *v = w.v[g];
      if (w.tall) {
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) u[i * row + j] = i < n ? w.core[g][i * row + j] : Vec<T>{};
        apply_triangle<T>(u, row, m, n, w.a[g], w.first[g], w.scratch);
      }
      signs_of<T>(w.flip, wide ? u : v, row, wide ? m : n, n);
      const auto turn_other = [&] {
        for (int64_t c = 0; c < n; ++c) w.flip[c] ^= d[c * G] < T(0) ? sign_of<T>(splat(T(-1))) : Mask<T>{};
      };
      if (wide) {
        unpack_columns<T>(one.vt, n * m, count, u, row, m, n, w.order.place, w.flip);
        turn_other();
        unpack_rows<T>(one.u, n * n, count, v, row, n, n, w.order.order, w.flip, w.buffer);
      } else {
        unpack_columns<T>(one.vt, n * n, count, v, row, n, n, w.order.place, w.flip);
        turn_other();
        unpack_rows<T>(one.u, m * n, count, u, row, m, n, w.order.order, w.flip, w.buffer);
      }
    }
    for (int64_t l = 0; l < count; ++l)
      if ((one.status[l] = status_of(scale[g].bad[l], failed[g][l]))) {
        const SvdArguments<T> spoilt = one.part(l, 1);
        fill(spoilt.s, n, kNaN<T>);
        fill(spoilt.u, spoilt.u ? one.rows * n : 0, kNaN<T>);
        fill(spoilt.vt, spoilt.vt ? n * one.columns : 0, kNaN<T>);
      }
  }
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
