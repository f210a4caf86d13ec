// Thin SVD of matrices one at a time, vectors along rows: a tall matrix's QR factors, bidiagonal form (condense.h), the
// reflectors multiplied out in blocks (householder.h), and rotations (rotations.h) from an implicit QR iteration that
// runs kLanes matrices side by side (implicit_qr.h). A wide matrix is factored as its transpose.
#pragma once

#include "condense.h"
#include "panel_io.h"
#include "rotations.h"
#include "tall_qr.h"

namespace lc {
namespace LC_ISA {

template <class T>
class SvdBlocks {
 public:
  SvdBlocks(Carver carver, int64_t rows, int64_t columns, Team* team)
      : m_(rows < columns ? columns : rows), n_(rows < columns ? rows : columns), wide_(rows < columns), team_(team) {
    const int64_t n = n_;
    for (Bidiagonal<T>& form : form_) form = take_bidiagonal<T>(carver, n);
    product_ = take_panels<T>(carver, n, n);
    if (tall()) {
      tall_ = take_panels<T>(carver, m_, n);
      space_ = take_tall_space<T>(carver, n);
      tall_row_ = round_up(m_, kPanel<T>) + kPanel<T>;
      tall_rows_ = carver.take<T>(n * tall_row_);
    }
    groups_ = groups_of<T>(n);
    for (int i = 0; i < groups_ * kLanes<T>; ++i) {
      Lane& lane = lane_[i];
      lane.left = take_panels<T>(carver, n, n);
      lane.right = take_panels<T>(carver, n, n);
      if (tall()) {
        lane.gram = take_panels<T>(carver, n, n);
        lane.tau = carver.take<T>(n);
      }
    }
    d_ = carver.take<Vec<T>>(n * groups_);
    e_ = carver.take<Vec<T>>(n * groups_);
    log_.right = carver.take<Rotation<T>>(kLogSweeps * n * groups_);
    log_.left = carver.take<Rotation<T>>(kLogSweeps * n * groups_);
    log_.capacity = kLogSweeps;
    steps_ = take_steps<T>(carver, n);
    left_steps_ = take_steps<T>(carver, n);
    order_ = {carver.take<int32_t>(n), carver.take<T>(n)};
    bytes_ = carver.used();
  }
  int64_t bytes() const { return bytes_; }

  void run(T* u, T* s, T* vt, uint32_t* status, const T* a, int64_t count) {
    const int64_t m = m_, n = n_;
    T *first = wide_ ? vt : u, *second = wide_ ? u : vt;  // where A's left and right vectors go, or those of A'
    const auto left_of = [&](int64_t i) { return first + i * m * n; };
    const auto right_of = [&](int64_t i) { return second + i * n * n; };
    const bool vectors = u != nullptr;
    if (tall())
      clear(space_, n);
    used_ = static_cast<int>(divide_up(count, kLanes<T>));
    for (int64_t i = 0; i < n * used_; ++i) d_[i] = e_[i] = Vec<T>{};
    const int together = pays_together<T>(n) ? kTogether : 1;
    for (int64_t i = 0; i < count; i += together) {
      const int here = count - i < together ? static_cast<int>(count - i) : together;
      for (int q = 0; q < here; ++q) load(i + q, form_[q].a, vectors ? left_of(i + q) : nullptr, a + (i + q) * m * n);
      if (here == kTogether)
        bidiagonalize<kTogether>(form_, nullptr);
      else
        bidiagonalize<1>(form_, pays_shared<T>(n) ? team_ : nullptr);
      for (int q = 0; q < here; ++q) keep(i + q, form_[q], vectors);
    }

    Mask<T> failed[kGroups];
    if (used_ == 1)
      diagonalize<1>(failed, count, vectors);
    else
      diagonalize<kGroups>(failed, count, vectors);

    for (int64_t i = 0; i < count; ++i) {
      status[i] = lane_[i].bad ? kMatrixNotFinite : failed[i / kLanes<T>][i % kLanes<T>] ? kMatrixNotConverged : 0;
      if (status[i]) {
        fill_nan(s + i * n, n);
        if (vectors) {
          fill_nan(left_of(i), m * n);
          fill_nan(right_of(i), n * n);
        }
        continue;
      }
      T* const d = form_->d;
      for (int64_t k = 0; k < n; ++k) d[k] = d_[k * used_ + i / kLanes<T>][i % kLanes<T>];
      sort_by<T, true>(order_.order, d, n);
      for (int64_t r = 0; r < n; ++r) {
        const T value = d[order_.order[r]];
        s[i * n + r] = (value < 0 ? -value : value) * lane_[i].up + T(0);
      }
      if (vectors)
        finish(lane_[i], left_of(i), right_of(i));
    }
  }

 private:
  struct Lane {
    Panels<T> left, right, gram;  // the rows are the vectors; striu(V'V) of the QR factors
    T *tau, up;
    bool bad;
  };

  bool tall() const { return m_ > n_; }

