// Eigenvalues and vectors of symmetric matrices one at a time, vectors along rows: tridiagonal form (condense.h), the
// reflectors multiplied out in blocks (householder.h), and rotations (rotations.h) from an implicit QR iteration that
// runs kLanes matrices side by side (implicit_qr.h).
#pragma once

#include "condense.h"
#include "panel_io.h"
#include "rotations.h"

namespace lc {
namespace LC_ISA {

template <class T>
class EighBlocks {
 public:
  EighBlocks(Carver carver, int64_t n) : n_(n) {
    const int64_t row = round_up(n, kPanel<T>) + kPanel<T>;
    a_ = take_panels<T>(carver, n, n);
    space_ = take_space<T>(carver, n, n);
    form_ = {carver.take<T>(n),         carver.take<T>(n),         carver.take<T>(n * row),  carver.take<T>(n), row,
             take_vector<T>(carver, n), take_vector<T>(carver, n), take_vector<T>(carver, n)};
    for (Lane& lane : lane_) lane.vectors = take_panels<T>(carver, n, n);
    d_ = carver.take<Vec<T>>(n);
    e_ = carver.take<Vec<T>>(n);
    log_.right = carver.take<Rotation<T>>(kLogSweeps * n);
    log_.left = nullptr;
    log_.capacity = kLogSweeps;
    steps_ = take_steps<T>(carver, n);
    order_ = {carver.take<int32_t>(n), carver.take<T>(n)};
    bytes_ = carver.used();
  }
  int64_t bytes() const { return bytes_; }

  void run(T* w, T* v, uint32_t* status, const T* c, int64_t count) {
    const int64_t n = n_;
    clear(space_, n);
    for (int64_t i = 0; i < n; ++i) d_[i] = e_[i] = Vec<T>{};
    for (int64_t i = 0; i < count; ++i) reduce(i, v != nullptr, c + i * n * n);

    Mask<T> failed[1];
    if (v)
      tridiagonal_qr<T, 1, true>(n, d_, e_, &log_, failed, [&](const SweepLog<T>& log) {
        prepare(steps_, log, log.right, n, count);
        for (int64_t i = 0; i < count; ++i) rotate(lane_[i].vectors, steps_, log.sweeps, i, n);
      });
    else
      tridiagonal_qr<T, 1, false>(n, d_, e_, nullptr, failed, [](const SweepLog<T>&) {});

    for (int64_t i = 0; i < count; ++i) {
      const Lane& lane = lane_[i];
      status[i] = lane.bad ? 2 : failed[0][i] ? 1 : 0;
      if (status[i]) {
        fill_nan(w + i * n, n);
        if (v)
          fill_nan(v + i * n * n, n * n);
        continue;
      }
      for (int64_t k = 0; k < n; ++k) form_.d[k] = d_[k][i];
      sort_by<T, false>(order_.order, form_.d, n);
      for (int64_t r = 0; r < n; ++r) w[i * n + r] = form_.d[order_.order[r]] * lane.up + T(0);
      if (!v)
        continue;
      signs_of_rows(order_, lane.vectors, n);
      write_columns(v + i * n * n, n, kPanel<T>, lane.vectors, n, order_);
    }
  }

 private:
  struct Lane {
    Panels<T> vectors;  // rows
    T up;
    bool bad;
  };

  // The tridiagonal form of a matrix into its lane of d, e; its reflectors into the lane's vectors.
  void reduce(int64_t i, bool vectors, const T* c) {
    const int64_t n = n_;
    Lane& lane = lane_[i];
    Int<T> largest = 0;
    for (int64_t r = 0; r < n; ++r) largest = largest_bits<T>(c + r * n, r + 1, largest);
    const auto scale = lanes::scale_of<T>(Mask<T>{} + largest);
    lane.bad = scale.bad[0] != 0;
    lane.up = scale.up[0];
    clear(a_, n);
    if (!lane.bad)
      copy_in_symmetric(a_, c, n, scale.down[0]);
    tridiagonalize(a_, n, form_);
    for (int64_t k = 0; k < n; ++k) {
      d_[k][i] = form_.d[k];
      e_[k][i] = k + 1 < n ? form_.e[k] : T(0);
    }
    if (!vectors)
      return;
    accumulate(a_, form_.u, form_.row, form_.tau, n);
    transpose_square(lane.vectors, a_, n);
  }

  int64_t n_;
  Panels<T> a_;
  Space<T> space_;
  Tridiagonal<T> form_;
  Lane lane_[kLanes<T>];
  Vec<T>*d_, *e_;
  SweepLog<T> log_;
  Steps<T> steps_;
  Order<T> order_;
  int64_t bytes_;
};

// Bytes for eigh_blocks of n x n matrices.
template <class T>
int64_t eigh_blocks_workspace(int64_t n) {
  return EighBlocks<T>(Carver(nullptr), n).bytes();
}

// w {n} ascending, v {n, n} (may be null), status of count <= kLanes symmetric matrices c {n, n}, whose lower triangle
// is read. status: 0, or 1 not converged, 2 not finite, and then that matrix's outputs are NaN.
template <class T>
void eigh_blocks(T* w, T* v, uint32_t* status, const T* c, int64_t count, int64_t n, char* workspace) {
  EighBlocks<T>(Carver(workspace), n).run(w, v, status, c, count);
}

}  // namespace LC_ISA
}  // namespace lc
