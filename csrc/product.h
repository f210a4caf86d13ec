// The one matrix product of the engine: C[m][p] = init + A[m][k] B[p][k], where B lies in panels one cache line wide.
//
// The three products of a linear layer are this product with other roles: in the forward pass A is the rows of x and B
// the weights; for the input gradient A is the weights and B the transposed output gradient; for the weight gradient A
// is the transposed input and B the output gradient. Every output is one chain of multiply-adds over k in ascending
// order: tiles of any height and width give the same bits, and so do zeros left out.
#pragma once

#include "op.h"
#include "simd.h"
#include "small_weights.h"

namespace lc {
namespace LC_ISA {

// The tile heights of this set, tallest first, and the one that fills the registers at a good width.
#if defined(__AVX512F__)
constexpr int kHeights[] = {16, 8, 4, 2, 1}, kHeight = 8;
#elif defined(__AVX2__)
constexpr int kHeights[] = {6, 4, 2, 1}, kHeight = 6;
#else
constexpr int kHeights[] = {2, 1}, kHeight = 2;
#endif

// How a product reaches A[m][k] and B[p][k].
enum class Form {
  kRows,     // A at a[m * a_row + k]
  kPanels,   // A itself lies in panels: a[(k / panel) * a_segment + m * panel + k % panel]
  kColumns,  // A at a[k * kHeight + m], 0 <= m < kHeight
  // The same with zeros left out: the i-th k is list[i], and A stands close packed at i.
  kListedRows,
  kListedColumns,
};
constexpr bool is_listed(Form f) {
  return f == Form::kListedRows || f == Form::kListedColumns;
}
constexpr bool is_columns(Form f) {
  return f == Form::kColumns || f == Form::kListedColumns;
}

// Whether weights kept as W want a factor and a bias for each output.
template <class W>
constexpr bool is_scaled = sizeof(W) == 1;

// Where one product reads and writes. Strides count elements. B is kept as W, which need not be T.
template <class T, class W = T>
struct Operands {
  const T* a;
  int64_t a_row, a_segment;
  const W* b;
  int64_t b_panel;  // B[p][k] at b + p * b_panel + k * panel
  const T* init;
  int64_t init_row, init_panel;
  T* c;
  int64_t c_row, c_panel;
  int64_t depth;  // how many k; a multiple of the panel when A is panels
  const int32_t* list;
  T floor;                // C is at least this: 0 for a ReLU, else minus infinity
  const T *scale, *bias;  // integers: C is bias[p] + scale[p] (init + A B)

  // The same from panel p on.
  Operands from(int64_t p) const {
    static_assert(!is_scaled<W>);
    Operands o = *this;
    o.b += p * b_panel;
    o.init += p * init_panel;
    o.c += p * c_panel;
    return o;
  }
};

// Panels that a tile of so many rows can carry: accumulators, one row of B (held only if it is used twice) and a
// broadcast of A fill the registers.
constexpr int kMaxPanels = 8;
constexpr int widest(int rows) {
  const int p = (kRegisters - 1) / ((rows + (rows > 1)) * kSplit);
  return p > kMaxPanels ? kMaxPanels : p;
}

// A value held in a register, so that the compiler loads it once and not in each multiply-add.
template <class V>
LC_INLINE void pin(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__)
  asm("" : "+x"(v));
#endif
}

// Rows [row, row + M) of C. Each field of o is read once, before a store into C that could change it, and never copied
// with others: what was written in parts cannot be read as a whole until it has left the store queue.
template <class T, int M, int P, Form F, class W>
__attribute__((noinline)) void tile(const Operands<T, W>& o, int64_t row) {
  constexpr int V = P * kSplit, L = kLanes<T>;
  const W* const first = o.b;
  const T *init = o.init + row * o.init_row, *scale = o.scale, *bias = o.bias;
  T* const c = o.c + row * o.c_row;
  const int64_t init_row = o.init_row, init_panel = o.init_panel, c_row = o.c_row, c_panel = o.c_panel;
  const T floor = o.floor;
  Vec<T> acc[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) acc[m][v] = load<T>(init + m * init_row + v / kSplit * init_panel + v % kSplit * L);

  constexpr bool kSegments = F == Form::kPanels;
  const int64_t a_row = kSegments ? kPanel<T> : o.a_row, a_segment = o.a_segment, b_panel = o.b_panel;
  const int64_t segments = kSegments ? o.depth / kPanel<T> : 1;
  const int64_t depth = kSegments ? kPanel<T> : o.depth;
  const int32_t* const list = o.list;
  const T* a = o.a + row * (is_columns(F) ? 1 : a_row);
  const W* b = first;
  for (int64_t s = 0; s < segments; ++s, a += a_segment) {
    // The next segment lies a panel away, where no hardware looks for it.
    if constexpr (kSegments)
      for (int m = 0; m < M; ++m) __builtin_prefetch(a + a_segment + m * kPanel<T>);
    for (int64_t k = 0; k < depth; ++k, b += kPanel<T>) {
      if constexpr (is_listed(F))
        b = first + list[k] * int64_t{kPanel<T>};
      Vec<T> line[V];
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) {
        line[v] = load_row(b + v / kSplit * b_panel + v % kSplit * L);
        if constexpr (M > 1)
          pin(line[v]);
      }
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Vec<T> x = splat(is_columns(F) ? a[k * kHeight + m] : a[m * a_row + k]);
#pragma GCC unroll 32
        for (int v = 0; v < V; ++v) acc[m][v] = madd(x, line[v], acc[m][v]);
      }
    }
  }
  if constexpr (is_scaled<W>)
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) acc[m][v] = madd(load<T>(scale + v * L), acc[m][v], load<T>(bias + v * L));
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v)
      store<T>(c + m * c_row + v / kSplit * c_panel + v % kSplit * L, larger(splat(floor), acc[m][v] + splat(T(0))));
}

