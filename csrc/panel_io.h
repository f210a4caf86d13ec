// How a matrix gets into panels, and how its vectors, the rows of panels, get out: scaled, sorted, with their signs.
#pragma once

#include "lanes.h"
#include "panels.h"
#include "transpose.h"

namespace lc {
namespace LC_ISA {

// x = by * a for a row-major matrix of rows `row` apart. Columns after the last are left alone.
template <class T>
void copy_in(const Panels<T>& x, const T* a, int64_t row, int64_t rows, int64_t columns, T by) {
  const Vec<T> scale = splat(by);
  for (int64_t p = 0; p * kPanel<T> < columns; ++p) {
    const int64_t j = p * kPanel<T>, width = columns - j < kPanel<T> ? columns - j : kPanel<T>;
    for (int64_t i = 0; i < rows; ++i)
      for_lanes<T>(width,
                   [&](int64_t at, auto get, auto put) { put(x.line(p, i) + at, get(a + i * row + j + at) * scale); });
  }
}
// The same for the transpose of a, whose columns become x's rows.
template <class T>
void copy_in_transposed(const Panels<T>& x, const T* a, int64_t row, int64_t rows, int64_t columns, T by) {
  const Vec<T> scale = splat(by);
  for (int64_t p = 0; p * kPanel<T> < columns; ++p) {
    const int64_t j = p * kPanel<T>, width = columns - j < kPanel<T> ? columns - j : kPanel<T>;
    transpose<T>(x.line(p, 0), kPanel<T>, a + j * row, row, width, rows);
    for (int64_t i = 0; i < rows * kPanel<T>; i += kLanes<T>)
      store<T>(x.line(p, 0) + i, load<T>(x.line(p, 0) + i) * scale);
  }
}

// The symmetric n x n matrix whose lower triangle c holds.
template <class T>
void copy_in_symmetric(const Panels<T>& x, const T* c, int64_t n, T by) {
  constexpr int64_t P = kPanel<T>;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j <= i; j += P)
      for_lanes<T>(i + 1 - j < P ? i + 1 - j : P, [&](int64_t at, auto get, auto put) {
        put(x.line(j / P, i) + at, get(c + i * n + j + at) * splat(by));
      });
  for (int64_t j = 0; j < n; j += P)
    for (int64_t i = j; i < n; i += P) {
      alignas(64) T block[P * P];
      const int64_t rows = n - i < P ? n - i : P, columns = n - j < P ? n - j : P;
      transpose<T>(block, P, x.line(j / P, i), P, rows, columns);
      for (int64_t q = 0; q < columns; ++q)
        for (int64_t r = i > j ? 0 : q + 1; r < rows; ++r) x.line(i / P, j + q)[r] = block[q * P + r];
    }
}

// Where the vectors, the rows of a matrix, go: the r-th from row order[r], times sign[r], which is 1 or -1.
template <class T>
struct Order {
  int32_t* order;
  T* sign;
};

// out[r][..] = vector r
template <class T>
void write_rows(T* out, int64_t out_row, const Panels<T>& x, int64_t n, const Order<T>& by) {
  for (int64_t r = 0; r < n; ++r) {
    const Vec<T> sign = splat(by.sign[r]);
    for (int64_t j = 0; j < n; j += kPanel<T>) {
      const T* line = x.line(j / kPanel<T>, by.order[r]);
      for_lanes<T>(n - j < kPanel<T> ? n - j : kPanel<T>, [&](int64_t at, auto get, auto put) {
        put(out + r * out_row + j + at, madd(get(line + at), sign, Vec<T>{}));
      });
    }
  }
}
// out[..][r] = vector r; a panel of columns starts `out_panel` after the one before.
template <class T>
void write_columns(T* out, int64_t out_row, int64_t out_panel, const Panels<T>& x, int64_t n, const Order<T>& by) {
  constexpr int64_t P = kPanel<T>;
  alignas(64) T block[P * P];
  for (int64_t r = 0; r < n; r += P)
    for (int64_t i = 0; i < n; i += P) {
      const int64_t width = n - r < P ? n - r : P;
      for (int64_t q = 0; q < width; ++q)
        for (int64_t at = 0; at < P; at += kLanes<T>)
          store<T>(block + q * P + at,
                   madd(load<T>(x.line(i / P, by.order[r + q]) + at), splat(by.sign[r + q]), Vec<T>{}));
      transpose<T>(out + i * out_row + r / P * out_panel, out_row, block, P, width, n - i < P ? n - i : P);
    }
}

// x, rows x columns, row-major.
template <class T>
void copy_out(T* out, int64_t row, const Panels<T>& x, int64_t rows, int64_t columns) {
  for (int64_t j = 0; j < columns; j += kPanel<T>)
    for (int64_t i = 0; i < rows; ++i)
      for_lanes<T>(columns - j < kPanel<T> ? columns - j : kPanel<T>, [&](int64_t at, auto get, auto put) {
        put(out + i * row + j + at, get(x.line(j / kPanel<T>, i) + at));
      });
}

// The same for its transpose, times sign of the column.
template <class T>
void copy_out_transposed(T* out, int64_t row, const Panels<T>& x, int64_t rows, int64_t columns, const T* sign) {
  for (int64_t j = 0; j < columns; j += kPanel<T>)
    transpose<T>(out + j * row, row, x.line(j / kPanel<T>, 0), kPanel<T>, rows,
                 columns - j < kPanel<T> ? columns - j : kPanel<T>);
  for (int64_t j = 0; j < columns; ++j)
    for_lanes<T>(rows, [&](int64_t at, auto get, auto put) {
      put(out + j * row + at, madd(get(out + j * row + at), splat(sign[j]), Vec<T>{}));
    });
}

template <class T>
void fill_nan(T* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = kNaN<T>;
}

// The bits of the largest magnitude among a[n], at least `most`.
template <class T>
Int<T> largest_bits(const T* a, int64_t n, Int<T> most) {
  Mask<T> largest = Mask<T>{} + most;
  for_lanes<T>(n, [&](int64_t at, auto get, auto) {
    const Mask<T> size = bits<Mask<T>>(magnitude<T>(get(a + at)));
    largest = size > largest ? size : largest;
  });
  for (int i = 0; i < kLanes<T>; ++i) most = largest[i] > most ? largest[i] : most;
  return most;
}

// order[0 .. n): the places of key in descending order of magnitude, or ascending; equal ones as they stand.
template <class T, bool kDescendingMagnitude>
void sort_by(int32_t* order, const T* key, int64_t n) {
  const auto before = [](T a, T b) LC_LAMBDA {
    return kDescendingMagnitude ? __builtin_fabs(static_cast<double>(a)) > __builtin_fabs(static_cast<double>(b))
                                : a < b;
  };
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = i;
    for (; at > 0 && before(key[i], key[order[at - 1]]); --at) order[at] = order[at - 1];
    order[at] = static_cast<int32_t>(i);
  }
}

