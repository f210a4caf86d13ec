// Applies a log of rotations (implicit_qr.h) to the vectors of each matrix, kFused sweeps at once: each row is read and
// written once for all of them, and stays in registers between.
//
// The rotations are carried out in the scaled form of Gentleman (Least squares computations by Givens transformations
// without square roots, 1973): the rows stand as d[i] * row[i], so that a rotation costs two multiply-adds,
//   c * d0 * (x0 + a * x1), c * d1 * (x1 - b * x0),   a = s / c * d1 / d0, b = s / c * d0 / d1,
// and the scales are multiplied in once for all sweeps of the log. Where c would make a scale too small, the rows
// change places: s * d1 * (x1 + a * x0), -s * d0 * (x0 - b * x1) with a = c / s * d0 / d1, b = c / s * d1 / d0.
#pragma once

#include "implicit_qr.h"
#include "panels.h"
#include "product.h"

namespace lc {
namespace LC_ISA {

// Sweeps at once: their carried rows, one row between them and two factors fill the registers.
constexpr int kFused = kRegisters == 32 ? 4 : 2;
// One step of the fused sweeps: a and -b of each, then a word of bits that tell which of them exchange rows.
constexpr int kStep = 2 * kFused + 1;
constexpr int64_t kLogSweeps = 32;
static_assert(kLogSweeps % kFused == 0 && kLogSweeps <= kMostSweeps && kFused <= kSpareBefore);

// What one matrix's rows go through: planes [begin, end) of each group of sweeps, from step[begin] on.
struct Passes {
  int32_t begin[kLogSweeps / kFused], end[kLogSweeps / kFused];
};

// A log made ready for the matrices in its lanes.
template <class T>
struct Steps {
  T *step, *scale;  // of each lane: {groups, n + kFused, kStep} and {n}
  int64_t lane_steps, lane_scales;
  Passes* passes;  // of each lane
  T* staged;       // {kStaged, kStep, lanes}
  Vec<T>*scales, *inverses;
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
  s.scales = carver.take<Vec<T>>(n);
  s.inverses = carver.take<Vec<T>>(n);
  return s;
}

// 1 / d from an estimate, by a Newton step: the error is that of this step alone, where it would add up over rotations.
template <class T>
LC_INLINE Vec<T> reciprocal(Vec<T> d, Vec<T> estimate) {
  return madd(estimate, madd(-d, estimate, splat(T(1))), estimate);
}
template <class T>
void prepare(const Steps<T>& out, const SweepLog<T>& log, const Rotation<T>* rotations, int64_t n, int64_t count) {
  using V = Vec<T>;
  using M = Mask<T>;
  constexpr int L = kLanes<T>;
  const V one = splat(T(1)), least = splat(sizeof(T) == 4 ? static_cast<T>(0x1p-40) : static_cast<T>(0x1p-900));
  for (int64_t i = 0; i < n; ++i) out.scales[i] = out.inverses[i] = one;
  for (int group = 0; group * kFused < log.sweeps; ++group) {
    const int first = group * kFused, sweeps = log.sweeps - first < kFused ? log.sweeps - first : kFused;
    int64_t begin = n, end = 0;
    for (int r = 0; r < sweeps; ++r) {
      begin = log.begin[first + r] < begin ? log.begin[first + r] : begin;
      end = log.end[first + r] > end ? log.end[first + r] : end;
    }
    M lo = M{} + static_cast<Int<T>>(n), hi = M{};
    T* to = out.step + (group * (n + kFused) + begin) * kStep;
    T* staged = out.staged;
    for (int64_t t = begin; t < end + kFused - 1; ++t) {
      M exchanges = M{};
      for (int r = 0; r < kFused; ++r, staged += 2 * L) {
        const int64_t k = t - r;
        if (r >= sweeps || k < log.begin[first + r] || k >= log.end[first + r]) {
          store<T>(staged, V{});
          store<T>(staged + L, V{});
          continue;
        }
        const Rotation<T> by = rotations[(first + r) * n + k];
        const V d0 = out.scales[k], d1 = out.scales[k + 1], i0 = out.inverses[k], i1 = out.inverses[k + 1];
        const V c = magnitude<T>(by.c), s = magnitude<T>(by.s);
        const M exchange = (s > c) & (c * smaller(magnitude<T>(d0), magnitude<T>(d1)) < least);
        const V major = exchange ? by.s : by.c, inverse = one / major, ratio = (exchange ? by.c : by.s) * inverse;
        const V up = ratio * (d1 * i0), down = ratio * (d0 * i1);
        store<T>(staged, exchange ? down : up);
        store<T>(staged + L, exchange ? -up : -down);
        const M plane = M{} + static_cast<Int<T>>(k), acts = (by.s != V{}) | (by.c != one);
        out.scales[k] = major * (exchange ? d1 : d0);
        out.scales[k + 1] = major * (exchange ? -d0 : d1);
        out.inverses[k] = acts ? reciprocal<T>(out.scales[k], inverse * (exchange ? i1 : i0)) : i0;
        out.inverses[k + 1] = acts ? reciprocal<T>(out.scales[k + 1], inverse * (exchange ? -i0 : i1)) : i1;
        exchanges |= exchange & (Int<T>(1) << r);
        lo = acts & (plane < lo) ? plane : lo;
        hi = acts & (plane >= hi) ? plane + 1 : hi;
      }
      store<T>(staged, bits<V>(exchanges));
      staged += L;
      if (staged == out.staged + kStaged * kStep * L || t == end + kFused - 2) {
        const int64_t rows = (staged - out.staged) / L;
        transpose<T>(to, out.lane_steps, out.staged, L, rows, count);
        to += rows;
        staged = out.staged;
      }
    }
    for (int64_t lane = 0; lane < count; ++lane) {
      out.passes[lane].begin[group] = static_cast<int32_t>(lo[lane]);
      out.passes[lane].end[group] = static_cast<int32_t>(hi[lane]);
    }
  }
  transpose<T>(out.scale, out.lane_scales, reinterpret_cast<const T*>(out.scales), L, n, count);
}

// Rows from x on, in N panels, through `count` steps.
template <class T, int N>
__attribute__((noinline)) void rotate(T* x, int64_t stride, const T* step, int64_t count) {
  constexpr int V = N * kSplit, P = kPanel<T>;
  Vec<T> carry[kFused][V];
#pragma GCC unroll 4
  for (int r = 0; r < kFused; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) carry[r][v] = load<T>(x - r * P + vector_at<T>(stride, v));
  for (const T* const last = step + count * kStep; step < last; step += kStep, x += P) {
    Vec<T> row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = load<T>(x + P + vector_at<T>(stride, v));
    Int<T> exchanges;
    std::memcpy(&exchanges, step + 2 * kFused, sizeof exchanges);
    if (__builtin_expect(exchanges != 0, 0)) {
      for (int r = 0; r < kFused; ++r)
        if (exchanges >> r & 1)
          for (int v = 0; v < V; ++v) {
            const Vec<T> other = row[v];
            row[v] = madd(splat(step[2 * r]), carry[r][v], other);
            carry[r][v] = madd(splat(step[2 * r + 1]), other, carry[r][v]);
          }
        else
          for (int v = 0; v < V; ++v) {
            const Vec<T> other = row[v];
            row[v] = madd(splat(step[2 * r]), other, carry[r][v]);
            carry[r][v] = madd(splat(step[2 * r + 1]), carry[r][v], other);
          }
    } else {
#pragma GCC unroll 4
      for (int r = 0; r < kFused; ++r) {
        Vec<T> a = splat(step[2 * r]), b = splat(step[2 * r + 1]);
        pin(a);
        pin(b);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec<T> other = row[v];
          row[v] = madd(a, other, carry[r][v]);
          carry[r][v] = madd(b, carry[r][v], other);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store<T>(x + (1 - kFused) * P + vector_at<T>(stride, v), row[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) store<T>(x + (1 - kFused) * P + vector_at<T>(stride, v), carry[kFused - 1][v]);
}

// All sweeps of a log on the n rows of x, the matrix in `lane`.
template <class T>
void rotate(const Panels<T>& x, const Steps<T>& steps, int sweeps, int64_t lane, int64_t n) {
  const Passes& passes = steps.passes[lane];
  const T* scale = steps.scale + lane * steps.lane_scales;
  const int groups = static_cast<int>(divide_up(sweeps, kFused));
  int64_t lowest = n, highest = 0;
  for (int g = 0; g < groups; ++g)
    if (passes.begin[g] < passes.end[g]) {
      lowest = passes.begin[g] < lowest ? passes.begin[g] : lowest;
      highest = passes.end[g] > highest ? passes.end[g] : highest;
    }
  in_groups(0, panels_of<T>(n), [&](auto panels, int64_t p) {
    constexpr int N = decltype(panels)::value;
    for (int g = 0; g < groups; ++g) {
      const int64_t begin = passes.begin[g], end = passes.end[g];
      if (begin < end)
        rotate<T, N>(x.line(p, begin), x.stride,
                     steps.step + lane * steps.lane_steps + (g * (n + kFused) + begin) * kStep,
                     end - begin + kFused - 1);
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

}  // namespace LC_ISA
}  // namespace lc