template <class T, int M, Form F, class W>
LC_INLINE void tile_of_width(int panels, const Operands<T, W>& o, int64_t row) {
  constexpr int kWidest = widest(M);
  switch (panels) {
    case 1:
      return tile<T, M, 1, F>(o, row);
    case 2:
      if constexpr (kWidest >= 2)
        return tile<T, M, 2, F>(o, row);
      break;
    case 3:
      if constexpr (kWidest >= 3)
        return tile<T, M, 3, F>(o, row);
      break;
    case 4:
      if constexpr (kWidest >= 4)
        return tile<T, M, 4, F>(o, row);
      break;
    case 5:
      if constexpr (kWidest >= 5)
        return tile<T, M, 5, F>(o, row);
      break;
    case 6:
      if constexpr (kWidest >= 6)
        return tile<T, M, 6, F>(o, row);
      break;
    case 7:
      if constexpr (kWidest >= 7)
        return tile<T, M, 7, F>(o, row);
      break;
    case 8:
      if constexpr (kWidest >= 8)
        return tile<T, M, 8, F>(o, row);
      break;
  }
  __builtin_unreachable();
}

template <class T, Form F, class W>
LC_INLINE void tile_of(int rows, int panels, const Operands<T, W>& o, int64_t row) {
  switch (rows) {
#if defined(__AVX512F__)
    case 16:
      return tile_of_width<T, 16, F>(panels, o, row);
    case 8:
      return tile_of_width<T, 8, F>(panels, o, row);
#elif defined(__AVX2__)
    case 6:
      return tile_of_width<T, 6, F>(panels, o, row);
#endif
#if defined(__AVX2__)
    case 4:
      return tile_of_width<T, 4, F>(panels, o, row);
#endif
    case 2:
      return tile_of_width<T, 2, F>(panels, o, row);
    case 1:
      return tile_of_width<T, 1, F>(panels, o, row);
  }
  __builtin_unreachable();
}

// Panels that one pass over A should take.
inline int group_of(int64_t rows, int64_t panels) {
  for (const int h : kHeights)
    if (h <= rows && h <= kHeight)
      return static_cast<int>(panels < widest(h) ? panels : widest(h));
  return 1;
}

// rows x panels of C, panels <= group_of(rows, ...).
template <class T, Form F, class W>
void product(const Operands<T, W>& o, int64_t rows, int panels) {
  int64_t row = 0;
#pragma GCC unroll 5
  for (const int h : kHeights) {
    if (widest(h) < panels)
      continue;
    for (; row + h <= rows; row += h) tile_of<T, F>(h, panels, o, row);
  }
}

// ---- zeros left out -------------------------------------------------------------------------------------------------

// Rows that share one list of the k at which any of them is not zero.
constexpr int kListRows = kSplit == 4 ? 2 : 4;
// A list has room for this much more than it holds: it is written by whole vectors.
constexpr int64_t kListSlack = 16;
// A list pays when at most this part of all k is left.
constexpr double kListShare = 0.75;

// Writes the list of 1 <= rows <= kListRows rows and their values there, value[m * value_row + i]; returns its length.
template <class T>
int64_t make_list(int32_t* list, T* value, int64_t value_row, const T* a, int64_t a_row, int rows, int64_t depth) {
  int64_t found = 0, k = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; k + 16 <= depth; k += 16, lane = _mm512_add_epi32(lane, _mm512_set1_epi32(16))) {
      __mmask16 some = 0;
      for (int m = 0; m < rows; ++m)
        some |= _mm512_cmp_ps_mask(_mm512_loadu_ps(a + m * a_row + k), _mm512_setzero_ps(), _CMP_NEQ_UQ);
      _mm512_storeu_si512(list + found, _mm512_maskz_compress_epi32(some, lane));
      for (int m = 0; m < rows; ++m)
        _mm512_storeu_ps(value + m * value_row + found,
                         _mm512_maskz_compress_ps(some, _mm512_loadu_ps(a + m * a_row + k)));
      found += __builtin_popcount(some);
    }
  }
#endif
  for (; k < depth; ++k) {
    bool some = false;
    list[found] = static_cast<int32_t>(k);
    for (int m = 0; m < rows; ++m) {
      const T v = a[m * a_row + k];
      value[m * value_row + found] = v;
      some |= !(v == T(0));
    }
    found += some;
  }
  return found;
}

}  // namespace LC_ISA
}  // namespace lc
