// The thin singular value decomposition of every matrix of a batch.
#include "../op.h"
#include "../svd_blocks.h"
#include "../svd_lanes.h"

namespace lc {
namespace LC_ISA {
namespace {
// Groups of kLanes matrices that a thread works on at once.
template <class T, int G>
int64_t bytes_of(int64_t m, int64_t n, bool vectors) {
  Carver c(nullptr);
  lanes::SvdSpace<T, G>(c, m, n, vectors);
  return c.used();
}

template <class T>
struct Shape {
  int64_t rows, columns, long_side, short_side;
  bool vectors;
  explicit Shape(const Call& call) : rows(call.size[1].value), columns(call.size[3].value) {
    long_side = rows < columns ? columns : rows;
    short_side = rows < columns ? rows : columns;
    vectors = call.argument[0] >= 0;
  }
  // A matrix in each lane is quickest for a batch, but a lone matrix then takes as long as kLanes of them: measured, it
  // still beats LAPACK as long as this holds.
  bool in_lanes() const { return long_side + 2 * short_side <= (sizeof(T) == 4 ? 90 : 78); }
  int64_t bytes() const {
    return in_lanes() ? bytes_of<T, 2>(long_side, short_side, vectors) : svd_blocks_workspace<T>(rows, columns);
  }
};

template <class T>
int64_t svd_space(const Call& call, int64_t, int threads) {
  return Shape<T>(call).bytes() * threads;
}

template <class T, bool kVectors>
void run_lanes(const Call& call, const Run& run, const lanes::SvdArguments<T>& all) {
  constexpr int64_t kOnce = 2 * kLanes<T>;
  const Shape<T> shape(call);
  const int64_t bytes = shape.bytes();
  run.team->each(divide_up(all.count, kOnce), [&](int64_t task, int thread) {
    lanes::SvdArguments<T> some = all.from(task * kOnce);
    Carver c(run.workspace + thread * bytes);
    if (some.count > kLanes<T>) {
      lanes::SvdSpace<T, 2> space(c, shape.long_side, shape.short_side, kVectors);
      lanes::svd_groups<T, 2, kVectors>(some, space);
    } else {
      lanes::SvdSpace<T, 1> space(c, shape.long_side, shape.short_side, kVectors);
      lanes::svd_groups<T, 1, kVectors>(some, space);
    }
  });
}

template <class T>
void run_blocks(const Call& call, const Run& run, const lanes::SvdArguments<T>& all) {
  const Shape<T> shape(call);
  const int64_t bytes = shape.bytes(), most = blocks_at_once<T>(shape.short_side);
  const int64_t pieces = pieces_of(all.count, most, run.team->threads());
  run.team->each(pieces, [&](int64_t piece, int thread) {
    const Span span = part_of(all.count, pieces, piece);
    const lanes::SvdArguments<T> some = all.from(span.begin);
    svd_blocks(some.u, some.s, some.vt, some.status, some.a, span.end - span.begin, shape.rows, shape.columns,
               run.workspace + thread * bytes);
  });
}

// u?[r,m,k] s[r,k] vt?[r,k,n] status[r]:uint32 = a[r,m,n]; sizes r, m, k, n
template <class T>
int svd_forward(const Call& call, const Run& run) {
  const lanes::SvdArguments<T> all{run.get<T>(call, 0),        run.get<T>(call, 1), run.get<T>(call, 2),
                                   run.get<uint32_t>(call, 3), run.get<T>(call, 4), run.size(call, 0),
                                   call.size[1].value,         call.size[3].value};
  if (!Shape<T>(call).in_lanes())
    run_blocks(call, run, all);
  else if (all.u)
    run_lanes<T, true>(call, run, all);
  else
    run_lanes<T, false>(call, run, all);
  return 0;
}

}  // namespace

extern const Op kSvd[] = {{"svd_forward", svd_forward<float>, svd_forward<double>, svd_space<float>, svd_space<double>},
                          {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
