// Straight and spherical interpolation between the rows of a and b at t (Shoemake 1985), exact at both ends.
#include <math.h>

#include "../op.h"
#include "../simd.h"

namespace lc {
namespace LC_ISA {
namespace {

// Below this sine of the angle (parallel and opposite codes, and a zero code) the arc is taken as straight.
constexpr double kStraight = 1e-4;

// The arc between two rows: y = (1 - t)-weight * a + t-weight * b.
template <class T>
struct Arc {
  double length_a = 0, length_b = 0, dot = 0, sine = 0, cosine = 0, angle = 0;
  bool straight = true;

  Arc(const T* a, const T* b, int64_t n) {
    double aa = 0, bb = 0;
    for (int64_t j = 0; j < n; ++j) {
      aa += static_cast<double>(a[j]) * static_cast<double>(a[j]);
      bb += static_cast<double>(b[j]) * static_cast<double>(b[j]);
    }
    length_a = ::sqrt(aa);
    length_b = ::sqrt(bb);
    if (!(length_a > 0 && length_b > 0 && isfinite(length_a) && isfinite(length_b)))
      return;
    double difference = 0, sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double u = static_cast<double>(a[j]) / length_a, v = static_cast<double>(b[j]) / length_b;
      difference += (u - v) * (u - v);
      sum += (u + v) * (u + v);
      cosine += u * v;
    }
    angle = 2 * ::atan2(::sqrt(difference), ::sqrt(sum));  // Kahan 2006: good for every angle
    sine = ::sin(angle);
    straight = sine < kStraight;
  }
  double weight(double t) const { return straight ? t : ::sin(t * angle) / sine; }
  // d weight / d angle
  double slope(double t) const { return (t * ::cos(t * angle) - weight(t) * ::cos(angle)) / sine; }
};

// y[r,l] = a[r,l] b[r,l] t[r]; sizes r, l
template <class T, bool Spherical>
int blend(const Call& call, const Run& run) {
  T* y = run.get<T>(call, 0);
  const T *a = run.get<T>(call, 1), *b = run.get<T>(call, 2), *t = run.get<T>(call, 3);
  const int64_t rows = run.size(call, 0), width = run.size(call, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const T *from = a + r * width, *to = b + r * width;
    double wa = 1 - static_cast<double>(t[r]), wb = static_cast<double>(t[r]);
    if constexpr (Spherical) {
      const Arc<T> arc(from, to, width);
      wa = arc.weight(wa);
      wb = arc.weight(wb);
    }
    for (int64_t j = 0; j < width; ++j)
      y[r * width + j] = T(wa * static_cast<double>(from[j]) + wb * static_cast<double>(to[j]));
  }
  return 0;
}

// da[r,l] db[r,l] = dy[r,l] a[r,l] b[r,l] t[r]; sizes r, l
template <class T, bool Spherical>
int blend_backward(const Call& call, const Run& run) {
  T *da = run.get<T>(call, 0), *db = run.get<T>(call, 1);
  const T *dy = run.get<T>(call, 2), *a = run.get<T>(call, 3), *b = run.get<T>(call, 4), *t = run.get<T>(call, 5);
  const int64_t rows = run.size(call, 0), width = run.size(call, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const T *g = dy + r * width, *from = a + r * width, *to = b + r * width;
    const double tb = static_cast<double>(t[r]), ta = 1 - tb;
    double wa = ta, wb = tb, bend = 0;  // bend: d y / d angle along dy, over sine
    const Arc<T> arc(from, to, width);
    if (Spherical && !arc.straight) {
      wa = arc.weight(ta);
      wb = arc.weight(tb);
      double along_a = 0, along_b = 0;
      for (int64_t j = 0; j < width; ++j) {
        along_a += static_cast<double>(g[j]) * static_cast<double>(from[j]);
        along_b += static_cast<double>(g[j]) * static_cast<double>(to[j]);
      }
      bend = (along_a * arc.slope(ta) + along_b * arc.slope(tb)) / arc.sine;
    }
    for (int64_t j = 0; j < width; ++j) {
      double ga = wa * static_cast<double>(g[j]), gb = wb * static_cast<double>(g[j]);
      if (bend != 0) {
        const double u = static_cast<double>(from[j]) / arc.length_a, v = static_cast<double>(to[j]) / arc.length_b;
        ga -= bend * (v - u * arc.cosine) / arc.length_a;
        gb -= bend * (u - v * arc.cosine) / arc.length_b;
      }
      da[r * width + j] = T(ga);
      db[r * width + j] = T(gb);
    }
  }
  return 0;
}

}  // namespace

extern const Op kInterpolate[] = {
    {"lerp_forward", blend<float, false>, blend<double, false>, nullptr, nullptr},
    {"lerp_backward", blend_backward<float, false>, blend_backward<double, false>, nullptr, nullptr},
    {"slerp_forward", blend<float, true>, blend<double, true>, nullptr, nullptr},
    {"slerp_backward", blend_backward<float, true>, blend_backward<double, true>, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
