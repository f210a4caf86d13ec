// A linear layer: y = activation(x W' + b), its input gradient, and its weight gradient, stored or handed to Adam.
//
// W and b lie in panels [out / panel][in + 1][panel], the bias in the last row; see product.h.
#include "../activation.h"
#include "../adam.h"
#include "../linear_forward.h"
#include "../quantized_forward.h"
#include "../transpose.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kInputChunk = 32;                         // inputs that one task of the input gradient takes
constexpr int64_t kWeightChunk = kHeight * (64 / kHeight);  // inputs that one task of the weight gradient takes

// ---- input gradient: dx[r,i] = dy[r,o] w{o,i} x?[r,i] before?[r,i]; sizes r, i, o; option: activation that made x --

constexpr int64_t kSlice = 256;  // rows whose gradients stay in the second-level cache from one phase to the next

template <class T>
struct InputSpace {
  T *columns, *tiles;
  static constexpr int64_t kTile = kInputChunk * kMaxPanels * kPanel<T>;
  InputSpace(Carver& c, int64_t rows, int64_t out, int threads)
      : columns(c.take<T>(round_up(rows < kSlice ? rows : kSlice, kPanel<T>) * round_up(out, kPanel<T>))),
        tiles(c.take<T>(kTile * threads)) {}
};

template <class T>
int64_t input_space(const Call& call, int64_t capacity, int threads) {
  Carver c(nullptr);
  InputSpace<T>(c, call.size[0].at(capacity), call.size[2].at(capacity), threads);
  return c.used();
}

template <class T>
int linear_backward_input(const Call& call, const Run& run) {
  const int64_t all = run.size(call, 0), in = run.size(call, 1), out = run.size(call, 2);
  const T *w = run.get<T>(call, 2), *kept = run.get<T>(call, 3), *sums = run.get<T>(call, 4);
  const int kind = static_cast<int>(call.option[0]);
  Carver carver(run.workspace);
  const InputSpace<T> space(carver, all, out, run.team->threads());
  static const T kZero[kPanel<T>] = {};

  for (int64_t first = 0; first < all; first += kSlice) {
    const int64_t rows = all - first < kSlice ? all - first : kSlice;
    const bool alone = work_of(rows, out, in) < kAlone;
    T* dx = run.get<T>(call, 0) + first * in;
    const T *dy = run.get<T>(call, 1) + first * out, *x = kept ? kept + first * in : nullptr;
    const T* before = sums ? sums + first * in : nullptr;

    // dy in blocks [rows / panel][out][panel], padded with zeros: the sums run over out, the vectors over rows.
    const int64_t blocks = divide_up(rows, kPanel<T>), depth = round_up(out, kPanel<T>), block = depth * kPanel<T>;
    run.team->each_if(!alone, blocks, [&](int64_t b, int) {
      T* to = space.columns + b * block;
      const int64_t r = b * kPanel<T>, count = rows - r < kPanel<T> ? rows - r : int64_t{kPanel<T>};
      if (count < kPanel<T>)
        std::memset(to, 0, static_cast<size_t>(block) * sizeof(T));
      std::memset(to + out * kPanel<T>, 0, static_cast<size_t>((depth - out) * kPanel<T>) * sizeof(T));
      transpose(to, kPanel<T>, dy + r * out, out, count, out);
    });

    const int64_t chunks = divide_up(in, kInputChunk), groups = divide_up(blocks, group_of(kInputChunk, blocks));
    run.team->each_if(!alone, chunks * groups, [&](int64_t task, int thread) {
      const int64_t i = task % chunks * kInputChunk, inputs = in - i < kInputChunk ? in - i : kInputChunk;
      const Span b = part_of(blocks, groups, task / chunks);
      const int wide = static_cast<int>(b.end - b.begin);
      Operands<T> o{};
      o.a = w + i * kPanel<T>;
      o.a_segment = (in + 1) * kPanel<T>;
      o.b = space.columns + b.begin * block;
      o.b_panel = block;
      o.init = kZero;
      o.c = space.tiles + thread * space.kTile;
      o.c_row = wide * kPanel<T>;
      o.c_panel = kPanel<T>;
      o.depth = depth;
      o.floor = -kInfinity<T>;
      product<T, Form::kPanels>(o, inputs, wide);
      const int64_t r = b.begin * kPanel<T>, end = b.end * kPanel<T> < rows ? b.end * kPanel<T> : rows;
      const int64_t at = r * in + i;
      transpose(dx + at, in, o.c, o.c_row, inputs, end - r);
      if (kind)
        kDeriveRows<T>[kind](dx + at, x + at, before ? before + at : nullptr, end - r, inputs, in);
    });
  }
  return 0;
}

