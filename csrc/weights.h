// How the CPU keeps the weight of a linear layer and its bias.
#pragma once

#include <cstdint>

namespace lc {

// kFull: panels [out / p][in + 1][p] in the dtype of the plan, p = 64 bytes; the bias is the last row of each, outputs
// that do not exist are zeros.
enum class Storage { kFull };

// The bytes of a weight of `out` outputs and `in` inputs, of doubles or of floats.
int64_t weight_bytes(Storage storage, bool is_double, int64_t out, int64_t in);

// Packs weight[o * out_stride + i * in_stride] and bias[o] (null: zeros); strides count elements.
template <class T>
void pack_weight(Storage storage, const T* weight, int64_t out_stride, int64_t in_stride, const T* bias, int64_t out,
                 int64_t in, void* panels);

}  // namespace lc
