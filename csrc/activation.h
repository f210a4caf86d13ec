// The activations of a linear layer: value, and derivative from what the forward pass kept.
#pragma once

#include "vmath.h"

namespace lc {
namespace LC_ISA {

// The order of latentcore/ops/linear.py: ACTIVATIONS.
enum class Activation { kIdentity, kRelu, kLeakyRelu, kTanh, kSigmoid, kSoftplus, kGelu, kSilu };
constexpr double kLeakySlope = 0.01;

template <class T, Activation A>
LC_INLINE Vec<T> activate(Vec<T> x) {
  if constexpr (A == Activation::kIdentity)
    return x;
  if constexpr (A == Activation::kRelu)
    return larger(splat(T(0)), x);
  if constexpr (A == Activation::kLeakyRelu)
    return x > splat(T(0)) ? x : x * splat(T(kLeakySlope));
  if constexpr (A == Activation::kTanh)
    return vtanh<T>(x);
  if constexpr (A == Activation::kSigmoid)
    return vsigmoid<T>(x);
  if constexpr (A == Activation::kSoftplus)
    return vsoftplus<T>(x);
  if constexpr (A == Activation::kGelu) {
    const Vec<T> half = splat(T(0.5)) * x;
    return madd(half, verf<T>(x * splat(T(0.70710678118654752440))), half);
  }
  if constexpr (A == Activation::kSilu)
    return x * vsigmoid<T>(x);
}

// d activate / d x, from the output y, or from the input x for the two whose output does not determine it.
template <class T, Activation A>
LC_INLINE Vec<T> derivative(Vec<T> y, Vec<T> x) {
  const Vec<T> one = splat(T(1)), zero = splat(T(0));
  if constexpr (A == Activation::kIdentity)
    return one;
  if constexpr (A == Activation::kRelu)
    return y > zero ? one : zero;
  if constexpr (A == Activation::kLeakyRelu)
    return y > zero ? one : splat(T(kLeakySlope));
  if constexpr (A == Activation::kTanh)
    return (one - y) * (one + y);
  if constexpr (A == Activation::kSigmoid)
    return y * (one - y);
  if constexpr (A == Activation::kSoftplus)
    return zero - vexpm1<T>(zero - y);
  if constexpr (A == Activation::kGelu) {
    const Vec<T> cdf = madd(splat(T(0.5)), verf<T>(x * splat(T(0.70710678118654752440))), splat(T(0.5)));
    const Vec<T> pdf = vexp<T>(x * x * splat(T(-0.5))) * splat(T(0.39894228040143267794));
    return madd(x, pdf, cdf);
  }
  if constexpr (A == Activation::kSilu) {
    const Vec<T> s = vsigmoid<T>(x);
    return s * madd(x, one - s, one);
  }
}

// y = activate(y) over a rectangle of rows `stride` apart, in place; the sums are kept in `before` if there is one.
template <class T, Activation A>
void activate_rows(T* y, T* before, int64_t rows, int64_t columns, int64_t stride) {
  if (columns == stride) {  // narrow rows then share the latency of their arithmetic
    columns *= rows;
    rows = 1;
  }
  for (int64_t r = 0; r < rows; ++r)
    for_lanes<T>(columns, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      const int64_t i = r * stride + j;
      const Vec<T> x = get(y + i);
      if (before)
        put(before + i, x);
      put(y + i, activate<T, A>(x));
    });
}
// d = d * derivative, likewise.
template <class T, Activation A>
void derive_rows(T* d, const T* y, const T* before, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r)
    for_lanes<T>(columns, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      const int64_t i = r * stride + j;
      put(d + i, get(d + i) * derivative<T, A>(get(y + i), before ? get(before + i) : Vec<T>{}));
    });
}

template <class T>
using ActivateRows = void (*)(T*, T*, int64_t, int64_t, int64_t);
template <class T>
using DeriveRows = void (*)(T*, const T*, const T*, int64_t, int64_t, int64_t);

#define LC_EACH_ACTIVATION(F)                                                                                       \
  {F<T, Activation::kIdentity>, F<T, Activation::kRelu>,     F<T, Activation::kLeakyRelu>, F<T, Activation::kTanh>, \
   F<T, Activation::kSigmoid>,  F<T, Activation::kSoftplus>, F<T, Activation::kGelu>,      F<T, Activation::kSilu>}
template <class T>
constexpr ActivateRows<T> kActivateRows[] = LC_EACH_ACTIVATION(activate_rows);
template <class T>
constexpr DeriveRows<T> kDeriveRows[] = LC_EACH_ACTIVATION(derive_rows);
#undef LC_EACH_ACTIVATION

}  // namespace LC_ISA
}  // namespace lc
