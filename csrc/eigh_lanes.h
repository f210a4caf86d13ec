// Eigenvalues and eigenvectors of small symmetric matrices, one in each lane: Householder tridiagonalisation and
// implicit-shift QR (Golub & Van Loan, Matrix Computations, 8.3). Only lower triangles are read.
#pragma once

#include "lane_vectors.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// a - u w' - w u' on C columns of a lower triangle, from the diagonal's row on, and p += a v for what it holds.
template <class T, int C, bool kFirst>
LC_INLINE void update_triangle(Vec<T>* a, int64_t row, int64_t rows, const Vec<T>* u, const Vec<T>* w, const Vec<T>* v,
                               Vec<T>* p) {
  Vec<T> sum[C] = {}, minus_u[C] = {}, minus_w[C] = {};
  for (int c = 0; c < C && !kFirst; ++c) {
    minus_u[c] = -u[c];
    minus_w[c] = -w[c];
  }
  const auto entry = [&](int64_t i, int c) LC_LAMBDA {
    Vec<T> t = a[i * row + c];
    if constexpr (!kFirst) {
      t = madd(w[i], minus_u[c], madd(u[i], minus_w[c], t));
      a[i * row + c] = t;
    }
    return t;
  };
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    sum[c] = madd(entry(c, c), v[c], sum[c]);
#pragma GCC unroll 4
    for (int i = c + 1; i < C; ++i) {
      const Vec<T> t = entry(i, c);
      sum[c] = madd(t, v[i], sum[c]);
      sum[i] = madd(t, v[c], sum[i]);
    }
  }
  for (int64_t i = C; i < rows; ++i) {
    Vec<T> below = p[i];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const Vec<T> t = entry(i, c);
      sum[c] = madd(t, v[i], sum[c]);
      below = madd(t, v[c], below);
    }
    p[i] = below;
  }
  for (int c = 0; c < C; ++c) p[c] += sum[c];
}
template <class T, bool kFirst>
void update_triangle(Vec<T>* a, int64_t row, int64_t n, const Vec<T>* u, const Vec<T>* w, const Vec<T>* v, Vec<T>* p) {
  for (int64_t i = 0; i < n; ++i) p[i] = Vec<T>{};
  int64_t c = 0;
  for (; c + 4 <= n; c += 4) update_triangle<T, 4, kFirst>(a + c * row + c, row, n - c, u + c, w + c, v + c, p + c);
  for (; c < n; ++c) update_triangle<T, 1, kFirst>(a + c * row + c, row, n - c, u + c, w + c, v + c, p + c);
}

// The lower triangle of a[n][n] to tridiagonal form: d[k * step], e[k * step]. Column k keeps the reflector of rows
// k + 1 .. n - 1, for k < n - 2. scratch[4 n].
template <class T>
void tridiagonalise(Vec<T>* a, int64_t row, int64_t n, Vec<T>* d, Vec<T>* e, int64_t step, Vec<T>* scratch) {
  Vec<T>*u = scratch, *w = scratch + n, *v = scratch + 2 * n, *p = scratch + 3 * n;
  for (int64_t k = 0; k < n; ++k) {
    Vec<T>* column = a + k;
    for (int64_t i = k; i < n && k && n > 2; ++i)
      column[i * row] = madd(-w[i], u[k], madd(-u[i], w[k], column[i * row]));
    d[k * step] = column[k * row];
    if (k >= n - 2) {
      e[k * step] = k + 1 < n ? column[(k + 1) * row] : Vec<T>{};
      continue;
    }
    const Vec<T> tail = sum_of_products<T>(
        k + 2, n, [&](int64_t i, Vec<T> sum) LC_LAMBDA { return madd(column[i * row], column[i * row], sum); });
    const Reflector<T> h = reflector<T>(column[(k + 1) * row], tail);
    e[k * step] = h.value;
    column[(k + 1) * row] = v[k + 1] = h.first;
    for (int64_t i = k + 2; i < n; ++i) column[i * row] = v[i] = column[i * row] * h.factor;
    Vec<T>* trailing = a + (k + 1) * row + k + 1;
    if (k)
      update_triangle<T, false>(trailing, row, n - k - 1, u + k + 1, w + k + 1, v + k + 1, p + k + 1);
    else
      update_triangle<T, true>(trailing, row, n - k - 1, u + k + 1, w + k + 1, v + k + 1, p + k + 1);
    const Vec<T> half =
        T(-0.5) * sum_of_products<T>(k + 1, n, [&](int64_t i, Vec<T> sum) LC_LAMBDA { return madd(p[i], v[i], sum); });
    for (int64_t i = k + 1; i < n; ++i) {
      u[i] = v[i];
      w[i] = madd(half, v[i], p[i]);
    }
  }
}

