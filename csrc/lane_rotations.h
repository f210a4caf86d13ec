// A log of rotations (implicit_qr.h) applied to the columns of vectors in lanes.
#pragma once

#include "implicit_qr.h"

namespace lc {
namespace LC_ISA {
namespace lanes {

// Sweeps that a log holds, so that it stays in the first-level cache beside some rows.
constexpr int kSweeps = 8;
constexpr int kRotatedRows = kRegisters == 32 ? 8 : 4;

template <class T, int R>
void rotate_rows(Vec<T>* q, int64_t row, const Rotation<T>* rotation, int64_t n, int64_t step, const SweepLog<T>& log) {
  for (int s = 0; s < log.sweeps; ++s, rotation += n * step) {
    Vec<T> x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) x[r] = q[r * row + log.begin[s]];
    for (int64_t k = log.begin[s]; k < log.end[s]; ++k) {
      const Vec<T> c = rotation[k * step].c, sn = rotation[k * step].s;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec<T> y = q[r * row + k + 1];
        q[r * row + k] = madd(c, x[r], sn * y);
        x[r] = madd(c, y, -(sn * x[r]));
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) q[r * row + log.end[s]] = x[r];
  }
}

// x[rows][n] turned by every rotation of one side of a log, whose planes stand `step` apart.
template <class T>
void rotate(Vec<T>* q, int64_t row, int64_t rows, const Rotation<T>* rotation, int64_t n, int64_t step,
            const SweepLog<T>& log) {
  int64_t i = 0;
  for (; i + kRotatedRows <= rows; i += kRotatedRows)
    rotate_rows<T, kRotatedRows>(q + i * row, row, rotation, n, step, log);
  if (kRotatedRows > 4 && i + 4 <= rows) {
    rotate_rows<T, 4>(q + i * row, row, rotation, n, step, log);
    i += 4;
  }
  if (i + 2 <= rows) {
    rotate_rows<T, 2>(q + i * row, row, rotation, n, step, log);
    i += 2;
  }
  if (i < rows)
    rotate_rows<T, 1>(q + i * row, row, rotation, n, step, log);
}

}  // namespace lanes
}  // namespace LC_ISA
}  // namespace lc
