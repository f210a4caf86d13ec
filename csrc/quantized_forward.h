// The forward pass of a linear layer in integers, over Storage::kInt8Dynamic: each row of inputs is rounded to eight
// bits as it comes.
//
//   low = min(0, x), high = max(0, x), step = high / 255 - low / 255, zero = round(-low / step)
//   q[i] = min(255, round(x[i] / step) + zero), 1 / step being a factor
//   y[o] = bias[o] + (step scale[o]) (sum_i q[i] w[o,i] - zero sum_i w[o,i])
//
// Sums are exact, and no operation on floats is fused: every instruction set, tile, batch and number of threads gives
// the same bits. A row that is not finite has the step NaN, and so NaN in all its outputs; one whose step is no normal
// number counts as zeros.
#pragma once

#include "linear_forward.h"
#include "panels.h"

#if !defined(__AVX2__) && defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace lc {
namespace LC_ISA {

using Words = Mask<float>;  // 32-bit integers
constexpr int kWords = kLanes<float>;

LC_INLINE Words load_words(const void* p) {
  Words v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// ---- four products in each word ------------------------------------------------------------------------------------

// Sums of products of 16-bit integers that lie beside each other.
LC_INLINE Words multiply_pairs(Words a, Words b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return reinterpret_cast<Words>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Four bytes in a word, as two words of two 16-bit integers each.
struct Pairs {
  Words even, odd;
  static constexpr int kTallest = 4, kWidest = 1, kChains = 1;

  // Each word with the same four inputs; four weights in each word.
  LC_INLINE static Pairs inputs(int32_t four) {
    return {Words{} + (four & 0x00ff00ff), Words{} + (four >> 8 & 0x00ff00ff)};
  }
  LC_INLINE static Pairs weights(const int8_t* p) {
    typedef int16_t Halves __attribute__((vector_size(kVectorBytes)));
    const Halves both = bits<Halves>(load_words(p));
    return {bits<Words>(both << 8 >> 8), bits<Words>(both >> 8)};
  }
  LC_INLINE static Words add(Words sum, const Pairs& x, const Pairs& w) {
    return sum + multiply_pairs(x.even, w.even) + multiply_pairs(x.odd, w.odd);
  }
};

#if defined(__AVX512F__)
// The same in one instruction of AVX512-VNNI, which not every processor of this set has.
struct Quads {
  Words four;
  static constexpr int kTallest = 8, kWidest = 3, kChains = 8;

  LC_INLINE static Quads inputs(int32_t four) { return {Words{} + four}; }
  LC_INLINE static Quads weights(const int8_t* p) { return {load_words(p)}; }
  LC_INLINE static Words add(Words sum, const Quads& x, const Quads& w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x.four), "v"(w.four));
    return sum;
  }
};
#endif

// ---- rows ----------------------------------------------------------------------------------------------------------

// How a row was rounded.
struct Rounding {
  float step;
  int32_t zero;
};

LC_INLINE Words nearest(Vec<float> x) {  // |x| < 2^22; ties to even
  constexpr float kShift = 0x1.8p23f;
  return bits<Words>(x + splat(kShift)) - bits<Words>(splat(kShift));
}

// q has room for whole vectors.
LC_INLINE Rounding round_row(uint8_t* q, const float* x, int64_t in) {
  constexpr int32_t kInfinityBits = 0x7f800000;
  const auto larger_of = [](auto a, auto b) LC_LAMBDA { return a > b ? a : b; };
  const auto smaller_of = [](auto a, auto b) LC_LAMBDA { return a < b ? a : b; };
  Vec<float> lowest = {}, highest = {};
  Words largest = {};
  for_lanes<float>(in, [&](int64_t i, auto get, auto) LC_LAMBDA {
    const Vec<float> v = get(x + i);
    lowest = smaller(v, lowest);
    highest = larger(v, highest);
    largest = larger_of(bits<Words>(v) & 0x7fffffff, largest);
  });
  const bool finite = across(largest, larger_of)[0] < kInfinityBits;
  const float low = finite ? across(lowest, smaller_of)[0] : 0, high = finite ? across(highest, larger_of)[0] : 0;
  const float step = finite ? high / 255 - low / 255 : __builtin_nanf("");
  const Vec<float> factor = splat(step > 0 ? 1 / step : 0);
  const Words zero = nearest(splat(-low) * factor);
  for_lanes<float>(in, [&](int64_t i, auto get, auto) LC_LAMBDA {
    typedef uint8_t Few __attribute__((vector_size(kWords)));
    const Words rounded = nearest(get(x + i) * factor) + zero;
    const Few few = __builtin_convertvector(rounded > 255 ? Words{} + 255 : rounded, Few);
    std::memcpy(q + i, &few, sizeof few);
  });
  return {step, zero[0]};
}

// ---- the product ---------------------------------------------------------------------------------------------------

struct Integers {
  const uint8_t* q;
  int64_t q_row;
  const Rounding* rounding;
  const int8_t* w;
  int64_t w_panel, quads;  // of inputs
  const int32_t* sum;
  const float *scale, *bias;
  float* y;
  int64_t out;
  float floor;
};

// M rows by P panels. A small tile adds its inputs to several sums in turn, which hides the latency of an addition; one
// or two rows take a panel at a time, since the second-level cache is read fastest from end to end.
template <class Bytes, int M, int P>
__attribute__((noinline)) void integer_tile(const Integers& o, int64_t row, int64_t panel) {
  constexpr int V = P * kSplit, L = kWords, kSums = M * P < Bytes::kChains ? Bytes::kChains / (M * P) : 1;
  const uint8_t* const q = o.q + row * o.q_row;
  const int8_t* const w = o.w + panel * o.w_panel;
  const int64_t q_row = o.q_row, w_panel = o.w_panel, quads = o.quads;
  Words acc[kSums][M][V] = {};
  const auto add = [&](Words(&sum)[M][V], int64_t k) LC_LAMBDA {
    Bytes line[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) line[v] = Bytes::weights(w + v / kSplit * w_panel + k * 64 + v % kSplit * kVectorBytes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      int32_t four;
      std::memcpy(&four, q + m * q_row + 4 * k, sizeof four);
      const Bytes x = Bytes::inputs(four);
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) sum[m][v] = Bytes::add(sum[m][v], x, line[v]);
    }
  };
  int64_t k = 0;
  for (; k + kSums <= quads; k += kSums)
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) add(acc[i], k + i);
  for (; k < quads; ++k) add(acc[0], k);

  const Rounding* const rounding = o.rounding + row;
  const int32_t* const total = o.sum + panel * 16;
  const float *scale = o.scale + panel * 16, *bias = o.bias + panel * 16;
  const int64_t out = o.out, left = out - panel * 16;
  float* const y = o.y + row * out + panel * 16;
  const Vec<float> floor = splat(o.floor);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const Vec<float> step = splat(rounding[m].step);
    const Words zero = Words{} + rounding[m].zero;
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) {
#pragma GCC unroll 8
      for (int i = 1; i < kSums; ++i) acc[0][m][v] += acc[i][m][v];
      const Words sum = acc[0][m][v] - zero * load_words(total + v * L);
      const Vec<float> factor = step * load<float>(scale + v * L);
      const Vec<float> value = load<float>(bias + v * L) + factor * __builtin_convertvector(sum, Vec<float>);
      if (left >= (v + 1) * L)
        store<float>(y + m * out + v * L, larger(floor, value));
      else if (left > v * L)
        store_first<float>(y + m * out + v * L, larger(floor, value), static_cast<int>(left - v * L));
    }
  }
}

