// Implicit-shift QR of bidiagonal and of symmetric tridiagonal matrices (Golub & Van Loan, Matrix Computations, 8.3 and
// 8.6), one matrix in each lane, its rotations logged to be applied to the vectors later.
//
// Element k of the matrices in lanes g * kLanes .. g * kLanes + kLanes - 1 stands at d[k * G + g]; G vectors side by
// side hide each other's latency. The result of a lane depends on that lane alone, whatever G and whoever stands beside
// it. Matrices come scaled to entries of about 1 (any below 1e-15 in float32, 1e-140 in float64 count as 0), finite.
//
// Log: sweep s rotates the planes (k, k + 1), k = begin[s] .. end[s] - 1, in ascending order; sweeps follow each other
// in ascending order. Its rotation of plane k stands at [(g * capacity + s) * n + k] of `right`, and of `left`, each
// the vector c followed by the vector s. Columns of the vectors (V by `right`, U by `left`) turn as
//   x[k], x[k + 1] = c * x[k] + s * x[k + 1], c * x[k + 1] - s * x[k].
// A lane that does not take part has c = 1, s = 0 exactly. One lane alone reads its numbers at a distance of
// sizeof(Rotation<T>) from plane to plane.
#pragma once

#include "simd.h"

namespace lc {
namespace LC_ISA {

template <class T>
struct Rotation {
  Vec<T> c, s;
};

constexpr int kMostSweeps = 64;

template <class T>
struct SweepLog {
  Rotation<T>*right, *left;  // places for `capacity` * n * G each; `left` is not used by the tridiagonal one
  int capacity;              // sweeps that it holds, at most kMostSweeps
  int sweeps;                // sweeps that it holds now
  int64_t begin[kMostSweeps], end[kMostSweeps];
};

template <class T>
constexpr T kEpsilon = sizeof(T) == 4 ? static_cast<T>(0x1p-23) : static_cast<T>(0x1p-52);
// A squared length under which there is nothing to rotate.
template <class T>
constexpr T kNothing = sizeof(T) == 4 ? static_cast<T>(1e-30) : static_cast<T>(1e-280);

template <class T>
LC_INLINE Vec<T> magnitude(Vec<T> a) {
  return bits<Vec<T>>(bits<Mask<T>>(a) & (sizeof(T) == 4 ? Int<T>(0x7fffffff) : Int<T>(0x7fffffffffffffff)));
}
template <class T>
LC_INLINE Mask<T> sign_of(Vec<T> a) {
  return bits<Mask<T>>(a) & (sizeof(T) == 4 ? Int<T>(-0x7fffffff - 1) : Int<T>(-0x7fffffffffffffff - 1));
}

namespace qr {

template <class T>
LC_INLINE Int<T> smallest(Mask<T> a) {
  Int<T> r = a[0];
  for (int i = 1; i < kLanes<T>; ++i) r = a[i] < r ? a[i] : r;
  return r;
}

// 1 / sqrt(a) to 11 bits or more.
template <class T>
LC_INLINE Vec<T> inverse_root(Vec<T> a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    return _mm512_maskz_rsqrt14_ps(0xFFFF, a);
  } else {
    const Vec<T> r = _mm512_maskz_rsqrt14_pd(0xFF, a);  // two steps in `turn` are dearer than one here
    return madd(r * T(0.5), madd(-a * r, r, splat(T(1))), r);
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return _mm256_rsqrt_ps(a);
  else
    return T(1) / square_root(a);
#else
  return T(1) / square_root(a);
#endif
}

// A rotation that turns (y, z) into (length, 0) in the lanes that take part; the others keep y. c^2 + s^2 is brought to
// 1 from both sides: an error of one sign would add up over the sweeps.
template <class T>
struct Turn {
  Rotation<T> by;
  Vec<T> length;
};
template <class T>
LC_INLINE Turn<T> turn(Mask<T> on, Vec<T> y, Vec<T> z) {
  const Vec<T> one = splat(T(1)), square = madd(y, y, z * z), r = inverse_root<T>(square), c = y * r, s = z * r;
  const Vec<T> excess = madd(c, c, madd(s, s, -one)), change = excess * madd(excess, splat(T(0.375)), splat(T(-0.5)));
  const Vec<T> length = square * r;
  const Mask<T> any = on & (square > kNothing<T>);
  return {{any ? madd(c, change, c) : one, any ? madd(s, change, s) : Vec<T>{}},
          any ? madd(length, change, length) : y};
}

// The eigenvalue of {{a, b}, {b, c}} next to c (Wilkinson's shift).
template <class T>
LC_INLINE Vec<T> eigenvalue(Vec<T> a, Vec<T> b, Vec<T> c) {
  const Vec<T> half = (a - c) * T(0.5), square = b * b, root = square_root(madd(half, half, square));
  const Vec<T> slope = half < T(0) ? half - root : half + root;
  return slope != T(0) ? c - square / slope : c;
}

// The last block of each lane that is not yet diagonal: rows lo .. hi, hi = 0 where there is none. A walk over the
// off-diagonal entries in ascending order finds it, one `see` for each.
template <class T>
struct Block {
  Mask<T> lo, hi, start, small_since, small;  // small: some diagonal entry of the block is as good as 0
  Vec<T> tolerance;

