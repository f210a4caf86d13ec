// Uniform and normal numbers of Philox counters (element / 4, row, step, stream), for the rows offset, offset + 1, ...
#include "../op.h"
#include "../philox.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kRows = 16;

struct Source {
  Key key;
  uint32_t step, stream;
  explicit Source(const Call& call, const Clock& clock)
      : key(clock.seed), step(static_cast<uint32_t>(clock.step)), stream(static_cast<uint32_t>(call.option[0])) {}
};

// z[r,l] =; sizes r, l; option: stream
template <class T>
int normal_forward(const Call& call, const Run& run) {
  T* z = run.get<T>(call, 0);
  const int64_t rows = run.size(call, 0), width = run.size(call, 1);
  const Source source(call, run.clock);
  run.team->each(divide_up(rows, kRows), [&](int64_t block, int) {
    const int64_t begin = block * kRows, count = rows - begin < kRows ? rows - begin : kRows;
    uint32_t id[kRows];
    for (int64_t r = 0; r < count; ++r) id[r] = static_cast<uint32_t>(run.clock.offset + begin + r);
    normals_rows<T>(source.key.word, id, count, 0, width, width, source.step, source.stream, z + begin * width);
  });
  return 0;
}

// u[r,l] =; sizes r, l; option: stream
template <class T>
int uniform_forward(const Call& call, const Run& run) {
  T* u = run.get<T>(call, 0);
  const int64_t rows = run.size(call, 0), width = run.size(call, 1);
  const Source source(call, run.clock);
  run.team->each(rows, [&](int64_t r, int) {
    for (int64_t first = 0; first < width; first += 4 * kCounters) {
      uint32_t c[4][kCounters];
      for (int i = 0; i < kCounters; ++i) {
        c[0][i] = static_cast<uint32_t>(first / 4 + i);
        c[1][i] = static_cast<uint32_t>(run.clock.offset + r);
        c[2][i] = source.step;
        c[3][i] = source.stream;
      }
      philox_block(source.key.word, c[0], c[1], c[2], c[3]);
      for (int64_t j = first; j < width && j < first + 4 * kCounters; ++j)
        u[r * width + j] = uniform<T>(c[j % 4][(j - first) / 4]);
    }
  });
  return 0;
}

}  // namespace

extern const Op kRandom[] = {{"normal_forward", normal_forward<float>, normal_forward<double>, nullptr, nullptr},
                             {"uniform_forward", uniform_forward<float>, uniform_forward<double>, nullptr, nullptr},
                             {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
