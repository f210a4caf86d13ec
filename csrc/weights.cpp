#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "op.h"

namespace lc {
namespace {

constexpr float kLargestHalf = 65504, kLargestInteger = 127;
constexpr int64_t kMostInputs = 0x7fffffff / (255 * 127);  // whose products a sum of 32 bits holds

template <class T>
constexpr int64_t kPanel = 64 / static_cast<int64_t>(sizeof(T));

template <class T>
struct Source {
  const T *weight, *bias;
  int64_t out_stride, in_stride, out, in;

  T at(int64_t o, int64_t i) const { return o < out && i < in ? weight[o * out_stride + i * in_stride] : T(0); }
  T bias_at(int64_t o) const { return bias && o < out ? bias[o] : T(0); }
  // f(o, i) for every place of the panels, in their order; `together` i of an output lie side by side.
  template <class F>
  void each(int64_t rows, F&& f, int64_t together = 1) const {
    for (int64_t first = 0; first < out; first += kPanel<T>)
      for (int64_t i = 0; i < rows; i += together)
        for (int64_t o = first; o < first + kPanel<T>; ++o)
          for (int64_t j = i; j < i + together; ++j) f(o, j);
  }
};

[[noreturn]] void refuse(const char* dtype, const std::string& expected, float got) {
  throw std::invalid_argument("expected " + expected + " in " + dtype + ", got " + std::to_string(got));
}

Half to_half(float x) {
  if (!(std::fabs(x) <= kLargestHalf))
    refuse("float16", "numbers of at most 65504", x);
  uint32_t word;
  std::memcpy(&word, &x, sizeof word);
  const auto sign = static_cast<uint16_t>(word >> 16 & 0x8000u);
  // Below 2^-14 halves are multiples of 2^-24.
  if (std::fabs(x) < 0x1p-14f)
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::fabs(x) * 0x1p24f)))};
  word &= 0x7fffffffu;
  word += 0xfffu + (word >> 13 & 1) - (112u << 23);  // half a unit, less where the even one lies below
  return {static_cast<uint16_t>(sign | static_cast<uint16_t>(word >> 13))};
}

void pack_halves(const Source<float>& from, char* to) {
  const Tail tail = weight_tail(from.out, from.in, sizeof(Half));
  auto* panel = reinterpret_cast<Half*>(to);
  auto* bias = reinterpret_cast<float*>(to + tail.begin);
  from.each(from.in, [&](int64_t o, int64_t i) { *panel++ = to_half(from.at(o, i)); });
  from.each(1, [&](int64_t o, int64_t) { *bias++ = from.bias_at(o); });
}

void pack_integers(const Source<float>& from, bool is_dynamic, char* to) {
  const int64_t together = is_dynamic ? 4 : 1, in = round_up(from.in, together);
  if (is_dynamic && from.in > kMostInputs)
    throw std::invalid_argument("expected at most " + std::to_string(kMostInputs) + " inputs in int8_dynamic, got " +
                                std::to_string(from.in));
  const Tail tail = weight_tail(from.out, in, sizeof(int8_t));
  auto* panel = reinterpret_cast<int8_t*>(to);
  auto* bias = reinterpret_cast<float*>(to + tail.begin);
  auto* scale = reinterpret_cast<float*>(to + tail.begin + tail.bytes);
  auto* sum = is_dynamic ? reinterpret_cast<int32_t*>(to + tail.begin + 2 * tail.bytes) : nullptr;
  from.each(1, [&](int64_t o, int64_t) {
    float largest = 0;
    for (int64_t i = 0; i < from.in; ++i) {
      const float size = std::fabs(from.at(o, i));
      if (!std::isfinite(size))
        refuse(is_dynamic ? "int8_dynamic" : "int8", "finite numbers", size);
      largest = std::max(largest, size);
    }
    bias[o] = from.bias_at(o);
    scale[o] = largest / kLargestInteger;
    if (sum)
      sum[o] = 0;
  });
  const auto pack = [&](int64_t o, int64_t i) {
    const float q = scale[o] > 0 ? std::nearbyint(from.at(o, i) / scale[o]) : 0;
    *panel = static_cast<int8_t>(std::clamp(q, -kLargestInteger, kLargestInteger));
    if (sum)
      sum[o] += *panel;
    ++panel;
  };
  from.each(in, pack, together);
}

}  // namespace

const Compressed* find_compressed(const char* name) {
  for (const Compressed& each : kCompressed)
    if (std::strcmp(name, each.name) == 0)
      return &each;
  return nullptr;
}

const char* forward_op(Storage storage) {
  for (const Compressed& each : kCompressed)
    if (each.storage == storage)
      return each.forward_op;
  return "linear_forward";
}

int64_t weight_bytes(Storage storage, bool is_double, int64_t out, int64_t in) {
  switch (storage) {
    case Storage::kFloat16: {
      const Tail tail = weight_tail(out, in, sizeof(Half));
      return tail.begin + tail.bytes;
    }
    case Storage::kInt8: {
      const Tail tail = weight_tail(out, in, sizeof(int8_t));
      return tail.begin + 2 * tail.bytes;
    }
    case Storage::kInt8Dynamic: {
      const Tail tail = weight_tail(out, round_up(in, 4), sizeof(int8_t));
      return tail.begin + 3 * tail.bytes;
    }
    default:
      const int64_t panel = is_double ? kPanel<double> : kPanel<float>;
      return (out + panel - 1) / panel * (in + 1) * 64;
  }
}

template <class T>
void pack_weight(Storage storage, const T* weight, int64_t out_stride, int64_t in_stride, const T* bias, int64_t out,
                 int64_t in, void* panels) {
  const Source<T> from{weight, bias, out_stride, in_stride, out, in};
  if constexpr (sizeof(T) == sizeof(float)) {
    if (storage == Storage::kFloat16)
      return pack_halves(from, static_cast<char*>(panels));
    if (storage != Storage::kFull)
      return pack_integers(from, storage == Storage::kInt8Dynamic, static_cast<char*>(panels));
  }
  if (storage != Storage::kFull)
    throw std::invalid_argument("expected a plan of floats for compressed weights, got one of doubles");
  T* to = static_cast<T*>(panels);
  from.each(in + 1, [&](int64_t o, int64_t i) { *to++ = i < in ? from.at(o, i) : from.bias_at(o); });
}

template void pack_weight(Storage, const float*, int64_t, int64_t, const float*, int64_t, int64_t, void*);
template void pack_weight(Storage, const double*, int64_t, int64_t, const double*, int64_t, int64_t, void*);

}  // namespace lc
