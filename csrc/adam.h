// One update of Adam (Kingma and Ba 2015, in PyTorch's form) with decoupled weight decay (Loshchilov and Hutter 2019).
#pragma once

#include <math.h>

#include "op.h"
#include "simd.h"

namespace lc {
namespace LC_ISA {

template <class T>
struct Adam {
  T beta1, rest1, beta2, rest2, step_size, root_scale, epsilon, keep;

  // option: beta1, beta2, epsilon, weight_decay; step counts from 0
  Adam(const double* option, double learning_rate, int64_t step) {
    const double t = static_cast<double>(step + 1);
    beta1 = T(option[0]);
    rest1 = T(1 - option[0]);
    beta2 = T(option[1]);
    rest2 = T(1 - option[1]);
    step_size = T(learning_rate / (1 - ::pow(option[0], t)));
    root_scale = T(1 / ::sqrt(1 - ::pow(option[1], t)));
    epsilon = T(option[2]);
    keep = T(1 - learning_rate * option[3]);
  }

  void operator()(T* w, T* m, T* v, const T* g, T scale, int64_t n) const {
    for_lanes<T>(n, [&](int64_t i, auto get, auto put) LC_LAMBDA {
      const Vec<T> d = get(g + i) * splat(scale);
      const Vec<T> m1 = madd(splat(beta1), get(m + i), splat(rest1) * d);
      const Vec<T> v1 = madd(splat(beta2), get(v + i), splat(rest2) * (d * d));
      const Vec<T> by = madd(square_root(v1), splat(root_scale), splat(epsilon));
      put(m + i, m1);
      put(v + i, v1);
      put(w + i, madd(get(w + i), splat(keep), splat(-step_size) * (m1 / by)));
    });
  }
};

}  // namespace LC_ISA
}  // namespace lc
