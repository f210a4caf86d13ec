// Rows of a matrix, by number.
#include "../op.h"
#include "../row_sum.h"

namespace lc {
namespace LC_ISA {
namespace {

// y[r,f] = x[n,f] row[r]; sizes r, f, n
template <class T>
int gather_forward(const Call& call, const Run& run) {
  T* y = run.get<T>(call, 0);
  const T* x = run.get<T>(call, 1);
  const uint32_t* row = run.get<uint32_t>(call, 2);
  const int64_t rows = run.size(call, 0), features = run.size(call, 1), all = run.size(call, 2);
  for (int64_t r = 0; r < rows; ++r)
    if (row[r] >= all)
      return kOutOfRange;
  const int64_t chunk = rows_a_task(features);
  run.team->each(divide_up(rows, chunk), [&](int64_t task, int) {
    const int64_t end = (task + 1) * chunk < rows ? (task + 1) * chunk : rows;
    for (int64_t r = task * chunk; r < end; ++r) {
      // Rows lie anywhere: the next one is asked for while this one is copied.
      if (r + 1 < end)
        for (int64_t j = 0; j < features; j += kPanel<T>) __builtin_prefetch(x + row[r + 1] * features + j);
      std::memcpy(y + r * features, x + row[r] * features, sizeof(T) * static_cast<size_t>(features));
    }
  });
  return 0;
}

}  // namespace

extern const Op kGather[] = {{"gather_forward", gather_forward<float>, gather_forward<double>, nullptr, nullptr},
                             {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
