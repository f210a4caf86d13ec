// The thin singular value decomposition of every matrix of a batch.
#include "../op.h"
#include "../svd_blocks.h"
#include "../svd_lanes.h"

namespace lc {
namespace LC_ISA {
namespace {

template <class T>
struct Shape {
  int64_t rows, columns, long_side, short_side;
  bool vectors;
  explicit Shape(const Call& call) : rows(call.size[1].value), columns(call.size[3].value) {
    long_side = rows < columns ? columns : rows;
    short_side = rows < columns ? rows : columns;
    vectors = call.argument[0] >= 0;
  }
  bool in_lanes() const { return lanes::in_lanes(long_side, short_side); }
  int64_t bytes() const {
    Carver c(nullptr);
    if (!in_lanes())
      return svd_blocks_workspace<T>(rows, columns);
    lanes::SvdSpace<T, 2>(c, long_side, short_side, vectors);
    return c.used();
  }
  // The threads that `count` matrices are worth.
  int threads(int64_t count, const Run& run) const {
    const double work = static_cast<double>(count * short_side * short_side * (long_side + 2 * short_side));
    return work < lanes::kAlone ? 1 : run.team->threads();
  }
};

template <class T>
int64_t svd_space(const Call& call, int64_t, int threads) {
  return Shape<T>(call).bytes() * threads;
}

template <class T, int G, bool kVectors>
void run_groups(const lanes::SvdArguments<T>& some, const Shape<T>& shape, char* workspace) {
  Carver c(workspace);
  lanes::SvdSpace<T, G> space(c, shape.long_side, shape.short_side, kVectors);
  lanes::svd_groups<T, G, kVectors>(some, space);
}
template <class T, bool kVectors>
void run_lanes(const Call& call, const Run& run, const lanes::SvdArguments<T>& all) {
  const Shape<T> shape(call);
  const int threads = shape.threads(all.count, run);
  const int64_t bytes = shape.bytes(), pieces = pieces_of(all.count, 2 * kLanes<T>, threads);
  run.team->each_if(threads > 1, pieces, [&](int64_t piece, int thread) {
    const Span span = part_of(all.count, pieces, piece);
    const lanes::SvdArguments<T> some = all.part(span.begin, span.end - span.begin);
    if (some.count > kLanes<T>)
      run_groups<T, 2, kVectors>(some, shape, run.workspace + thread * bytes);
    else
      run_groups<T, 1, kVectors>(some, shape, run.workspace + thread * bytes);
  });
}

template <class T>
void run_blocks(const Call& call, const Run& run, const lanes::SvdArguments<T>& all) {
  const Shape<T> shape(call);
  const int64_t bytes = shape.bytes(), most = blocks_at_once<T>(shape.short_side);
  const int64_t pieces = pieces_of(all.count, most, run.team->threads());
  run.team->each(pieces, [&](int64_t piece, int thread) {
    const Span span = part_of(all.count, pieces, piece);
    const lanes::SvdArguments<T> some = all.part(span.begin, span.end - span.begin);
    svd_blocks(some.u, some.s, some.vt, some.status, some.a, some.count, shape.rows, shape.columns,
               run.workspace + thread * bytes, helpers(run.team, pieces, shape.short_side));
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
