// Functions shared by the instruction sets are inlined always: a linker may merge their copies, and would then run code
// of one set on a processor that lacks it.
#pragma once

#define LC_INLINE inline __attribute__((always_inline))
#define LC_LAMBDA __attribute__((always_inline))
