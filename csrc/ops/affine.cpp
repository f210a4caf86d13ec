// Rows of many groups, each group with an affine map of its own: y = W[g] (x - before[g]) + after[g].
#include "../op.h"
#include "../product.h"
#include "../transpose.h"
#include "../widen.h"

namespace lc {
namespace LC_ISA {
namespace {

constexpr int64_t kRowChunk = 64;  // rows that one task takes
constexpr double kAlone = 1e5;     // multiply-adds under which one thread is faster

// What one thread needs: the rows of a chunk less their vector, the weights of their group in panels, and the product.
template <class T>
struct Space {
  T *moved, *panels, *tile;
  Space(Carver& c, int64_t rows, int64_t out, int64_t in) {
    const int64_t chunk = rows < kRowChunk ? rows : kRowChunk, wide = round_up(out, kPanel<T>);
    moved = c.take<T>(chunk * in);
    panels = c.take<T>(wide * in);
    tile = c.take<T>(chunk * wide);
  }
};

template <class T>
int64_t space_of(const Call& call, int64_t capacity, int threads) {
  Carver c(nullptr);
  for (int i = 0; i < threads; ++i)
    Space<T>(c, call.size[0].at(capacity), call.size[1].at(capacity), call.size[2].at(capacity));
  return c.used();
}

// W [out][in] into panels [out / panel][in][panel], the last one padded with zeros.
template <class T>
void pack(T* panels, const T* w, int64_t out, int64_t in) {
  for (int64_t column = 0; column < out; column += kPanel<T>, panels += in * kPanel<T>) {
    const int64_t count = out - column < kPanel<T> ? out - column : int64_t{kPanel<T>};
    if (count < kPanel<T>)
      std::memset(panels, 0, static_cast<size_t>(in * kPanel<T>) * sizeof(T));
    transpose(panels, kPanel<T>, w + column * in, in, count, in);
  }
}

// y[r,o] = x[r,i] group[r] before?[g,i] w[g,o,i] after?[g,o]; sizes r, o, i, g
template <class T>
int affine_forward(const Call& call, const Run& run) {
  T* y = run.get<T>(call, 0);
  const T *x = run.get<T>(call, 1), *w = run.get<T>(call, 4);
  const uint32_t* group = run.get<uint32_t>(call, 2);
  const double *before = run.get<double>(call, 3), *after = run.get<double>(call, 5);
  const int64_t rows = run.size(call, 0), out = run.size(call, 1), in = run.size(call, 2), groups = run.size(call, 3);
  for (int64_t r = 0; r < rows; ++r)
    if (group[r] >= groups)
      return kOutOfRange;

  const int64_t panels = divide_up(out, kPanel<T>), wide = panels * kPanel<T>;
  Carver each(nullptr);
  Space<T>(each, rows, out, in);
  static const T kZero[kPanel<T>] = {};
  const double work = static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in);
  run.team->each_if(work >= kAlone, divide_up(rows, kRowChunk), [&](int64_t task, int thread) {
    Carver carver(run.workspace + thread * each.used());
    const Space<T> space(carver, rows, out, in);
    const int64_t last = (task + 1) * kRowChunk < rows ? (task + 1) * kRowChunk : rows;
    for (int64_t begin = task * kRowChunk, end; begin < last; begin = end) {
      const int64_t g = group[begin];
      for (end = begin + 1; end < last && group[end] == g;) ++end;
      const T* from = x + begin * in;
      if (before) {
        for (int64_t r = 0; r < end - begin; ++r)
          for_wide_lanes(in, [&](int64_t j, auto get, auto put) LC_LAMBDA {
            put(space.moved + r * in + j, get(from + r * in + j) - get(before + g * in + j));
          });
        from = space.moved;
      }
      pack(space.panels, w + g * out * in, out, in);
      Operands<T> o{};
      o.a_row = in;
      o.b_panel = in * kPanel<T>;
      o.init = kZero;
      o.c_row = wide;
      o.c_panel = kPanel<T>;
      o.depth = in;
      o.floor = -kInfinity<T>;
      const int64_t parts = divide_up(panels, group_of(end - begin, panels));
      for (int64_t i = 0; i < parts; ++i) {
        const Span p = part_of(panels, parts, i);
        o.a = from;
        o.b = space.panels + p.begin * o.b_panel;
        o.c = space.tile + p.begin * kPanel<T>;
        product<T, Form::kRows>(o, end - begin, static_cast<int>(p.end - p.begin));
      }
      for (int64_t r = 0; r < end - begin; ++r) {
        T* to = y + (begin + r) * out;
        const T* row = space.tile + r * wide;
        if (after)
          for_wide_lanes(out, [&](int64_t j, auto get, auto put)
                                  LC_LAMBDA { put(to + j, get(row + j) + get(after + g * out + j)); });
        else
          std::memcpy(to, row, static_cast<size_t>(out) * sizeof(T));
      }
    }
  });
  return 0;
}

}  // namespace

extern const Op kAffine[] = {
    {"affine_forward", affine_forward<float>, affine_forward<double>, space_of<float>, space_of<double>},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace LC_ISA
}  // namespace lc
