// The forward pass of a linear layer, over weights of any storage.
#pragma once

#include "activation.h"
#include "op.h"
#include "product.h"

namespace lc {
namespace LC_ISA {

constexpr int64_t kRowChunk = 64;  // rows that one task takes
constexpr double kAlone = 2e5;     // multiply-adds under which one thread is faster
constexpr int64_t kFewRows = 5;    // fewer take as long: their weights must come from the cache

LC_INLINE double work_of(int64_t rows, int64_t out, int64_t in) {
  return static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in);
}

// Rows too short, or outputs too few, for a search for zeros.
LC_INLINE bool may_list(int64_t depth, int64_t panels) {
  return depth >= 64 && panels >= 2;
}

// Lists of the nonzeros of groups of rows, cut into chunks; a chunk whose rows have few zeros is left dense.
template <class T>
struct RowLists {
  int32_t* list;
  T* value;
  int64_t stride;  // places for one list
  int64_t* length;
  char* listed;

  RowLists(Carver& carver, int64_t rows, int64_t depth) : stride(depth + kListSlack) {
    const int64_t groups = divide_up(rows, kListRows);
    list = carver.take<int32_t>(groups * stride);
    value = carver.take<T>(groups * kListRows * stride);
    length = carver.take<int64_t>(groups);
    listed = carver.take<char>(divide_up(rows, kRowChunk));
  }
  void build(int64_t begin, int64_t end, const T* x, int64_t depth) const {
    int64_t seen = 0, left = 0;
    listed[begin / kRowChunk] = 0;
    for (int64_t m = begin; m < end; m += kListRows) {
      const int64_t group = m / kListRows;
      const int rows = static_cast<int>(end - m < kListRows ? end - m : int64_t{kListRows});
      length[group] = make_list(list + group * stride, value + m * stride, stride, x + m * depth, depth, rows, depth);
      seen += depth;
      left += length[group];
      if (static_cast<double>(left) > kListShare * static_cast<double>(seen))
        return;
    }
    listed[begin / kRowChunk] = 1;
  }
  // The product of the rows [begin, end) of a chunk; o stands at row `begin`.
  template <class W>
  void product_of(Operands<T, W> o, int64_t begin, int64_t end, int panels) const {
    o.a_row = stride;
    for (int64_t m = begin; m < end; m += kListRows, o.c += kListRows * o.c_row) {
      o.a = value + m * stride;
      o.list = list + m / kListRows * stride;
      o.depth = length[m / kListRows];
      product<T, Form::kListedRows>(o, end - m < kListRows ? end - m : int64_t{kListRows}, panels);
    }
  }
};

// ---- forward: y[r,o] before?[r,o] = x[r,i] w{o,i}; sizes r, o, i; option: activation ------------------------------

template <class T>
struct ForwardSpace {
  RowLists<T> lists;
  T* edge;  // a tile whose last panel is ragged, for each thread
  static constexpr int64_t kEdge = kRowChunk * kMaxPanels * kPanel<T>;
  ForwardSpace(Carver& c, int64_t rows, int64_t in, int threads)
      : lists(c, rows, in), edge(c.take<T>(kEdge * threads)) {}
};

template <class T>
int64_t forward_space(const Call& call, int64_t capacity, int threads) {
  Carver c(nullptr);
  ForwardSpace<T>(c, call.size[0].at(capacity), call.size[2].at(capacity), threads);
  return c.used();
}

// W: what the weights are kept in, see weights.h.
template <class T, class W = T>
int linear_forward(const Call& call, const Run& run) {
  T *y = run.get<T>(call, 0), *before = run.get<T>(call, 1);
  const T* x = run.get<T>(call, 2);
  const W* w = run.get<W>(call, 3);
  const int64_t rows = run.size(call, 0), out = run.size(call, 1), in = run.size(call, 2);
  constexpr bool kFull = sizeof(W) == sizeof(T);
  static const T kZero[kPanel<T>] = {};
  const int64_t panels = divide_up(out, kPanel<T>), b_panel = (in + kFull) * kPanel<T>;
  // Biases, and scales if there are any: within the panels, or after them.
  const Tail tail = weight_tail(out, in, sizeof(W));
  const T* bias = kFull ? reinterpret_cast<const T*>(w + in * kPanel<T>)
                        : reinterpret_cast<const T*>(reinterpret_cast<const char*>(w) + tail.begin);
  const int64_t bias_panel = kFull ? b_panel : int64_t{kPanel<T>};
  const Activation kind = static_cast<Activation>(static_cast<int>(call.option[0]));
  const bool in_tile = !before && (kind == Activation::kIdentity || kind == Activation::kRelu);
  Carver carver(run.workspace);
  const ForwardSpace<T> space(carver, rows, in, run.team->threads());
  const bool alone = work_of(rows < kFewRows ? kFewRows : rows, out, in) < kAlone;

  const int64_t chunks = divide_up(rows, kRowChunk);
  const bool listing = may_list(in, panels);
  if (listing)
    run.team->each_if(!alone, chunks, [&](int64_t i, int) {
      space.lists.build(i * kRowChunk, i + 1 < chunks ? (i + 1) * kRowChunk : rows, x, in);
    });

  const int64_t groups = divide_up(panels, group_of(rows, panels));
  run.team->each_if(!alone, chunks * groups, [&](int64_t task, int thread) {
    const int64_t chunk = task / groups, begin = chunk * kRowChunk;
    const int64_t end = begin + kRowChunk < rows ? begin + kRowChunk : rows;
    const Span p = part_of(panels, groups, task % groups);
    const int wide = static_cast<int>(p.end - p.begin);
    const int64_t column = p.begin * kPanel<T>;
    const int64_t columns = (p.end * kPanel<T> < out ? p.end * kPanel<T> : out) - column;
    const bool ragged = columns < wide * kPanel<T>;
    const int64_t at = begin * out + column;
    T* target = y + at;
    Operands<T, W> o{};
    o.a = x + begin * in;
    o.a_row = in;
    o.b = w + p.begin * b_panel;
    o.b_panel = b_panel;
    o.init = bias + p.begin * bias_panel;
    o.init_panel = bias_panel;
    if constexpr (is_scaled<W>) {
      o.bias = o.init;
      o.scale = o.init + panels * kPanel<T>;
      o.init = kZero;
      o.init_panel = 0;
    }
    o.c = ragged ? space.edge + thread * space.kEdge : target;
    o.c_row = ragged ? int64_t{wide} * kPanel<T> : out;
    o.c_panel = kPanel<T>;
    o.depth = in;
    o.floor = in_tile && kind == Activation::kRelu ? T(0) : -kInfinity<T>;
    if (listing && space.lists.listed[chunk])
      space.lists.product_of(o, begin, end, wide);
    else
      product<T, Form::kRows>(o, end - begin, wide);
    for (int64_t r = 0; ragged && r < end - begin; ++r)
      for_lanes<T>(columns, [&](int64_t j, auto get, auto put)
                                LC_LAMBDA { put(target + r * out + j, get(o.c + r * o.c_row + j)); });
    if (!in_tile)
      kActivateRows<T>[static_cast<int>(kind)](target, before ? before + at : nullptr, end - begin, columns, out);
  });
  return 0;
}

}  // namespace LC_ISA
}  // namespace lc