// ---- weight gradient: dw{o,i} = dy[r,o] x[r,i]; sizes o, i, r -----------------------------------------------------

template <class T>
struct WeightSpace {
  int64_t groups, stride;  // groups of kHeight inputs; places for the rows of one
  T *dy, *x, *tiles;
  int32_t *list, *length;
  static constexpr int64_t kTile = kMaxPanels * (kWeightChunk + 1) * kPanel<T>;
  WeightSpace(Carver& c, int64_t rows, int64_t out, int64_t in, int threads)
      : groups(divide_up(in, kHeight)),
        stride(rows + 1),
        dy(c.take<T>(round_up(out, kPanel<T>) * rows)),
        x(c.take<T>(groups * stride * kHeight + kPanel<T>)),
        tiles(c.take<T>(kTile * threads)),
        list(c.take<int32_t>(groups * stride)),
        length(c.take<int32_t>(groups)) {}
};

template <class T>
int64_t weight_space(const Call& call, int64_t capacity, int threads) {
  Carver c(nullptr);
  WeightSpace<T>(c, call.size[2].at(capacity), call.size[0].at(capacity), call.size[1].at(capacity), threads);
  return c.used();
}

// Rows [begin, end) of dy into panels, the last one padded with zeros.
template <class T>
void pack_panels(T* panels, const T* dy, int64_t rows, int64_t out, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r)
    for (int64_t column = 0; column < round_up(out, kPanel<T>); column += kLanes<T>) {
      T* to = panels + column / kPanel<T> * rows * kPanel<T> + r * kPanel<T> + column % kPanel<T>;
      const T* from = dy + r * out + column;
      const int64_t left = out - column;
      store<T>(to, left >= kLanes<T> ? load<T>(from) : load_first<T>(from, left > 0 ? static_cast<int>(left) : 0));
    }
}

// The inputs of groups [begin, end) in columns [group][row][kHeight], rows that are zero in all of a group left out.
template <class T>
void pack_inputs(const WeightSpace<T>& space, const T* x, int64_t rows, int64_t in, int64_t begin, int64_t end) {
  constexpr int kWords = kHeight * static_cast<int>(sizeof(T)) / 8;
  for (int64_t g = begin; g < end; ++g) space.length[g] = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t g = begin; g < end; ++g) {
      const int64_t at = g * space.stride + space.length[g], inputs = in - g * kHeight;
      uint64_t word[kWords] = {}, some = 0;
      if (inputs >= kHeight)
        std::memcpy(word, x + r * in + g * kHeight, sizeof word);
      else
        std::memcpy(word, x + r * in + g * kHeight, static_cast<size_t>(inputs) * sizeof(T));
      for (const uint64_t w : word) some |= w;
      std::memcpy(space.x + at * kHeight, word, sizeof word);
      space.list[at] = static_cast<int32_t>(r);
      space.length[g] += some != 0;
    }
}

