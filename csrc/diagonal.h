// The diagonal Gaussian of an encoder: its log-variance is clamped to [-30, 20], with zero gradient outside.
#pragma once

#include "vmath.h"

namespace lc {
namespace LC_ISA {

template <class T>
LC_INLINE Vec<T> clamp_logvar(Vec<T> v) {
  return smaller(splat(T(20)), larger(splat(T(-30)), v));
}
// 1 where the clamp leaves v alone, 0 outside.
template <class T>
LC_INLINE Vec<T> inside_clamp(Vec<T> v) {
  const Vec<T> one = splat(T(1)), zero = splat(T(0));
  const Vec<T> low = v < splat(T(-30)) ? zero : one;
  return v > splat(T(20)) ? zero : low;
}
template <class T>
LC_INLINE Vec<T> deviation(Vec<T> logvar) {
  return vexp<T>(splat(T(0.5)) * logvar);
}
// KL(N(mu, e^logvar) || N(0, 1)) of each element, in nats; logvar clamped.
template <class T>
LC_INLINE Vec<T> kl_of(Vec<T> mu, Vec<T> logvar) {
  return splat(T(0.5)) * madd(mu, mu, vexpm1<T>(logvar) - logvar);
}

}  // namespace LC_ISA
}  // namespace lc