  template <int G>
  void diagonalize(Mask<T>* failed, int64_t count, bool vectors) {
    const int64_t n = n_;
    if (!vectors)
      return bidiagonal_qr<T, G, false>(n, d_, e_, nullptr, failed, [](const SweepLog<T>&) {});
    Turning<T, 2> turning{{lane_->left, lane_->right}, {left_steps_, steps_}, 0, n};
    bidiagonal_qr<T, G, true>(n, d_, e_, &log_, failed, [&](const SweepLog<T>& log) {
      if (team_) {
        team_->join();
        prepare(left_steps_, log, log.left, n, 1);
        prepare(steps_, log, log.right, n, 1);
        turning.sweeps = log.sweeps;
        team_->start(turning.items(), &turning);
        return;
      }
      for (int g = 0; g < G; ++g) {
        Lane* const lane = lane_ + g * kLanes<T>;
        const int64_t rest = count - g * kLanes<T>, here = rest < kLanes<T> ? rest : kLanes<T>;
        prepare(steps_, log, log.right + g * kLogSweeps * n, n, here);
        for (int64_t i = 0; i < here; ++i) rotate(lane[i].right, steps_, log.sweeps, i, n, 0, panels_of<T>(n));
        prepare(steps_, log, log.left + g * kLogSweeps * n, n, here);
        for (int64_t i = 0; i < here; ++i) rotate(lane[i].left, steps_, log.sweeps, i, n, 0, panels_of<T>(n));
      }
    });
    if (team_)
      team_->join();
  }

  // A matrix, scaled, or the R of a tall one, into x; the reflectors of a tall one's Q, {m, n}, into `parked`, unless
  // that is null: then only the values are wanted.
  void load(int64_t i, const Panels<T>& x, T* parked, const T* a) {
    const int64_t m = m_, n = n_;
    Lane& lane = lane_[i];
    const auto scale = lanes::scale_of<T>(Mask<T>{} + largest_bits<T>(a, m * n, 0));
    lane.bad = scale.bad[0] != 0;
    lane.up = scale.up[0];
    const Panels<T>& to = tall() ? tall_ : x;
    clear(to, n);
    if (!lane.bad) {
      if (wide_)
        copy_in_transposed(to, a, m, m, n, scale.down[0]);
      else
        copy_in(to, a, n, m, n, scale.down[0]);
    }
    if (!tall())
      return;
    factor(Factors<T>{to, x, parked ? lane.gram : space_.gram, tall_rows_, tall_row_, lane.tau}, m, n,
           parked != nullptr, space_);
    if (parked)
      copy_out(parked, n, to, m, n);
  }

  // The bidiagonal form into its lane of d, e; its reflectors into the lane's vectors.
  void keep(int64_t i, const Bidiagonal<T>& form, bool vectors) {
    const int64_t n = n_;
    for (int64_t k = 0; k < n; ++k) {
      d_[k * used_ + i / kLanes<T>][i % kLanes<T>] = form.d[k];
      e_[k * used_ + i / kLanes<T>][i % kLanes<T>] = k + 1 < n ? form.e[k] : T(0);
    }
    if (!vectors)
      return;
    accumulate(product_, form.left, n, team_);
    transpose_square(lane_[i].left, product_, n);
    accumulate(product_, form.right, n, team_);
    transpose_square(lane_[i].right, product_, n);
  }

  // The vectors in their order, with their signs: the largest entry of each right vector of A is positive. That is the
  // right one of what was factored, or, if that is A', the left one.
  void finish(const Lane& lane, T* left, T* right) {
    const int64_t m = m_, n = n_;
    const auto times_signs_of_values = [&] {
      for (int64_t r = 0; r < n; ++r)
        if (form_->d[order_.order[r]] < 0)
          order_.sign[r] = -order_.sign[r];
    };
    if (wide_) {
      for (int64_t r = 0; r < n; ++r) order_.sign[r] = 1;
      write_columns(product_.at, kPanel<T>, product_.stride, lane.left, n, order_);
      expand(tall_, product_, left, m, n, lane.gram, lane.tau, tall_rows_, tall_row_, form_[0].a, space_.zeros);
      signs_of_columns(order_.sign, tall_, m, n);
      copy_out_transposed(left, m, tall_, m, n, order_.sign);
      times_signs_of_values();
      write_columns(right, n, kPanel<T>, lane.right, n, order_);
      return;
    }
    signs_of_rows(order_, lane.right, n);
    write_rows(right, n, lane.right, n, order_);
    times_signs_of_values();
    if (!tall())
      return write_columns(left, n, kPanel<T>, lane.left, n, order_);
    write_columns(product_.at, kPanel<T>, product_.stride, lane.left, n, order_);
    expand(tall_, product_, left, m, n, lane.gram, lane.tau, tall_rows_, tall_row_, form_[0].a, space_.zeros);
    copy_out(left, n, tall_, m, n);
  }

  int64_t m_, n_;  // of what is factored: m >= n
  bool wide_;
  Team* team_;
  Panels<T> product_, tall_ = {};
  TallSpace<T> space_ = {};
  Bidiagonal<T> form_[kTogether];
  T* tall_rows_ = nullptr;
  int64_t tall_row_ = 0;
  Lane lane_[kGroups * kLanes<T>];
  int groups_, used_ = 0;  // groups of lanes that there is room for, and those of this run
  Vec<T>*d_, *e_;
  SweepLog<T> log_;
  Steps<T> steps_, left_steps_;  // the second for a matrix that a team works on
  Order<T> order_;
  int64_t bytes_;
};

// Bytes for svd_blocks of m x n matrices.
template <class T>
int64_t svd_blocks_workspace(int64_t m, int64_t n) {
  return SvdBlocks<T>(Carver(nullptr), m, n, nullptr).bytes();
}

// u {m, k}, s {k}, vt {k, n}, status of count <= blocks_at_once(k) matrices a {m, n}, k = min(m, n); u and vt may
// both be null.
// status: 0, or 1 not converged, 2 not finite, and then that matrix's outputs are NaN. team: who helps, or null.
template <class T>
void svd_blocks(T* u, T* s, T* vt, uint32_t* status, const T* a, int64_t count, int64_t m, int64_t n, char* workspace,
                Team* team) {
  SvdBlocks<T>(Carver(workspace), m, n, team).run(u, s, vt, status, a, count);
}

}  // namespace LC_ISA
}  // namespace lc