// Computes the gradient tile by tile. stored: where it goes, added to what is there if `accumulate`; null: each
// finished tile is handed to sink(offset in the weights, tile, count), one run of a panel at a time.
template <class T, class Sink>
LC_INLINE void weight_gradient(const Call& call, const Run& run, const T* dy, const T* x, T* stored, bool accumulate,
                               Sink&& sink) {
  const int64_t out = run.size(call, 0), in = run.size(call, 1), rows = run.size(call, 2);
  Carver carver(run.workspace);
  const WeightSpace<T> space(carver, rows, out, in, run.team->threads());
  const int64_t panels = divide_up(out, kPanel<T>), panel_size = (in + 1) * kPanel<T>;
  const bool alone = work_of(rows, out, in) < kAlone / 4;

  // Few and wide pieces of x: what is read in a row is then long enough to be fetched ahead.
  const int64_t packs = divide_up(rows, kRowChunk), pieces = 2 * run.team->threads();
  run.team->each_if(!alone, pieces + packs, [&](int64_t i, int) {
    if (i < pieces) {
      const Span g = part_of(space.groups, pieces, i);
      pack_inputs(space, x, rows, in, g.begin, g.end);
    } else {
      const int64_t begin = (i - pieces) * kRowChunk;
      pack_panels(space.dy, dy, rows, out, begin, begin + kRowChunk < rows ? begin + kRowChunk : rows);
    }
  });

  static const T kZero[kPanel<T>] = {};
  const int64_t chunks = divide_up(in + 1, kWeightChunk), groups = divide_up(panels, group_of(kWeightChunk, panels));
  run.team->each_if(!alone, chunks * groups, [&](int64_t task, int thread) {
    const Span p = part_of(panels, groups, task / chunks);
    const int wide = static_cast<int>(p.end - p.begin);
    const int64_t begin = task % chunks * kWeightChunk;
    const int64_t end = begin + kWeightChunk < in + 1 ? begin + kWeightChunk : in + 1;  // row `in` is the bias
    T* const tile = stored ? stored + p.begin * panel_size + begin * kPanel<T> : space.tiles + thread * space.kTile;
    Operands<T> o{};
    o.b = space.dy + p.begin * rows * kPanel<T>;
    o.b_panel = rows * kPanel<T>;
    o.c_row = kPanel<T>;
    o.c_panel = stored ? panel_size : (kWeightChunk + 1) * kPanel<T>;
    o.init_row = accumulate ? o.c_row : 0;
    o.init_panel = accumulate ? o.c_panel : 0;
    o.floor = -kInfinity<T>;
    for (int64_t i = begin; i < end && i < in; i += kHeight) {
      const int64_t g = i / kHeight, inputs = in - i < kHeight ? in - i : int64_t{kHeight};
      o.a = space.x + g * space.stride * kHeight;
      o.c = tile + (i - begin) * kPanel<T>;
      o.init = accumulate ? o.c : kZero;
      o.depth = space.length[g];
      o.list = space.list + g * space.stride;
      if (o.depth == rows)
        product<T, Form::kColumns>(o, inputs, wide);
      else
        product<T, Form::kListedColumns>(o, inputs, wide);
    }
    for (int64_t q = p.begin; q < p.end; ++q) {
      T* piece = tile + (q - p.begin) * o.c_panel;
      if (end == in + 1) {
        T* bias = piece + (in - begin) * kPanel<T>;
        for (int v = 0; v < kPanel<T>; v += kLanes<T>) {
          Vec<T> sum = accumulate ? load<T>(bias + v) : Vec<T>{};
          for (int64_t r = 0; r < rows; ++r) sum += load<T>(space.dy + (q * rows + r) * kPanel<T> + v);
          store<T>(bias + v, sum);
        }
      }
      if (!stored)
        sink(q * panel_size + begin * kPanel<T>, piece, (end - begin) * kPanel<T>);
    }
  });
}

// dw{o,i} = dy[r,o] x[r,i]; option: accumulate
template <class T>
int linear_backward_weight(const Call& call, const Run& run) {
  weight_gradient<T>(call, run, run.get<T>(call, 1), run.get<T>(call, 2), run.get<T>(call, 0), call.option[0] != 0,
                     [](int64_t, T*, int64_t) {});
  return 0;
}

// w{o,i} m{o,i} v{o,i} = dy[r,o] x[r,i] learning_rate[steps]; options: Adam's
template <class T>
int linear_backward_update(const Call& call, const Run& run) {
  T *w = run.get<T>(call, 0), *m = run.get<T>(call, 1), *v = run.get<T>(call, 2);
  const double* rate = run.get<double>(call, 5);
  const Adam<T> adam(call.option, rate[run.clock.iteration], run.clock.step);
  weight_gradient<T>(call, run, run.get<T>(call, 3), run.get<T>(call, 4), nullptr, false,
                     [&](int64_t at, const T* g, int64_t n) { adam(w + at, m + at, v + at, g, T(1), n); });
  return 0;
}

}  // namespace

extern const Op kLinear[] = {
    {"linear_forward", linear_forward<float>, linear_forward<double>, forward_space<float>, forward_space<double>},
    {"linear_forward:float16", linear_forward<float, Half>, nullptr, forward_space<float>, nullptr},
    {"linear_forward:int8", linear_forward<float, int8_t>, nullptr, forward_space<float>, nullptr},
    {"linear_forward:int8_dynamic", quantized_forward_at_best, nullptr, quantized_space, nullptr},
#if defined(__AVX512F__)
    // What a processor without AVX512-VNNI takes, for tests to call on one that has it.
    {"linear_forward:int8_dynamic:pairs", quantized_forward<Pairs>, nullptr, quantized_space, nullptr},
#endif
    {"linear_backward_input", linear_backward_input<float>, linear_backward_input<double>, input_space<float>,
     input_space<double>},
    {"linear_backward_weight", linear_backward_weight<float>, linear_backward_weight<double>, weight_space<float>,
     weight_space<double>},
    {"linear_backward_update", linear_backward_update<float>, linear_backward_update<double>, weight_space<float>,
     weight_space<double>},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