// A bit for each lane.
template <class T>
LC_INLINE unsigned lanes_where(Mask<T> a) {
#if defined(__AVX512F__)
  return sizeof(T) == 4 ? _mm512_movepi32_mask(bits<__m512i>(a)) : _mm512_movepi64_mask(bits<__m512i>(a));
#elif defined(__AVX2__)
  return static_cast<unsigned>(sizeof(T) == 4 ? _mm256_movemask_ps(bits<__m256>(a))
                                              : _mm256_movemask_pd(bits<__m256d>(a)));
#else
  unsigned r = 0;
  for (int i = 0; i < kLanes<T>; ++i) r |= static_cast<unsigned>(a[i] & 1) << i;
  return r;
#endif
}

// The sign of the entry of largest magnitude, the first of equals, of each vector.
template <class T>
void signs_of_rows(const Order<T>& by, const Panels<T>& x, int64_t n) {
  for (int64_t r = 0; r < n; ++r) {
    const T* row = x.line(0, by.order[r]);
    Vec<T> most = {};
    for (int64_t p = 0; p < panels_of<T>(n); ++p)
      for (int at = 0; at < kPanel<T>; at += kLanes<T>)
        most = larger(most, magnitude<T>(load<T>(row + p * x.stride + at)));
    most = across(most, [](Vec<T> a, Vec<T> b) LC_LAMBDA { return larger(a, b); });
    by.sign[r] = 1;
    for (int64_t j = 0; j < n; j += kLanes<T>) {
      const Vec<T> v = load<T>(row + j / kPanel<T> * x.stride + j % kPanel<T>);
      const unsigned found = lanes_where<T>(magnitude<T>(v) == most);
      if (found) {
        by.sign[r] = v[__builtin_ctz(found)] < 0 ? T(-1) : T(1);
        break;
      }
    }
  }
}
template <class T>
void signs_of_columns(T* sign, const Panels<T>& x, int64_t rows, int64_t columns) {
  for (int64_t j = 0; j < columns; j += kLanes<T>) {
    const T* column = &x(0, j);
    Vec<T> most = {};
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> v = load<T>(column + i * kPanel<T>);
      most = magnitude<T>(v) > magnitude<T>(most) ? v : most;
    }
    for (int64_t l = 0; l < kLanes<T> && j + l < columns; ++l) sign[j + l] = most[l] < 0 ? T(-1) : T(1);
  }
}

}  // namespace LC_ISA
}  // namespace lc
