// The eigenvalues and eigenvectors of every symmetric matrix of a batch.
#include "../eigh_blocks.h"
#include "../eigh_lanes.h"

namespace lc {
namespace LC_ISA {
namespace {

bool in_lanes(const Call& call) {
  return lanes::in_lanes(call.size[1].value, call.size[1].value);
}

template <class T>
int64_t eigh_bytes(const Call& call) {
  if (!in_lanes(call))
    return eigh_blocks_workspace<T>(call.size[1].value);
  Carver c(nullptr);
  lanes::EighSpace<T, 2>(c, call.size[1].value, call.argument[1] >= 0);
  return c.used();
}
template <class T>
int64_t eigh_space(const Call& call, int64_t, int threads) {
  return eigh_bytes<T>(call) * threads;
}

template <class T, int G, bool kVectors>
void run_groups(const lanes::EighArguments<T>& some, char* workspace) {
  Carver c(workspace);
  lanes::EighSpace<T, G> space(c, some.n, kVectors);
  lanes::eigh_groups<T, G, kVectors>(some, space);
}
template <class T, bool kVectors>
void run_lanes(const Call& call, const Run& run, const lanes::EighArguments<T>& all) {
  const double work = static_cast<double>(all.count * 2 * all.n * all.n * all.n);
  const int threads = work < lanes::kAlone ? 1 : run.team->threads();
  const int64_t bytes = eigh_bytes<T>(call), pieces = pieces_of(all.count, 2 * kLanes<T>, threads);
  run.team->each_if(threads > 1, pieces, [&](int64_t piece, int thread) {
    const Span span = part_of(all.count, pieces, piece);
    const lanes::EighArguments<T> some = all.part(span.begin, span.end - span.begin);
    if (some.count > kLanes<T>)
      run_groups<T, 2, kVectors>(some, run.workspace + thread * bytes);
    else
      run_groups<T, 1, kVectors>(some, run.workspace + thread * bytes);
  });
}

template <class T>
void run_blocks(const Call& call, const Run& run, const lanes::EighArguments<T>& all) {
  const int64_t bytes = eigh_bytes<T>(call);
  const int64_t pieces = pieces_of(all.count, blocks_at_once<T>(all.n), run.team->threads());
  run.team->each(pieces, [&](int64_t piece, int thread) {
    const Span span = part_of(all.count, pieces, piece);
    const lanes::EighArguments<T> some = all.part(span.begin, span.end - span.begin);
    eigh_blocks(some.w, some.v, some.status, some.c, some.count, all.n, run.workspace + thread * bytes,
                helpers(run.team, pieces, all.n));
  });
}

// w[r,n] v?[r,n,n] status[r]:uint32 = c[r,n,n]; sizes r, n
template <class T>
int eigh_forward(const Call& call, const Run& run) {
  const lanes::EighArguments<T> all{run.get<T>(call, 0), run.get<T>(call, 1), run.get<uint32_t>(call, 2),
                                    run.get<T>(call, 3), run.size(call, 0),   call.size[1].value};
  if (!in_lanes(call))
    run_blocks(call, run, all);
  else if (all.v)
    run_lanes<T, true>(call, run, all);
  else
    run_lanes<T, false>(call, run, all);
  return 0;
}

}  // namespace

extern const Op kEigh[] = {
    {"eigh_forward", eigh_forward<float>, eigh_forward<double>, eigh_space<float>, eigh_space<double>},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
