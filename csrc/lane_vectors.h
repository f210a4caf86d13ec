// The orthonormal vectors of matrices in lanes: made from reflectors, turned by rotations.
#pragma once

#include "lane_reflectors.h"
#include "lane_rotations.h"
#include "transpose.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// Lanes in use up to which each matrix's vectors are made for themselves: vectors of kLanes columns, then of kLanes
// rows. The arithmetic, and so the bits, are the same.
template <class T>
constexpr int64_t kFew = kLanes<T> / 4;
constexpr int64_t kFewFrom = 8;  // columns

// x[rows][columns] of a group, its first rows and columns the product of reflectors; x may be where these stand.
template <class T>
class Vectors {
 public:
  // Vectors for `alone`.
  static int64_t size_alone(int64_t rows, int64_t columns) {
    return kFew<T> * (rows * divide_up(columns, kLanes<T>) + divide_up(rows, kLanes<T>) * columns);
  }
  // count: the lanes in use.
  Vectors(Vec<T>* x, int64_t row, int64_t rows, int64_t columns, int64_t count, Vec<T>* alone)
      : x_(x),
        row_(row),
        rows_(rows),
        columns_(columns),
        alone_(count <= kFew<T> && columns >= kFewFrom ? count : 0),
        by_columns_(alone),
        by_rows_(alone + kFew<T> * rows * divide_up(columns, kLanes<T>)) {}

  // The product of `count` reflectors: entry i of reflector k, which turns rows k + shift and on, is at(i, k); where x
  // holds it, it is read before rows and columns k + shift and on are written. v[4 * rows] is scratch.
  template <class At>
  void accumulate(int64_t shift, int64_t count, Vec<T>* v, At&& at) const {
    set_identity();
    int64_t done = columns_;  // rows and columns from here on are set
    for (int64_t k = (count - 1) / 4 * 4; k >= 0 && count; k -= 4) {
      const int some = static_cast<int>(count - k < 4 ? count - k : 4);
      const int64_t first = k + shift;
      for (int64_t i = first; i < rows_; ++i)
        for (int r = 0; r < some; ++r) v[(i - first) * some + r] = i < first + r ? Vec<T>{} : at(i, k + r);
      if (!alone_) {
        set_identity(first, done);
        reflect<T, false>(some, x_ + first * row_ + first, row_, rows_ - first, columns_ - first, v);
      }
      const int64_t wide = divide_up(columns_, kLanes<T>), left = first / kLanes<T>;
      for (int64_t lane = 0; lane < alone_; ++lane)
        reflect<T, false>(some, by_columns(lane) + first * wide + left, wide, rows_ - first, wide - left, v,
                          OneLane<T>{lane});
      done = first;
    }
    if (!alone_)
      set_identity(0, done);
    for (int64_t lane = 0; lane < alone_; ++lane) to_rows(lane);
  }

  // Turned by one side of a log, which is used up.
  void rotate(Rotation<T>* rotation, const SweepLog<T>& log, Passes<T>* passes) const {
    scale_rotations<T>(rotation, columns_, log, passes);
    if (!alone_)
      rotate_all<T>(x_, row_, rows_, columns_, *passes, EveryLane<T>{});
    for (int64_t lane = 0; lane < alone_; ++lane)
      rotate_all<T>(by_rows(lane), columns_, divide_up(rows_, kLanes<T>), columns_, *passes, OneLane<T>{lane});
  }

  // To the lanes, if they are not there.
  void finish() const {
    constexpr int64_t L = kLanes<T>;
    for (int64_t lane = 0; lane < alone_; ++lane) {
      const T* from = reinterpret_cast<const T*>(by_rows(lane));
      for (int64_t i = 0; i < rows_; ++i)
        for (int64_t k = 0; k < columns_; ++k)
          reinterpret_cast<T*>(x_ + i * row_ + k)[lane] = from[(i / L * columns_ + k) * L + i % L];
    }
  }

 private:
  Vec<T>* by_columns(int64_t lane) const { return by_columns_ + lane * rows_ * divide_up(columns_, kLanes<T>); }
  Vec<T>* by_rows(int64_t lane) const { return by_rows_ + lane * divide_up(rows_, kLanes<T>) * columns_; }

  // Rows and columns from `begin` to `done`.
  void set_identity(int64_t begin, int64_t done) const {
    for (int64_t i = begin; i < rows_; ++i)
      for (int64_t j = begin; j < (i < done ? columns_ : done); ++j)
        x_[i * row_ + j] = Vec<T>{} + static_cast<T>(i == j);
  }
  void set_identity() const {
    const int64_t wide = divide_up(columns_, kLanes<T>);
    for (int64_t lane = 0; lane < alone_; ++lane) {
      for (int64_t i = 0; i < rows_ * wide; ++i) by_columns(lane)[i] = Vec<T>{};
      for (int64_t i = 0; i < columns_; ++i) reinterpret_cast<T*>(by_columns(lane) + i * wide)[i] = 1;
    }
  }
  void to_rows(int64_t lane) const {
    constexpr int64_t L = kLanes<T>;
    const int64_t from_row = divide_up(columns_, L) * L;
    const T* from = reinterpret_cast<const T*>(by_columns(lane));
    for (int64_t i = 0; i < rows_; i += L) {
      Vec<T>* to = by_rows(lane) + i / L * columns_;
      const int64_t some = rows_ - i < L ? rows_ - i : L;
      for (int64_t k = 0; k < columns_ && some < L; ++k) to[k] = Vec<T>{};
      transpose<T>(reinterpret_cast<T*>(to), L, from + i * from_row, from_row, some, columns_);
    }
  }

  Vec<T>* x_;
  int64_t row_, rows_, columns_, alone_;
  Vec<T>*by_columns_, *by_rows_;  // of each lane: [rows][columns / kLanes] and [rows / kLanes][columns]
};

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
