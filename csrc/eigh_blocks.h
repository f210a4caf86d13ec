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
  EighBlocks(Carver carver, int64_t n, Team* team) : n_(n), team_(team) {
    for (Tridiagonal<T>& form : form_) form = take_tridiagonal<T>(carver, n);
    product_ = take_panels<T>(carver, n, n);
    groups_ = groups_of<T>(n);
    for (int i = 0; i < groups_ * kLanes<T>; ++i) lane_[i].vectors = take_panels<T>(carver, n, n);
    d_ = carver.take<Vec<T>>(n * groups_);
    e_ = carver.take<Vec<T>>(n * groups_);
    log_.right = carver.take<Rotation<T>>(kLogSweeps * n * groups_);
    log_.left = nullptr;
    log_.capacity = kLogSweeps;
    steps_ = take_steps<T>(carver, n);
    order_ = {carver.take<int32_t>(n), carver.take<T>(n)};
    bytes_ = carver.used();
  }
  int64_t bytes() const { return bytes_; }

  void run(T* w, T* v, uint32_t* status, const T* c, int64_t count) {
    const int64_t n = n_;
    used_ = static_cast<int>(divide_up(count, kLanes<T>));
    for (int64_t i = 0; i < n * used_; ++i) d_[i] = e_[i] = Vec<T>{};
    const int together = pays_together<T>(n) ? kTogether : 1;
    for (int64_t i = 0; i < count; i += together) {
      const int here = count - i < together ? static_cast<int>(count - i) : together;
      for (int q = 0; q < here; ++q) load(i + q, form_[q].a, c + (i + q) * n * n);
      if (here == kTogether)
        tridiagonalize<kTogether>(form_, nullptr);
      else
        tridiagonalize<1>(form_, pays_shared<T>(n) ? team_ : nullptr);
      for (int q = 0; q < here; ++q) keep(i + q, form_[q], v != nullptr);
    }

    Mask<T> failed[kGroups];
    if (used_ == 1)
      diagonalize<1>(failed, count, v != nullptr);
    else
      diagonalize<kGroups>(failed, count, v != nullptr);

    for (int64_t i = 0; i < count; ++i) {
      const Lane& lane = lane_[i];
      status[i] = lane.bad ? kMatrixNotFinite : failed[i / kLanes<T>][i % kLanes<T>] ? kMatrixNotConverged : 0;
      if (status[i]) {
        fill_nan(w + i * n, n);
        if (v)
          fill_nan(v + i * n * n, n * n);
        continue;
      }
      T* const d = form_->d;
      for (int64_t k = 0; k < n; ++k) d[k] = d_[k * used_ + i / kLanes<T>][i % kLanes<T>];
      sort_by<T, false>(order_.order, d, n);
      for (int64_t r = 0; r < n; ++r) w[i * n + r] = d[order_.order[r]] * lane.up + T(0);
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

  template <int G>
  void diagonalize(Mask<T>* failed, int64_t count, bool vectors) {
    const int64_t n = n_;
    if (!vectors)
      return tridiagonal_qr<T, G, false>(n, d_, e_, nullptr, failed, [](const SweepLog<T>&) {});
    Turning<T, 1> turning{{lane_->vectors}, {steps_}, 0, n};
    tridiagonal_qr<T, G, true>(n, d_, e_, &log_, failed, [&](const SweepLog<T>& log) {
      if (team_) {
        team_->join();
        prepare(steps_, log, log.right, n, 1);
        turning.sweeps = log.sweeps;
        team_->start(turning.items(), &turning);
        return;
      }
      for (int g = 0; g < G; ++g) {
        Lane* const lane = lane_ + g * kLanes<T>;
        const int64_t rest = count - g * kLanes<T>, here = rest < kLanes<T> ? rest : kLanes<T>;
        prepare(steps_, log, log.right + g * kLogSweeps * n, n, here);
        for (int64_t i = 0; i < here; ++i) rotate(lane[i].vectors, steps_, log.sweeps, i, n, 0, panels_of<T>(n));
      }
    });
    if (team_)
      team_->join();
  }

  // A matrix, scaled, into x.
  void load(int64_t i, const Panels<T>& x, const T* c) {
    const int64_t n = n_;
    Lane& lane = lane_[i];
    Int<T> largest = 0;
    for (int64_t r = 0; r < n; ++r) largest = largest_bits<T>(c + r * n, r + 1, largest);
    const auto scale = lanes::scale_of<T>(Mask<T>{} + largest);
    lane.bad = scale.bad[0] != 0;
    lane.up = scale.up[0];
    clear(x, n);
    if (!lane.bad)
      copy_in_symmetric(x, c, n, scale.down[0]);
  }

  // The tridiagonal form into its lane of d, e; its reflectors into the lane's vectors.
  void keep(int64_t i, const Tridiagonal<T>& form, bool vectors) {
    const int64_t n = n_;
    for (int64_t k = 0; k < n; ++k) {
      d_[k * used_ + i / kLanes<T>][i % kLanes<T>] = form.d[k];
      e_[k * used_ + i / kLanes<T>][i % kLanes<T>] = k + 1 < n ? form.e[k] : T(0);
    }
    if (!vectors)
      return;
    accumulate(product_, form.left, n, team_);
    transpose_square(lane_[i].vectors, product_, n);
  }

  int64_t n_;
  Team* team_;
  Tridiagonal<T> form_[kTogether];
  Panels<T> product_;
  Lane lane_[kGroups * kLanes<T>];
  int groups_, used_ = 0;  // groups of lanes that there is room for, and those of this run
  Vec<T>*d_, *e_;
  SweepLog<T> log_;
  Steps<T> steps_;
  Order<T> order_;
  int64_t bytes_;
};

// Bytes for eigh_blocks of n x n matrices.
template <class T>
int64_t eigh_blocks_workspace(int64_t n) {
  return EighBlocks<T>(Carver(nullptr), n, nullptr).bytes();
}

// w {n} ascending, v {n, n} (may be null), status of count <= blocks_at_once(n) symmetric matrices c {n, n}, whose
// lower triangle is read. status: 0, or 1 not converged, 2 not finite, and then that matrix's outputs are NaN. team:
// who helps, or null.
template <class T>
void eigh_blocks(T* w, T* v, uint32_t* status, const T* c, int64_t count, int64_t n, char* workspace, Team* team) {
  EighBlocks<T>(Carver(workspace), n, team).run(w, v, status, c, count);
}

}  // namespace LC_ISA
}  // namespace lc
