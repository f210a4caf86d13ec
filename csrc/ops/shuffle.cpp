// The rows of a minibatch: a keyed permutation of [0, n), evaluated place by place.
#include "../op.h"
#include "../philox.h"

namespace lc {
namespace LC_ISA {
namespace {

// A Feistel network of eight rounds on 2 * half bits (Luby and Rackoff 1988), walked until it lands below n (Black and
// Rogaway 2002): a permutation of [0, n) with no table. The round keys come from Philox, counter (0 or 1, 0, epoch, 0).
struct Permutation {
  uint32_t key[8];
  uint32_t n;
  int half;

  Permutation(const Clock& clock, int64_t count) : n(static_cast<uint32_t>(count)), half(1) {
    while ((uint64_t{1} << (2 * half)) < n) ++half;
    uint32_t c[4][kCounters] = {};
    c[0][1] = 1;
    c[2][0] = c[2][1] = static_cast<uint32_t>(clock.epoch);
    philox_block(Key(clock.seed).word, c[0], c[1], c[2], c[3]);
    for (int i = 0; i < 8; ++i) key[i] = c[i % 4][i / 4];
  }
  uint32_t operator()(uint32_t place) const {
    const uint32_t mask = (uint32_t{1} << half) - 1;
    do {
      uint32_t left = place >> half, right = place & mask;
      for (int i = 0; i < 8; ++i) {
        uint32_t f = (right ^ key[i]) * 0x85EBCA6Bu;
        f ^= f >> 15;
        f *= 0xC2B2AE35u;
        f ^= f >> 13;
        const uint32_t next = left ^ (f & mask);
        left = right;
        right = next;
      }
      place = left << half | right;
    } while (place >= n);
    return place;
  }
};

// row[r] =; size r; option: n. The places offset .. offset + r of the permutation of this epoch.
template <class T>
int shuffle_forward(const Call& call, const Run& run) {
  uint32_t* row = run.get<uint32_t>(call, 0);
  const Permutation permutation(run.clock, static_cast<int64_t>(call.option[0]));
  const int64_t rows = run.size(call, 0);
  for (int64_t r = 0; r < rows; ++r) row[r] = permutation(static_cast<uint32_t>(run.clock.offset + r));
  return 0;
}

}  // namespace

extern const Op kShuffle[] = {{"shuffle_forward", shuffle_forward<float>, shuffle_forward<double>, nullptr, nullptr},
                              {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