  LC_INLINE void begin(Vec<T> diagonal) {
    lo = hi = start = small = Mask<T>{};
    small_since = magnitude<T>(diagonal) <= tolerance;
  }
  // Entry k, which couples rows k and k + 1, and the diagonal of row k + 1. Returns the entry, or 0 where it is small.
  LC_INLINE Vec<T> see(int64_t k, Vec<T> entry, Vec<T> diagonal) {
    const Mask<T> row = Mask<T>{} + static_cast<Int<T>>(k + 1), couples = magnitude<T>(entry) > tolerance;
    small_since = (magnitude<T>(diagonal) <= tolerance) | (small_since & couples);
    start = couples ? start : row;
    lo = couples ? start : lo;
    hi = couples ? row : hi;
    small = couples ? small_since : small;
    return couples ? entry : Vec<T>{};
  }
  // Walks over the first `rows` rows.
  template <int G>
  LC_INLINE void walk(int64_t rows, const Vec<T>* d, Vec<T>* e) {
    begin(d[0]);
    for (int64_t k = 0; k + 1 < rows; ++k) e[k * G] = see(k, e[k * G], d[(k + 1) * G]);
  }
};

// The rows that a sweep works on: the first of all blocks, and the first and the last of the blocks' ends.
struct Rows {
  int64_t first, nearest_end, end;
};
template <class T, int G>
LC_INLINE Rows rows_of(const Block<T> (&block)[G]) {
  const Mask<T> none = Mask<T>{}, far = none + (Int<T>(1) << 30);
  Mask<T> first = far, nearest = far, negative_end = none;
  for (int g = 0; g < G; ++g) {
    const Mask<T> open = block[g].hi > none, lo = open ? block[g].lo : far, hi = open ? block[g].hi : far;
    first = lo < first ? lo : first;
    nearest = hi < nearest ? hi : nearest;
    negative_end = -block[g].hi < negative_end ? -block[g].hi : negative_end;
  }
  return {smallest<T>(first), smallest<T>(nearest), -smallest<T>(negative_end)};
}

template <class T, int G>
LC_INLINE Vec<T> largest_of(int64_t n, const Vec<T>* d, const Vec<T>* e) {
  Vec<T> most = magnitude<T>(d[(n - 1) * G]);
  for (int64_t k = 0; k + 1 < n; ++k) most = larger(larger(most, magnitude<T>(d[k * G])), magnitude<T>(e[k * G]));
  return most;
}

// Sweeps before a lane is given up; the worst matrices seen took 2.6 n.
LC_INLINE int64_t patience(int64_t n) {
  return 30 + 6 * n;
}

// Takes room for one more sweep, having handed on a log that is full.
template <class T, class Apply>
LC_INLINE int64_t next_sweep(SweepLog<T>* log, const Rows& rows, Apply& apply) {
  if (log->sweeps == log->capacity) {
    apply(*log);
    log->sweeps = 0;
  }
  log->begin[log->sweeps] = rows.first;
  log->end[log->sweeps] = rows.end;
  return log->sweeps++;
}
template <class T, int G, class Apply>
LC_INLINE void finish(SweepLog<T>* log, const Block<T> (&block)[G], Mask<T>* failed, Apply& apply) {
  if (log && log->sweeps)
    apply(*log);
  for (int g = 0; g < G; ++g) failed[g] = block[g].hi > Mask<T>{};
}

}  // namespace qr

// Diagonalises upper bidiagonal matrices, diagonal d[n], superdiagonal e[n] (its last one is overwritten): at return d
// holds the singular values, with a sign each and in no order. Calls apply(log) when the log is full, and at the end if
// there are sweeps in it. kVectors false: no log (null). failed[G]: the lanes that did not converge.
template <class T, int G, bool kVectors, class Apply>
void bidiagonal_qr(int64_t n, Vec<T>* d, Vec<T>* e, SweepLog<T>* log, Mask<T>* failed, Apply&& apply) {
  using V = Vec<T>;
  using M = Mask<T>;
  qr::Block<T> block[G];
  if constexpr (kVectors)
    log->sweeps = 0;
  for (int g = 0; g < G; ++g) {
    e[(n - 1) * G + g] = V{};
    block[g].tolerance = qr::largest_of<T, G>(n, d + g, e + g) * (4 * kEpsilon<T>);
    block[g].template walk<G>(n, d + g, e + g);
  }
  for (int64_t sweep = 0; sweep < qr::patience(n); ++sweep) {
    const qr::Rows rows = qr::rows_of<T, G>(block);
    if (!rows.end)
      break;
    M lo[G], hi[G], small[G];
    V shift[G], y[G], z[G], dk[G], ek[G];  // y, z: the entry next to the bulge, and the bulge
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      lo[g] = block[g].lo;
      hi[g] = block[g].hi;
      small[g] = block[g].small;
      V dm = V{}, em = V{}, dn = V{}, en = V{};
      for (int64_t k = rows.nearest_end; k <= rows.end; ++k) {
        const M at = hi[g] == static_cast<Int<T>>(k);
        dm = at ? d[(k - 1) * G + g] : dm;
        em = at && k > 1 ? e[(k - 2) * G + g] : em;
        dn = at ? d[k * G + g] : dn;
        en = at ? e[(k - 1) * G + g] : en;
      }
      shift[g] = qr::eigenvalue<T>(madd(dm, dm, em * em), dm * en, madd(dn, dn, en * en));
      block[g].template walk<G>(rows.first, d + g, e + g);
      y[g] = rows.first ? e[(rows.first - 1) * G + g] : V{};
      z[g] = V{};
      dk[g] = d[rows.first * G + g];
      ek[g] = e[rows.first * G + g];
    }
    Rotation<T>*right = nullptr, *left = nullptr;
    const int64_t group = kVectors ? log->capacity * n : 0;  // from group to group
    if constexpr (kVectors) {
      const int64_t at = qr::next_sweep(log, rows, apply) * n;
      right = log->right + at;
      left = log->left + at;
    }
    for (int64_t k = rows.first; k < rows.end; ++k)
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        const M row = M{} + static_cast<Int<T>>(k), starts = row == lo[g], on = (row >= lo[g]) & (row < hi[g]);
        // The first column of B'B - shift; in a block that is as good as singular of B, to shift 0.
        y[g] = starts ? (small[g] ? dk[g] : madd(dk[g], dk[g], -shift[g])) : y[g];
        z[g] = starts ? (small[g] ? ek[g] : dk[g] * ek[g]) : z[g];
        const V d1 = d[(k + 1) * G + g], e1 = e[(k + 1) * G + g];
        const qr::Turn<T> r = qr::turn<T>(on, y[g], z[g]);
        const V above = starts ? V{} : r.length;
        y[g] = madd(r.by.c, dk[g], r.by.s * ek[g]);
        ek[g] = madd(r.by.c, ek[g], -(r.by.s * dk[g]));
        z[g] = r.by.s * d1;
        dk[g] = r.by.c * d1;
        const qr::Turn<T> l = qr::turn<T>(on, y[g], z[g]);
        d[k * G + g] = l.length;
        if (k)
          e[(k - 1) * G + g] = block[g].see(k - 1, above, l.length);
        else
          block[g].begin(l.length);
        y[g] = madd(l.by.c, ek[g], l.by.s * dk[g]);
        dk[g] = madd(l.by.c, dk[g], -(l.by.s * ek[g]));
        z[g] = l.by.s * e1;
        ek[g] = l.by.c * e1;
        if constexpr (kVectors) {
          right[g * group + k] = r.by;
          left[g * group + k] = l.by;
        }
      }
    for (int g = 0; g < G; ++g) {
      d[rows.end * G + g] = dk[g];
      e[(rows.end - 1) * G + g] = block[g].see(rows.end - 1, y[g], dk[g]);
    }
  }
  qr::finish<T, G>(log, block, failed, apply);
}

