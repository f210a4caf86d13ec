// Householder reflectors 1 - v v', |v|^2 = 2 or v = 0, of matrices in lanes (lanes.h), one at a time and four at a
// time.
#pragma once

#include "lanes.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// A tail whose squared length is less is as good as 0.
template <class T>
constexpr T kNoTail = sizeof(T) == 4 ? static_cast<T>(1e-26) : static_cast<T>(1e-60);

// The reflector that turns (head, tail) into (value, 0): v = (first, factor * tail).
template <class T>
struct Reflector {
  Vec<T> first, factor, value;
};
template <class T>
LC_INLINE Reflector<T> reflector(Vec<T> head, Vec<T> tail_square) {
  const Vec<T> one = splat(T(1));
  const Mask<T> any = tail_square >= kNoTail<T>, sign = sign_of<T>(head);
  const Vec<T> norm = square_root(madd(head, head, tail_square)), inverse = one / norm;
  const Vec<T> first = square_root(one + magnitude<T>(head) * inverse), factor = inverse / first;
  const auto with = [&](Vec<T> v, Mask<T> s) { return bits<Vec<T>>(bits<Mask<T>>(v) ^ s); };
  const Mask<T> minus = sign_of<T>(-one);
  return {any ? first : Vec<T>{}, any ? with(factor, sign) : Vec<T>{}, any ? with(norm, sign ^ minus) : head};
}

// Rows that one chain adds up: long sums of like terms would gather errors of one sign.
constexpr int64_t kChain = 64;

// The sum of f(i), begin <= i < end, each added to what f is given.
template <class T, class F>
LC_INLINE Vec<T> sum_of_products(int64_t begin, int64_t end, F&& f) {
  Vec<T> total = {};
  for (int64_t i = begin; i < end;) {
    Vec<T> sum[4] = {};
    const int64_t stop = end - i < kChain ? end : i + kChain;
    for (; i + 4 <= stop; i += 4)
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) sum[c] = f(i + c, sum[c]);
    for (; i < stop; ++i) sum[0] = f(i, sum[0]);
    total += (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
  return total;
}

// Columns that stay in registers beside R reflectors.
constexpr int kColumns = kRegisters == 32 ? 4 : 2;

// q[rows][C] = H q; H the product of R reflectors, the last one (kForward: the first) first. v[rows][R], and their
// products product[a * R + b] = v_a . v_b.
template <class T, int R, int C, bool kForward, class Lane>
LC_INLINE void reflect_columns(Vec<T>* q, int64_t row, int64_t rows, const Vec<T>* v, const Vec<T>* product, Lane of) {
  Vec<T> w[R][C] = {}, total[R][C] = {};
  for (int64_t i = 0; i < rows;) {
    const int64_t stop = rows - i < kChain ? rows : i + kChain;
    for (; i < stop; ++i) {
      Vec<T> u[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) u[r] = of(v[i * R + r]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const Vec<T> x = q[i * row + c];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) w[r][c] = madd(u[r], x, w[r][c]);
      }
    }
    for (int r = 0; r < R && rows > kChain; ++r)
      for (int c = 0; c < C; ++c) {
        total[r][c] += w[r][c];
        w[r][c] = i < rows ? Vec<T>{} : total[r][c];
      }
  }
#pragma GCC unroll 4
  for (int a = 1; a < R; ++a)
#pragma GCC unroll 4
    for (int b = 0; b < a; ++b) {
      const int to = kForward ? a : R - 1 - a, from = kForward ? b : R - 1 - b;
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) w[to][c] = madd(-of(product[to * R + from]), w[from][c], w[to][c]);
    }
  for (int64_t i = 0; i < rows; ++i) {
    Vec<T> u[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) u[r] = -of(v[i * R + r]);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      Vec<T> x = q[i * row + c];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) x = madd(u[r], w[r][c], x);
      q[i * row + c] = x;
    }
  }
}
template <class T, int R, bool kForward, class Lane>
void reflect(Vec<T>* q, int64_t row, int64_t rows, int64_t columns, const Vec<T>* v, Lane of) {
  Vec<T> product[R * R];
  for (int a = 0; a < R; ++a)
    for (int b = 0; b < a; ++b)
      product[a * R + b] = product[b * R + a] = sum_of_products<T>(
          0, rows, [&](int64_t i, Vec<T> sum) LC_LAMBDA { return madd(v[i * R + a], v[i * R + b], sum); });
  int64_t c = 0;
  for (; c + kColumns <= columns; c += kColumns)
    reflect_columns<T, R, kColumns, kForward>(q + c, row, rows, v, product, of);
  for (; c < columns; ++c) reflect_columns<T, R, 1, kForward>(q + c, row, rows, v, product, of);
}
// count = 1 .. 4 reflectors.
template <class T, bool kForward, class Lane = EveryLane<T>>
LC_INLINE void reflect(int count, Vec<T>* q, int64_t row, int64_t rows, int64_t columns, const Vec<T>* v,
                       Lane of = {}) {
  switch (count) {
    case 1:
      return reflect<T, 1, kForward>(q, row, rows, columns, v, of);
    case 2:
      return reflect<T, 2, kForward>(q, row, rows, columns, v, of);
    case 3:
      return reflect<T, 3, kForward>(q, row, rows, columns, v, of);
    case 4:
      return reflect<T, 4, kForward>(q, row, rows, columns, v, of);
  }
  __builtin_unreachable();
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