// M rows by the panels [begin, end), P at a time.
template <class Bytes, int M, int P>
LC_INLINE void integer_tiles(const Integers& o, int64_t row, int64_t begin, int64_t end) {
  for (; begin + P <= end; begin += P) integer_tile<Bytes, M, P>(o, row, begin);
  if constexpr (P > 1)
    integer_tiles<Bytes, M, P - 1>(o, row, begin, end);
}

// The rows [row, last) in tiles of at most M.
template <class Bytes, int M = Bytes::kTallest>
LC_INLINE void integer_product(const Integers& o, int64_t row, int64_t last, int64_t begin, int64_t end) {
  constexpr int kWide = M < 4 ? 1 : Bytes::kWidest;
  for (; row + M <= last; row += M) integer_tiles<Bytes, M, kWide>(o, row, begin, end);
  if constexpr (M > 1)
    integer_product<Bytes, M / 2>(o, row, last, begin, end);
}

// ---- y[r,o] before?[r,o] = x[r,i] w{o,i}; sizes r, o, i; option: activation ----------------------------------------

struct QuantizedSpace {
  int64_t stride;
  uint8_t* q;
  Rounding* rounding;
  QuantizedSpace(Carver& c, int64_t rows, int64_t in)
      : stride(round_up(in, 64)), q(c.take<uint8_t>(rows * stride)), rounding(c.take<Rounding>(rows)) {}
};