// The workspace of one thread: G groups of kLanes matrices of n x n.
template <class T, int G>
struct EighSpace {
  int64_t row;
  Vec<T>*a[G], *d, *e, *scratch, *alone;
  Mask<T>* flip;
  SweepLog<T> log;
  Passes<T> passes;
  Order<T> order;
  T* buffer;
  EighSpace(Carver& c, int64_t n, bool vectors) : row(n | 1), order(c, n) {
    for (int g = 0; g < G; ++g) a[g] = c.take<Vec<T>>(n * row);
    d = c.take<Vec<T>>(n * G);
    e = c.take<Vec<T>>(n * G);
    scratch = c.take<Vec<T>>(4 * n);
    flip = c.take<Mask<T>>(n);
    log.right = vectors ? c.take<Rotation<T>>(kSweeps * n * G) : nullptr;
    log.left = nullptr;
    log.capacity = kSweeps;
    alone = vectors ? c.take<Vec<T>>(Vectors<T>::size_alone(n, n)) : nullptr;
    passes.scale = c.take<Vec<T>>(n);
    passes.factors = vectors ? c.take<Vec<T>>(kSweeps * n) : nullptr;
    buffer = c.take<T>(round_up(n, kLanes<T>) * kLanes<T>);
  }
};

// One run's arguments: `count` matrices c[n][n]; v null: values only.
template <class T>
struct EighArguments {
  T *w, *v;
  uint32_t* status;
  const T* c;
  int64_t count, n;
  // The matrices from i on, `some` of them.
  EighArguments part(int64_t i, int64_t some) const {
    return {w + i * n, v ? v + i * n * n : nullptr, status + i, c + i * n * n, some, n};
  }
  // Those in the lanes of group g.
  EighArguments group(int g) const {
    const int64_t rest = count - g * kLanes<T>;
    return part(g * kLanes<T>, rest < kLanes<T> ? rest : kLanes<T>);
  }
};

template <class T, int G, bool kVectors>
void eigh_groups(const EighArguments<T>& all, EighSpace<T, G>& s) {
  const int64_t n = all.n, row = s.row;
  Scale<T> scale[G];
  Mask<T> failed[G];
  const auto vectors = [&](int g) { return Vectors<T>(s.a[g], row, n, n, all.count, s.alone); };
  for (int g = 0; g < G; ++g) {
    const EighArguments<T> some = all.group(g);
    Vec<T>* a = s.a[g];
    scale[g] = pack_scaled<T, true>(a, row, 1, Places<T>(some.c, n * n, some.count), n, n);
    tridiagonalise<T>(a, row, n, s.d + g, s.e + g, G, s.scratch);
    if constexpr (kVectors)
      vectors(g).accumulate(1, n > 2 ? n - 2 : 0, s.scratch,
                            [&](int64_t i, int64_t k) LC_LAMBDA { return a[i * row + k]; });
  }
  tridiagonal_qr<T, G, kVectors>(n, s.d, s.e, kVectors ? &s.log : nullptr, failed, [&](const SweepLog<T>& log) {
    for (int g = 0; g < G; ++g) vectors(g).rotate(log.right + g * kSweeps * n, log, &s.passes);
  });
  for (int g = 0; g < G; ++g) {
    const EighArguments<T> some = all.group(g);
    const int64_t count = some.count;
    s.order.template sort<false>(n, s.d + g, G, s.flip);
    unpack_values<T>(some.w, n, count, s.d + g, G, scale[g].up, s.order.place);
    if constexpr (kVectors) {
      vectors(g).finish();
      signs_of<T>(s.flip, s.a[g], row, n, n);
      unpack_rows<T>(some.v, n * n, count, s.a[g], row, n, n, s.order.order, s.flip, s.buffer);
    }
    for (int64_t l = 0; l < count; ++l)
      if ((some.status[l] = status_of(scale[g].bad[l], failed[g][l]))) {
        const EighArguments<T> one = some.part(l, 1);
        fill(one.w, n, kNaN<T>);
        fill(one.v, one.v ? n * n : 0, kNaN<T>);
      }
  }
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
