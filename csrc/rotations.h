// Applies a log of rotations (implicit_qr.h) to the vectors of each matrix, kFused sweeps at once: each row is read and
// written once for all of them, and stays in registers between.
//
// The rotations are carried out in the scaled form of Gentleman (Least squares computations by Givens transformations
// without square roots, 1973): the rows stand as d[i] * row[i], so that a rotation costs two multiply-adds,
//   c * d0 * (x0 + a * x1), c * d1 * (x1 - b * x0),   a = s / c * d1 / d0, b = s / c * d0 / d1,
// and the scales are multiplied in once for all sweeps of the log. A rotation with |c| < |s| that would make a scale
// too small leaves the scales alone: c * x0 + q * x1, c * x1 - w * x0 with q = s * d1 / d0, w = s * d0 / d1 = s * s /
// q. A scale then falls by 1 / sqrt(2) a rotation at most, and a row turns twice a sweep.
#pragma once

#include "implicit_qr.h"
#include "panels.h"
#include "product.h"

namespace lc {
namespace LC_ISA {

// Groups of lanes side by side, which hide each other's latency, while there is cache for so many matrices.
constexpr int kGroups = 2;
template <class T>
LC_INLINE int groups_of(int64_t n) {
  return n <= 128 ? kGroups : 1;
}
// The most matrices of n columns that svd_blocks and eigh_blocks take at once.
template <class T>
LC_INLINE int64_t blocks_at_once(int64_t n) {
  return groups_of<T>(n) * kLanes<T>;
}
// Who helps with one of `pieces` of a batch: everybody with a large matrix that is alone, else nobody.
LC_INLINE Team* helpers(Team* team, int64_t pieces, int64_t n) {
  return pieces == 1 && team->threads() > 1 && n >= 96 ? team : nullptr;
}

// Sweeps at once: their carried rows, one row between them and two factors fill the registers.
constexpr int kFused = kRegisters == 32 ? 4 : 2;
// One step of the fused sweeps: a and b of each, then a word of bits that tell which of them hold c and q instead.
constexpr int kStep = 2 * kFused + 1;
constexpr int64_t kLogSweeps = 32;
static_assert(kLogSweeps % kFused == 0 && kLogSweeps <= kMostSweeps && kFused <= kSpareBefore);

// What one matrix's rows go through: steps [begin, end) of each group of sweeps. At step t sweep r turns plane t - r.
struct Passes {
  int32_t begin[kLogSweeps / kFused], end[kLogSweeps / kFused];
};

// The scale of a row and its inverse, in each lane.
template <class T>
struct Carried {
  Vec<T> d, inverse;
};

// A log made ready for the matrices in its lanes.
template <class T>
struct Steps {
  T *step, *scale;  // of each lane: {groups, n + kFused, kStep} and {n}
  int64_t lane_steps, lane_scales;
  Passes* passes;  // of each lane
  T* staged;       // {kStaged, kStep, lanes}
  Carried<T>* rows;
};
constexpr int64_t kStaged = 16;

template <class T>
Steps<T> take_steps(Carver& carver, int64_t n) {
  constexpr int64_t L = kLanes<T>;
  Steps<T> s;
  s.lane_steps = round_up((n + kFused) * kStep * (kLogSweeps / kFused), kPanel<T>) + kPanel<T>;
  s.lane_scales = round_up(n, kPanel<T>);
  s.step = carver.take<T>(s.lane_steps * L);
  s.scale = carver.take<T>(s.lane_scales * L);
  s.passes = carver.take<Passes>(L);
  s.staged = carver.take<T>(kStaged * kStep * L);
  s.rows = carver.take<Carried<T>>(n + 2 * kSpareBefore);
  if (s.rows)
    s.rows += kSpareBefore;
  return s;
}

// 1 / d from an estimate: by a Newton step, whose error is that of this step alone, where it would add up over
// rotations.
template <class T>
LC_INLINE Vec<T> reciprocal(Vec<T> d, Vec<T> estimate) {
#if defined(__AVX2__)
  return madd(estimate, madd(-d, estimate, splat(T(1))), estimate);
#else
  (void)estimate;  // 1 - d * estimate, rounded twice, would keep the error
  return T(1) / d;
#endif
}

// The factors of one rotation, and the rows' new scales; tells which lanes leave the scales alone.
template <class T>
LC_INLINE Mask<T> scale_rotation(T* staged, const Rotation<T>& by, Carried<T>& row0, Carried<T>& row1, Mask<T>& any) {
  using V = Vec<T>;
  using M = Mask<T>;
  const V one = splat(T(1)), least = splat(sizeof(T) == 4 ? static_cast<T>(0x1p-60) : static_cast<T>(0x1p-500));
  // Of length 1 to the last bit or so: what is left would add up over the sweeps, where a rotation hardly changes.
  const V half = madd(-by.s, by.s, madd(-by.c, by.c, one)) * T(0.5);
  const V c = madd(by.c, half, by.c), s = madd(by.s, half, by.s);
  const V d0 = c * row0.d, d1 = c * row1.d, over = one / c;
  const V up = row1.d * row0.inverse, down = row0.d * row1.inverse, ratio = s * over;
  const M acts = (s != V{}) | (c != one);
  const M plain = (magnitude<T>(s) > magnitude<T>(c)) & (smaller(magnitude<T>(d0), magnitude<T>(d1)) < least);
  const M scaled = acts & ~plain;
  store<T>(staged, plain ? c : ratio * up);
  store<T>(staged + kLanes<T>, plain ? s * up : ratio * down);
  row0 = {scaled ? d0 : row0.d, scaled ? reciprocal<T>(d0, over * row0.inverse) : row0.inverse};
  row1 = {scaled ? d1 : row1.d, scaled ? reciprocal<T>(d1, over * row1.inverse) : row1.inverse};
  any |= acts;
  return plain;
}

// rotations: those of a group of lanes, one of G.
template <class T>
void prepare(const Steps<T>& out, const SweepLog<T>& log, const Rotation<T>* rotations, int64_t n, int64_t count) {
  using M = Mask<T>;
  constexpr int L = kLanes<T>;
  const Carried<T> plain = {splat(T(1)), splat(T(1))};
  const Rotation<T> none = {splat(T(1)), Vec<T>{}};
  Carried<T>* const rows = out.rows;
  for (int64_t i = -kSpareBefore; i < n + kSpareBefore; ++i) rows[i] = plain;
  for (int group = 0; group * kFused < log.sweeps; ++group) {
    // Steps that any sweep takes part in, and those that all do.
    const int first = group * kFused;
    int64_t begin = n, end = 0, all_begin = 0, all_end = n, from[kFused], to[kFused];
    for (int r = 0; r < kFused; ++r) {
      const bool there = first + r < log.sweeps;
      from[r] = there ? log.begin[first + r] + r : n;
      to[r] = there ? log.end[first + r] + r : 0;
      begin = from[r] < begin ? from[r] : begin;
      end = to[r] > end ? to[r] : end;
      all_begin = from[r] > all_begin ? from[r] : all_begin;
      all_end = to[r] < all_end ? to[r] : all_end;
    }
    M lo = M{} + static_cast<Int<T>>(end), hi = M{};
    T* steps = out.step + (group * (n + kFused) + begin) * kStep;
    T* staged = out.staged;
    Carried<T> carried[kFused];
    for (int r = 0; r < kFused; ++r) carried[r] = rows[begin - r];
    const auto take = [&](int64_t t, auto rotation) LC_LAMBDA {
      Carried<T> row = rows[t + 1];
      M plain = M{}, any = M{};
#pragma GCC unroll 4
      for (int r = 0; r < kFused; ++r) {
        plain |= scale_rotation(staged + 2 * r * L, rotation(r), carried[r], row, any) & (Int<T>(1) << r);
        const Carried<T> done = carried[r];
        carried[r] = row;
        row = done;
      }
      rows[t + 1 - kFused] = row;
      store<T>(staged + 2 * kFused * L, bits<Vec<T>>(plain));
      staged += kStep * L;
      const M step = M{} + static_cast<Int<T>>(t);
      lo = any & (step < lo) ? step : lo;
      hi = any ? step + 1 : hi;
      if (staged == out.staged + kStaged * kStep * L || t + 1 == end) {
        const int64_t filled = (staged - out.staged) / L;
        transpose<T>(steps, out.lane_steps, out.staged, L, filled, count);
        steps += filled;
        staged = out.staged;
      }
    };
    const Rotation<T>* const sweep = rotations + first * n;
    int64_t t = begin;
    for (; t < end && t < all_begin; ++t)
      take(t, [&](int r) LC_LAMBDA -> const Rotation<T>& {
        return t >= from[r] && t < to[r] ? sweep[r * n + t - r] : none;
      });
    for (; t < all_end; ++t) take(t, [&](int r) LC_LAMBDA -> const Rotation<T>& { return sweep[r * n + t - r]; });
    for (; t < end; ++t)
      take(t, [&](int r) LC_LAMBDA -> const Rotation<T>& {
        return t >= from[r] && t < to[r] ? sweep[r * n + t - r] : none;
      });
    for (int r = 0; r < kFused; ++r) rows[end - r] = carried[r];
    for (int64_t lane = 0; lane < count; ++lane) {
      out.passes[lane].begin[group] = static_cast<int32_t>(lo[lane]);
      out.passes[lane].end[group] = static_cast<int32_t>(hi[lane]);
    }
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t lane = 0; lane < count; ++lane) out.scale[lane * out.lane_scales + i] = rows[i].d[lane];
}

// Rows from x on, in N panels, through `count` steps.
template <class T, int N>
__attribute__((noinline)) void rotate(T* x, int64_t stride, const T* step, int64_t count) {
  constexpr int V = N * kSplit, P = kPanel<T>;
  Vec<T> carried[kFused][V];
#pragma GCC unroll 4
  for (int r = 0; r < kFused; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) carried[r][v] = load<T>(x - r * P + vector_at<T>(stride, v));
  for (const T* const last = step + count * kStep; step < last; step += kStep, x += P) {
    Vec<T> row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load<T>(x + P + vector_at<T>(stride, v));
    Int<T> plain;
    std::memcpy(&plain, step + 2 * kFused, sizeof plain);
    if (__builtin_expect(plain != 0, 0)) {
      for (int r = 0; r < kFused; ++r) {
        const T a = step[2 * r], b = step[2 * r + 1];
        const bool is_plain = plain >> r & 1;
        const Vec<T> own = splat(is_plain ? a : T(1)), up = splat(is_plain ? b : a);
        const Vec<T> down = splat(is_plain ? (a * a - 1) / b : -b);
        for (int v = 0; v < V; ++v) {
          const Vec<T> x0 = carried[r][v], x1 = row[v];
          row[v] = madd(up, x1, own * x0);
          carried[r][v] = madd(down, x0, own * x1);
        }
      }
    } else {
#pragma GCC unroll 4
      for (int r = 0; r < kFused; ++r) {
        Vec<T> a = splat(step[2 * r]), b = splat(step[2 * r + 1]);
        pin(a);
        pin(b);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec<T> x0 = carried[r][v], x1 = row[v];
          row[v] = madd(a, x1, x0);
          carried[r][v] = madd(-b, x0, x1);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store<T>(x + (1 - kFused) * P + vector_at<T>(stride, v), row[v]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kFused; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store<T>(x - r * P + vector_at<T>(stride, v), carried[r][v]);
}

// All sweeps of a log on the n rows of x, the matrix in `lane`: panels [first, last), `first` a multiple of a group.
template <class T>
void rotate(const Panels<T>& x, const Steps<T>& steps, int sweeps, int64_t lane, int64_t n, int64_t first,
            int64_t last) {
  const Passes& passes = steps.passes[lane];
  const T* scale = steps.scale + lane * steps.lane_scales;
  const int groups = static_cast<int>(divide_up(sweeps, kFused));
  int64_t lowest = n, highest = 0;
  for (int g = 0; g < groups; ++g)
    if (passes.begin[g] < passes.end[g]) {
      lowest = passes.begin[g] < lowest ? passes.begin[g] : lowest;
      highest = passes.end[g] > highest ? passes.end[g] : highest;
    }
  lowest = lowest < kFused ? 0 : lowest - kFused + 1;
  highest = highest < n ? highest : n - 1;
  in_groups(first, last, [&](auto panels, int64_t p) {
    constexpr int N = decltype(panels)::value;
    for (int g = 0; g < groups; ++g) {
      const int64_t begin = passes.begin[g], end = passes.end[g];
      if (begin < end)
        rotate<T, N>(x.line(p, begin), x.stride,
                     steps.step + lane * steps.lane_steps + (g * (n + kFused) + begin) * kStep, end - begin);
    }
    for (int64_t i = lowest; i <= highest; ++i) {
      const Vec<T> by = splat(scale[i]);
#pragma GCC unroll 4
      for (int v = 0; v < N * kSplit; ++v) {
        T* at = x.line(p, i) + vector_at<T>(x.stride, v);
        store<T>(at, load<T>(at) * by);
      }
    }
  });
}

// The same for the matrix in lane 0, up to `Sides` of them, as a job for a team, which does it while the next log is
// made.
template <class T, int Sides>
struct Turning {
  Panels<T> x[Sides];
  Steps<T> steps[Sides];
  int sweeps;
  int64_t n;

  int64_t items() const { return Sides * divide_up(panels_of<T>(n), kGroup); }
  void operator()(int64_t item, int) const {
    const int side = static_cast<int>(item % Sides);
    const int64_t first = item / Sides * kGroup, last = first + kGroup, panels = panels_of<T>(n);
    rotate(x[side], steps[side], sweeps, 0, n, first, last < panels ? last : panels);
  }
};

}  // namespace LC_ISA
}  // namespace lc
