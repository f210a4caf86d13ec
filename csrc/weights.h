// How the CPU keeps the weight of a linear layer and its bias.
#pragma once

#include <cstdint>

#include "compiler.h"

namespace lc {

// kFull: panels [out / p][in + 1][p] in the dtype of the plan, p = 64 bytes; the bias is the last row of each.
// kFloat16, kInt8: panels [out / 16][in][16] of halves or of integers, for plans of floats; after them, each from the
// next multiple of 64 bytes on, float bias[16 (out / 16)] and, for integers, float scale[16 (out / 16)], which
// multiplies them. Outputs that do not exist are zeros.
// kInt8Dynamic: the same integers, for inputs that are integers too (see quantized_forward.h), in panels
// [out / 16][in / 4][16][4], inputs that do not exist being zeros; after the scales, int32_t sum[16 (out / 16)] of the
// integers of each output.
enum class Storage { kFull, kFloat16, kInt8, kInt8Dynamic };

// The storages of fewer bytes: their names, and the op that multiplies with a weight kept so; other ops take kFull
// alone.
struct Compressed {
  Storage storage;
  const char *name, *forward_op;
};
constexpr Compressed kCompressed[] = {{Storage::kFloat16, "float16", "linear_forward:float16"},
                                      {Storage::kInt8, "int8", "linear_forward:int8"},
                                      {Storage::kInt8Dynamic, "int8_dynamic", "linear_forward:int8_dynamic"}};

// The one of that name, or null.
const Compressed* find_compressed(const char* name);

struct Half {
  uint16_t bits;
};

// The floats that follow compressed panels: where they begin, and how many bytes each array of them takes.
struct Tail {
  int64_t begin, bytes;
};
LC_INLINE Tail weight_tail(int64_t out, int64_t in, int64_t size) {
  const int64_t panels = (out + 15) / 16;
  return {(panels * in * 16 * size + 63) / 64 * 64, panels * 64};
}

const char* forward_op(Storage storage);

// The bytes of a weight of `out` outputs and `in` inputs, of doubles or of floats.
int64_t weight_bytes(Storage storage, bool is_double, int64_t out, int64_t in);

// Packs weight[o * out_stride + i * in_stride] and bias[o] (null: zeros); strides count elements. Halves are the
// nearest, ties to even. An integer is the nearest to weight / scale, where scale is the largest weight of its output
// over 127. Throws std::invalid_argument where a weight is no finite number in a compressed storage, and where the sums
// of kInt8Dynamic might leave 32 bits.
template <class T>
void pack_weight(Storage storage, const T* weight, int64_t out_stride, int64_t in_stride, const T* bias, int64_t out,
                 int64_t in, void* panels);

}  // namespace lc
