// The instruction sets that were compiled, and the one that this processor runs.
#pragma once

#include "op.h"

namespace lc {

struct InstructionSet {
  const char* name;
  const Op* const* ops;  // null-terminated list of null-terminated tables
};

// The set of that name; "auto": the best that this processor has. Null if it was not compiled or cannot run here.
const InstructionSet* instruction_set(const char* name);
// Those that can run here, best first; null-terminated.
const InstructionSet* const* instruction_sets();
const Op* find_op(const InstructionSet& set, const char* name);

}  // namespace lc