inline int64_t quantized_space(const Call& call, int64_t capacity, int) {
  Carver c(nullptr);
  QuantizedSpace(c, call.size[0].at(capacity), call.size[2].at(capacity));
  return c.used();
}

template <class Bytes>
int quantized_forward(const Call& call, const Run& run) {
  float *y = run.get<float>(call, 0), *before = run.get<float>(call, 1);
  const float* x = run.get<float>(call, 2);
  const char* w = run.get<char>(call, 3);
  const int64_t rows = run.size(call, 0), out = run.size(call, 1), in = run.size(call, 2);
  const int64_t panels = divide_up(out, 16), quads = divide_up(in, 4);
  const Tail tail = weight_tail(out, 4 * quads, 1);
  const Activation kind = static_cast<Activation>(static_cast<int>(call.option[0]));
  const bool in_tile = !before && (kind == Activation::kIdentity || kind == Activation::kRelu);
  Carver carver(run.workspace);
  const QuantizedSpace space(carver, rows, in);
  const bool alone = work_of(rows, out, in) < 4 * kAlone;

  const int64_t chunks = divide_up(rows, kRowChunk);
  const auto end_of = [&](int64_t chunk) { return chunk + 1 < chunks ? (chunk + 1) * kRowChunk : rows; };
  run.team->each_if(!alone, chunks, [&](int64_t chunk, int) {
    for (int64_t r = chunk * kRowChunk; r < end_of(chunk); ++r)
      space.rounding[r] = round_row(space.q + r * space.stride, x + r * in, in);
  });

  Integers o;
  o.q = space.q;
  o.q_row = space.stride;
  o.rounding = space.rounding;
  o.w = reinterpret_cast<const int8_t*>(w);
  o.w_panel = quads * 64;
  o.quads = quads;
  o.bias = reinterpret_cast<const float*>(w + tail.begin);
  o.scale = reinterpret_cast<const float*>(w + tail.begin + tail.bytes);
  o.sum = reinterpret_cast<const int32_t*>(w + tail.begin + 2 * tail.bytes);
  o.y = y;
  o.out = out;
  o.floor = in_tile && kind == Activation::kRelu ? 0 : -kInfinity<float>;

  const int64_t groups = divide_up(panels, Bytes::kWidest);
  run.team->each_if(!alone, chunks * groups, [&](int64_t task, int) {
    const int64_t begin = task / groups * kRowChunk, end = end_of(task / groups);
    const Span p = part_of(panels, groups, task % groups);
    integer_product<Bytes>(o, begin, end, p.begin, p.end);
    const int64_t at = begin * out + p.begin * 16, columns = (p.end * 16 < out ? p.end * 16 : out) - p.begin * 16;
    if (!in_tile)
      kActivateRows<float>[static_cast<int>(kind)](y + at, before ? before + at : nullptr, end - begin, columns, out);
  });
  return 0;
}

inline int quantized_forward_at_best(const Call& call, const Run& run) {
#if defined(__AVX512F__)
  if (__builtin_cpu_supports("avx512vnni"))
    return quantized_forward<Quads>(call, run);
#endif
  return quantized_forward<Pairs>(call, run);
}

}  // namespace LC_ISA
}  // namespace lc
