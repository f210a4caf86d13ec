// Rows centred and packed into panels one cache line wide, for a product with themselves.
#pragma once

#include "op.h"
#include "widen.h"

namespace lc {
namespace LC_ISA {

// Rows in panels [divide_up(columns, panel)][stride]; row k of a panel at k * panel. The last panel is padded with
// zeros.
template <class T>
struct Packed {
  T* data;
  int64_t stride, columns;

  LC_INLINE int64_t count() const { return divide_up(columns, kPanel<T>); }
};
// The stride for so many rows: an odd number of lines, so that one row of many panels fits a cache.
template <class T>
LC_INLINE int64_t packed_stride(int64_t rows) {
  return (rows | 1) * kPanel<T>;
}
template <class T>
Packed<T> take_packed(Carver& c, int64_t rows, int64_t columns) {
  const int64_t stride = packed_stride<T>(rows);
  return {c.take<T>(stride * divide_up(columns, kPanel<T>)), stride, columns};
}

// sum[columns] += w x; returns the sum of w. weight may be null: ones.
template <class T>
double add_rows(double* sum, const T* x, const double* weight, int64_t rows, int64_t columns) {
  double total = 0;
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* row = x + r * columns;
    double w[4];
    for (int i = 0; i < 4; ++i) w[i] = weight ? weight[r + i] : 1;
    total += (w[0] + w[1]) + (w[2] + w[3]);
    for_wide_lanes(columns, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      const Vec<double> low = madd(splat(w[1]), get(row + columns + j), splat(w[0]) * get(row + j));
      const Vec<double> high = madd(splat(w[3]), get(row + 3 * columns + j), splat(w[2]) * get(row + 2 * columns + j));
      put(sum + j, get(sum + j) + (low + high));
    });
  }
  for (; r < rows; ++r) {
    const double w = weight ? weight[r] : 1;
    total += w;
    for_wide_lanes(columns, [&](int64_t j, auto get, auto put)
                                LC_LAMBDA { put(sum + j, madd(splat(w), get(x + r * columns + j), get(sum + j))); });
  }
  return total;
}

// mean[columns] = sum of w x over the sum of w, which is returned; zeros if that is 0.
template <class T>
double mean_of(double* mean, const T* x, const double* weight, int64_t rows, int64_t columns) {
  std::memset(mean, 0, sizeof(double) * static_cast<size_t>(columns));
  const double total = add_rows(mean, x, weight, rows, columns);
  if (total != 0)
    for_wide_lanes(columns,
                   [&](int64_t j, auto get, auto put) LC_LAMBDA { put(mean + j, get(mean + j) / splat(total)); });
  return total;
}

// sqrt(w) (x - mean), in double and rounded once, as rows [first, first + rows) of the panels. weight may be null. The
// rows that begin `ahead` elements later are asked for meanwhile.
template <class T>
void pack_centred(const Packed<T>& panels, int64_t first, const T* x, const double* mean, const double* weight,
                  int64_t rows, int64_t ahead = 0) {
  constexpr int L = kLanes<double>;
  const int64_t columns = panels.columns, whole = columns / kPanel<T> * kPanel<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * columns;
    T* to = panels.data + (first + r) * kPanel<T>;
    const Vec<double> scale = splat(weight ? __builtin_sqrt(weight[r]) : 1.0);
    for (int64_t j = 0; j < whole; j += kPanel<T>, to += panels.stride) {
      __builtin_prefetch(from + j + ahead, 0, 2);
      for (int v = 0; v < kPanel<T>; v += L) narrow(to + v, (widen(from + j + v) - widen(mean + j + v)) * scale);
    }
    for (int64_t j = whole; j < columns; j += L) {
      __builtin_prefetch(from + j + ahead, 0, 2);
      const int left = static_cast<int>(columns - j < L ? columns - j : int64_t{L});
      narrow(to + (j - whole), (widen_first(from + j, left) - widen_first(mean + j, left)) * scale);
    }
    for (int64_t j = round_up(columns, L); j < round_up(columns, kPanel<T>); j += L)
      narrow(to + (j - whole), Vec<double>{});
  }
}

// ---- columns that are mostly zero ---------------------------------------------------------------------------------
//
// A column a quarter of whose weight lies on zeros is not centred: its sum of squares is at most four times that about
// the mean, so that no digits are lost when the mean's part is taken off; its zeros add no rounding error, and rows
// whose entries are all zero are left out of the product.

constexpr int64_t kSample = 16;  // rows that tell whether a count of all is worth it

// zeros[columns] += w where x is 0, for every step-th row. weight may be null: ones.
template <class T>
void add_zeros(T* zeros, const T* x, const double* weight, int64_t rows, int64_t columns, int64_t step) {
  for (int64_t r = 0; r < rows; r += step) {
    const Mask<T> w = bits<Mask<T>>(splat(weight ? static_cast<T>(weight[r]) : T(1)));
    for_lanes<T>(columns, [&](int64_t j, auto get, auto put) LC_LAMBDA {
      put(zeros + j, get(zeros + j) + bits<Vec<T>>((get(x + r * columns + j) == Vec<T>{}) & w));
    });
  }
}

// removed[columns]: the mean of columns that are not to be centred, else 0; their mean becomes 0. Returns whether there
// are any. zeros[columns] is scratch.
template <class T>
bool uncentre(double* removed, double* mean, T* zeros, const T* x, const double* weight, double total, int64_t rows,
              int64_t columns) {
  std::memset(removed, 0, sizeof(double) * static_cast<size_t>(columns));
  const int64_t step = divide_up(rows, kSample);
  std::memset(zeros, 0, sizeof(T) * static_cast<size_t>(columns));
  add_zeros(zeros, x, nullptr, rows, columns, step);
  T most = 0;
  for (int64_t j = 0; j < columns; ++j) most = zeros[j] > most ? zeros[j] : most;
  if (8 * static_cast<int64_t>(most) < divide_up(rows, step))
    return false;
  std::memset(zeros, 0, sizeof(T) * static_cast<size_t>(columns));
  add_zeros(zeros, x, weight, rows, columns, 1);
  bool any = false;
  for (int64_t j = 0; j < columns; ++j)
    if (4 * static_cast<double>(zeros[j]) >= total) {
      removed[j] = mean[j];
      mean[j] = 0;
      any = true;
    }
  return any;
}

// The rows of a strip of `width` columns that are not all zero, x at row * panel; their number.
template <class T, int width>
int list_rows(uint8_t* list, const T* x, int64_t rows) {
  constexpr int kWords = width * static_cast<int>(sizeof(T)) / 8;
  int found = 0;
  for (int64_t r = 0; r < rows; ++r) {
    uint64_t word[kWords], some = 0;
    std::memcpy(word, x + r * kPanel<T>, sizeof word);
    for (const uint64_t w : word) some |= w;
    list[found] = static_cast<uint8_t>(r);
    found += some != 0;
  }
  return found;
}

}  // namespace LC_ISA
}  // namespace lc
