#include "weights.h"

namespace lc {
namespace {

template <class T>
constexpr int64_t kPanel = 64 / static_cast<int64_t>(sizeof(T));

}  // namespace

int64_t weight_bytes(Storage, bool is_double, int64_t out, int64_t in) {
  const int64_t panel = is_double ? kPanel<double> : kPanel<float>;
  return (out + panel - 1) / panel * (in + 1) * 64;
}

template <class T>
void pack_weight(Storage, const T* weight, int64_t out_stride, int64_t in_stride, const T* bias, int64_t out,
                 int64_t in, void* panels) {
  T* to = static_cast<T*>(panels);
  for (int64_t first = 0; first < out; first += kPanel<T>)
    for (int64_t i = 0; i <= in; ++i)
      for (int64_t o = first; o < first + kPanel<T>; ++o, ++to)
        *to = o >= out ? T(0) : i < in ? weight[o * out_stride + i * in_stride] : bias ? bias[o] : T(0);
}

template void pack_weight(Storage, const float*, int64_t, int64_t, const float*, int64_t, int64_t, void*);
template void pack_weight(Storage, const double*, int64_t, int64_t, const double*, int64_t, int64_t, void*);

}  // namespace lc
