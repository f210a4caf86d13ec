// One matrix in panels a cache line wide: element (i, j) stands at at[(j / kPanel) * stride + i * kPanel + j % kPanel].
// Each panel has spare rows before and after; they and the columns that fill up the last panel are 0, so that kernels
// run over whole lines and blocks of rows without looking at the edge.
#pragma once

#include "op.h"
#include "simd.h"

namespace lc {
namespace LC_ISA {

constexpr int64_t kSpareBefore = 4, kSpareAfter = 16;

template <class T>
LC_INLINE int64_t panels_of(int64_t columns) {
  return divide_up(columns, kPanel<T>);
}

template <class T>
struct Panels {
  T* at;
  int64_t stride;

  LC_INLINE T* line(int64_t panel, int64_t row) const { return at + panel * stride + row * kPanel<T>; }
  LC_INLINE T& operator()(int64_t row, int64_t column) const {
    return line(column / kPanel<T>, row)[column % kPanel<T>];
  }
};

// An odd number of lines, so that panels do not fall on the same cache sets.
template <class T>
LC_INLINE Panels<T> take_panels(Carver& carver, int64_t rows, int64_t columns) {
  const int64_t stride = ((rows + kSpareBefore + kSpareAfter) | 1) * kPanel<T>;
  T* at = carver.take<T>(stride * panels_of<T>(columns));
  return {at ? at + kSpareBefore * kPanel<T> : at, stride};
}
template <class T>
void clear(const Panels<T>& x, int64_t columns) {
  std::memset(x.at - kSpareBefore * kPanel<T>, 0, x.stride * panels_of<T>(columns) * static_cast<int64_t>(sizeof(T)));
}

// ---- vectors across a few panels at once ----------------------------------------------------------------------------

// Panels whose lines make four vectors.
constexpr int kGroup = 4 / kSplit;

template <int N>
struct Count {
  static constexpr int value = N;
};

// f(Count<N>, first) over [first, last) in groups of N <= kGroup panels.
template <class F>
LC_INLINE void in_groups(int64_t first, int64_t last, F&& f) {
  for (; first + kGroup <= last; first += kGroup) f(Count<kGroup>{}, first);
  if constexpr (kGroup > 2) {
    if (last - first == 3)
      f(Count<3>{}, first);
    else if (last - first == 2)
      f(Count<2>{}, first);
  }
  if constexpr (kGroup > 1)
    if (last - first == 1)
      f(Count<1>{}, first);
}

// The same groups, shared out to a team; null: to nobody.
template <class F>
LC_INLINE void in_groups(Team* team, int64_t first, int64_t last, F&& f) {
  const int64_t groups = divide_up(last - first, kGroup);
  if (!team || groups < 2)
    return in_groups(first, last, f);
  const int64_t pieces = groups < team->threads() ? groups : team->threads();
  team->each(pieces, [&](int64_t piece, int) {
    const Span span = part_of(groups, pieces, piece);
    const int64_t end = first + span.end * kGroup;
    in_groups(first + span.begin * kGroup, end < last ? end : last, f);
  });
}

// Vector v of one row of a group of panels.
template <class T>
LC_INLINE int64_t vector_at(int64_t stride, int v) {
  return v / kSplit * stride + v % kSplit * kLanes<T>;
}

// ---- sums over lanes ------------------------------------------------------------------------------------------------

template <int... J>
struct Lanes {};
template <int Count>
struct LaneList;
template <>
struct LaneList<2> {
  using List = Lanes<0, 1>;
};
template <>
struct LaneList<4> {
  using List = Lanes<0, 1, 2, 3>;
};
template <>
struct LaneList<8> {
  using List = Lanes<0, 1, 2, 3, 4, 5, 6, 7>;
};
template <>
struct LaneList<16> {
  using List = Lanes<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
};

// Sums of lanes H apart, in turn from a and from b.
template <int H, class V, int... J>
LC_INLINE V join(V a, V b, Lanes<J...>) {
  constexpr int L = sizeof...(J);
  return __builtin_shufflevector(a, b, (J / H % 2 * L + J / (2 * H) * 2 * H + J % H)...) +
         __builtin_shufflevector(a, b, (J / H % 2 * L + J / (2 * H) * 2 * H + J % H + H)...);
}

// Lanes H apart change places.
template <int H, class V, int... J>
LC_INLINE V swap(V a, Lanes<J...>) {
  return __builtin_shufflevector(a, a, (J ^ H)...);
}
template <int H, class V>
LC_INLINE V swap(V a) {
  return swap<H>(a, typename LaneList<sizeof(V) / sizeof(a[0])>::List{});
}

// All lanes put together by a function of two vectors that knows no order, in every lane.
template <class V, class F>
LC_INLINE V across(V a, F&& f) {
  constexpr int L = sizeof(V) / sizeof(a[0]);
  if constexpr (L > 8)
    a = f(a, swap<8>(a));
  if constexpr (L > 4)
    a = f(a, swap<4>(a));
  if constexpr (L > 2)
    a = f(a, swap<2>(a));
  return f(a, swap<1>(a));
}

template <class T, int... J>
LC_INLINE Mask<T> numbers(int64_t first, Lanes<J...>) {
  return Mask<T>{J...} + static_cast<Int<T>>(first);
}
// first, first + 1, ... in the lanes.
template <class T>
LC_INLINE Mask<T> numbers(int64_t first) {
  return numbers<T>(first, typename LaneList<kLanes<T>>::List{});
}

// Lane i is the sum of the lanes of a[i], which is overwritten.
template <class T>
LC_INLINE Vec<T> sums(Vec<T> (&a)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  constexpr typename LaneList<L>::List lanes;
#pragma GCC unroll 8
  for (int i = 0; i < L / 2; ++i) a[i] = join<1>(a[2 * i], a[2 * i + 1], lanes);
  if constexpr (L > 2)
#pragma GCC unroll 4
    for (int i = 0; i < L / 4; ++i) a[i] = join<2>(a[2 * i], a[2 * i + 1], lanes);
  if constexpr (L > 4)
#pragma GCC unroll 2
    for (int i = 0; i < L / 8; ++i) a[i] = join<4>(a[2 * i], a[2 * i + 1], lanes);
  if constexpr (L > 8)
    a[0] = join<8>(a[0], a[1], lanes);
  return a[0];
}

template <class T>
LC_INLINE T sum(Vec<T> a) {
  constexpr int L = kLanes<T>;
  constexpr typename LaneList<L>::List lanes;
  if constexpr (L > 8)
    a = join<8>(a, a, lanes);
  if constexpr (L > 4)
    a = join<4>(a, a, lanes);
  if constexpr (L > 2)
    a = join<2>(a, a, lanes);
  return a[0] + a[1];
}

// a . b over [begin, end), both multiples of the lanes.
template <class T>
LC_INLINE T dot(const T* a, const T* b, int64_t begin, int64_t end) {
  constexpr int L = kLanes<T>;
  Vec<T> sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {};
  int64_t i = begin;
  for (; i + 4 * L <= end; i += 4 * L) {
    sum0 = madd(load<T>(a + i), load<T>(b + i), sum0);
    sum1 = madd(load<T>(a + i + L), load<T>(b + i + L), sum1);
    sum2 = madd(load<T>(a + i + 2 * L), load<T>(b + i + 2 * L), sum2);
    sum3 = madd(load<T>(a + i + 3 * L), load<T>(b + i + 3 * L), sum3);
  }
  for (; i < end; i += L) sum0 = madd(load<T>(a + i), load<T>(b + i), sum0);
  return sum<T>((sum0 + sum1) + (sum2 + sum3));
}

}  // namespace LC_ISA
}  // namespace lc