// Diagonalises symmetric tridiagonal matrices, diagonal d[n], off-diagonal e[n] (its last one is overwritten): at
// return d holds the eigenvalues in no order. The rest as bidiagonal_qr; the log's `right` turns the vectors, `left` is
// not used.
template <class T, int G, bool kVectors, class Apply>
void tridiagonal_qr(int64_t n, Vec<T>* d, Vec<T>* e, SweepLog<T>* log, Mask<T>* failed, Apply&& apply) {
  using V = Vec<T>;
  using M = Mask<T>;
  qr::Block<T> block[G];
  if constexpr (kVectors)
    log->sweeps = 0;
  for (int g = 0; g < G; ++g) {
    e[(n - 1) * G + g] = V{};
    block[g].tolerance = qr::largest_of<T, G>(n, d + g, e + g) * (4 * kEpsilon<T>);
    block[g].template walk<G>(n, d + g, e + g);
  }
  for (int64_t sweep = 0; sweep < qr::patience(n); ++sweep) {
    const qr::Rows rows = qr::rows_of<T, G>(block);
    if (!rows.end)
      break;
    M lo[G], hi[G];
    V shift[G], y[G], z[G], dk[G], ek[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      lo[g] = block[g].lo;
      hi[g] = block[g].hi;
      V dm = V{}, dn = V{}, en = V{};
      for (int64_t k = rows.nearest_end; k <= rows.end; ++k) {
        const M at = hi[g] == static_cast<Int<T>>(k);
        dm = at ? d[(k - 1) * G + g] : dm;
        dn = at ? d[k * G + g] : dn;
        en = at ? e[(k - 1) * G + g] : en;
      }
      shift[g] = qr::eigenvalue<T>(dm, en, dn);
      block[g].template walk<G>(rows.first, d + g, e + g);
      y[g] = rows.first ? e[(rows.first - 1) * G + g] : V{};
      z[g] = V{};
      dk[g] = d[rows.first * G + g];
      ek[g] = e[rows.first * G + g];
    }
    Rotation<T>* right = nullptr;
    const int64_t group = kVectors ? log->capacity * n : 0;
    if constexpr (kVectors)
      right = log->right + qr::next_sweep(log, rows, apply) * n;
    for (int64_t k = rows.first; k < rows.end; ++k)
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) {
        const M row = M{} + static_cast<Int<T>>(k), starts = row == lo[g], on = (row >= lo[g]) & (row < hi[g]);
        y[g] = starts ? dk[g] - shift[g] : y[g];
        z[g] = starts ? ek[g] : z[g];
        const V d1 = d[(k + 1) * G + g], e1 = e[(k + 1) * G + g];
        const qr::Turn<T> r = qr::turn<T>(on, y[g], z[g]);
        // {{c, s}, {-s, c}} times {{dk, ek}, {ek, d1}} times its transpose
        const V g1 = madd(r.by.s, d1 - dk[g], (r.by.c + r.by.c) * ek[g]), move = r.by.s * g1, diagonal = dk[g] + move;
        d[k * G + g] = diagonal;
        if (k)
          e[(k - 1) * G + g] = block[g].see(k - 1, starts ? V{} : r.length, diagonal);
        else
          block[g].begin(diagonal);
        y[g] = madd(r.by.c, g1, -ek[g]);
        dk[g] = d1 - move;
        z[g] = r.by.s * e1;
        ek[g] = r.by.c * e1;
        if constexpr (kVectors)
          right[g * group + k] = r.by;
      }
    for (int g = 0; g < G; ++g) {
      d[rows.end * G + g] = dk[g];
      e[(rows.end - 1) * G + g] = block[g].see(rows.end - 1, y[g], dk[g]);
    }
  }
  qr::finish<T, G>(log, block, failed, apply);
}

}  // namespace LC_ISA
}  // namespace lc
