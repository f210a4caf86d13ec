#include <cstring>

#if LC_HAVE_X86_SETS
#include <cpuid.h>
#endif

#include "kernels.h"

namespace lc {

#if LC_HAVE_X86_SETS
namespace avx512 {
extern const Op* const kOps[];
}
namespace avx2 {
extern const Op* const kOps[];
}
#endif
namespace baseline {
extern const Op* const kOps[];
}

namespace {

constexpr InstructionSet kBaseline{"baseline", baseline::kOps};
#if LC_HAVE_X86_SETS
constexpr InstructionSet kAvx2{"avx2", avx2::kOps}, kAvx512{"avx512", avx512::kOps};
#endif

#if LC_HAVE_X86_SETS
// Conversions of halves, which not every compiler's __builtin_cpu_supports knows.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

struct Available {
  const InstructionSet* sets[4] = {};
  Available() {
    int n = 0;
#if LC_HAVE_X86_SETS
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
      sets[n++] = &kAvx512;
    if (avx2)
      sets[n++] = &kAvx2;
#endif
    sets[n] = &kBaseline;
  }
};

}  // namespace

const InstructionSet* const* instruction_sets() {
  static const Available available;
  return available.sets;
}

const InstructionSet* instruction_set(const char* name) {
  for (auto set = instruction_sets(); *set; ++set)
    if (std::strcmp(name, "auto") == 0 || std::strcmp(name, (*set)->name) == 0)
      return *set;
  return nullptr;
}

const Op* find_op(const InstructionSet& set, const char* name) {
  for (auto table = set.ops; *table; ++table)
    for (const Op* op = *table; op->name; ++op)
      if (std::strcmp(op->name, name) == 0)
        return op;
  return nullptr;
}

}  // namespace lc
