// Thin SVD of matrices one at a time, vectors along rows: a tall matrix's QR factors, bidiagonal form (condense.h), the
// reflectors multiplied out in blocks (householder.h), and rotations (rotations.h) from an implicit QR iteration that
// runs kLanes matrices side by side (implicit_qr.h). A wide matrix is factored as its transpose.
#pragma once

#include "condense.h"
#include "panel_io.h"
#include "rotations.h"

namespace lc {
namespace LC_ISA {

template <class T>
class SvdBlocks {
 public:
  SvdBlocks(Carver carver, int64_t rows, int64_t columns)
      : m_(rows < columns ? columns : rows), n_(rows < columns ? rows : columns), wide_(rows < columns) {
    const int64_t n = n_, row = round_up(n, kPanel<T>) + kPanel<T>;
    core_ = take_panels<T>(carver, n, n);
    product_ = take_panels<T>(carver, n, n);
    space_ = take_space<T>(carver, m_, n);
    form_ = {carver.take<T>(n),
             carver.take<T>(n),
             carver.take<T>(n * row),
             carver.take<T>(n * row),
             carver.take<T>(n),
             carver.take<T>(n),
             row,
             take_vector<T>(carver, n),
             take_vector<T>(carver, n),
             take_vector<T>(carver, n)};
    if (tall()) {
      tall_ = take_panels<T>(carver, m_, n);
      tall_row_ = round_up(m_, kPanel<T>) + kPanel<T>;
      tall_rows_ = carver.take<T>(n * tall_row_);
    }
    for (Lane& lane : lane_) {
      lane.left = take_panels<T>(carver, n, n);
      lane.right = take_panels<T>(carver, n, n);
      if (tall()) {
        lane.gram = take_panels<T>(carver, n, n);
        lane.tau = carver.take<T>(n);
      }
    }
    d_ = carver.take<Vec<T>>(n);
    e_ = carver.take<Vec<T>>(n);
    log_.right = carver.take<Rotation<T>>(kLogSweeps * n);
    log_.left = carver.take<Rotation<T>>(kLogSweeps * n);
    log_.capacity = kLogSweeps;
    steps_ = take_steps<T>(carver, n);
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
    clear(space_, n);
    for (int64_t i = 0; i < n; ++i) d_[i] = e_[i] = Vec<T>{};
    for (int64_t i = 0; i < count; ++i) reduce(i, vectors ? left_of(i) : nullptr, a + i * m * n);

    Mask<T> failed[1];
    if (vectors)
      bidiagonal_qr<T, 1, true>(n, d_, e_, &log_, failed, [&](const SweepLog<T>& log) {
        prepare(steps_, log, log.right, n, count);
        for (int64_t i = 0; i < count; ++i) rotate(lane_[i].right, steps_, log.sweeps, i, n);
        prepare(steps_, log, log.left, n, count);
        for (int64_t i = 0; i < count; ++i) rotate(lane_[i].left, steps_, log.sweeps, i, n);
      });
    else
      bidiagonal_qr<T, 1, false>(n, d_, e_, nullptr, failed, [](const SweepLog<T>&) {});

    for (int64_t i = 0; i < count; ++i) {
      status[i] = lane_[i].bad ? 2 : failed[0][i] ? 1 : 0;
      if (status[i]) {
        fill_nan(s + i * n, n);
        if (vectors) {
          fill_nan(left_of(i), m * n);
          fill_nan(right_of(i), n * n);
        }
        continue;
      }
      for (int64_t k = 0; k < n; ++k) form_.d[k] = d_[k][i];
      sort_by<T, true>(order_.order, form_.d, n);
      for (int64_t r = 0; r < n; ++r) {
        const T d = form_.d[order_.order[r]];
        s[i * n + r] = (d < 0 ? -d : d) * lane_[i].up + T(0);
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

  // The bidiagonal form of a matrix into its lane of d, e; its reflectors into the lane's vectors, the reflectors of a
  // tall one's Q, {m, n}, into `parked`. All of the vectors' part is left out if `parked` is null.
  void reduce(int64_t i, T* parked, const T* a) {
    const int64_t m = m_, n = n_;
    Lane& lane = lane_[i];
    const auto scale = lanes::scale_of<T>(Mask<T>{} + largest_bits<T>(a, m * n, 0));
    lane.bad = scale.bad[0] != 0;
    lane.up = scale.up[0];
    const Panels<T>& x = tall() ? tall_ : core_;
    clear(x, n);
    if (!lane.bad) {
      if (wide_)
        copy_in_transposed(x, a, m, m, n, scale.down[0]);
      else
        copy_in(x, a, n, m, n, scale.down[0]);
    }
    if (tall()) {
      factor(Factors<T>{x, core_, parked ? lane.gram : space_.gram, tall_rows_, tall_row_, lane.tau}, m, n,
             parked != nullptr, space_);
      if (parked)
        copy_out(parked, n, x, m, n);
    }
    bidiagonalize(core_, n, form_);
    for (int64_t k = 0; k < n; ++k) {
      d_[k][i] = form_.d[k];
      e_[k][i] = k + 1 < n ? form_.e[k] : T(0);
    }
    if (!parked)
      return;
    accumulate(product_, form_.u, form_.row, form_.tau_u, n);
    transpose_square(lane.left, product_, n);
    accumulate(product_, form_.v, form_.row, form_.tau_v, n);
    transpose_square(lane.right, product_, n);
  }

  // The vectors in their order, with their signs: the largest entry of each right vector of A is positive. That is the
  // right one of what was factored, or, if that is A', the left one.
  void finish(const Lane& lane, T* left, T* right) {
    const int64_t m = m_, n = n_;
    const auto times_signs_of_values = [&] {
      for (int64_t r = 0; r < n; ++r)
        if (form_.d[order_.order[r]] < 0)
          order_.sign[r] = -order_.sign[r];
    };
    if (wide_) {
      for (int64_t r = 0; r < n; ++r) order_.sign[r] = 1;
      write_columns(product_.at, kPanel<T>, product_.stride, lane.left, n, order_);
      expand(tall_, product_, left, m, n, lane.gram, lane.tau, tall_rows_, tall_row_, core_, space_.zeros);
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
    expand(tall_, product_, left, m, n, lane.gram, lane.tau, tall_rows_, tall_row_, core_, space_.zeros);
    copy_out(left, n, tall_, m, n);
  }

  int64_t m_, n_;  // of what is factored: m >= n
  bool wide_;
  Panels<T> core_, product_, tall_ = {};
  Space<T> space_;
  Bidiagonal<T> form_;
  T* tall_rows_ = nullptr;
  int64_t tall_row_ = 0;
  Lane lane_[kLanes<T>];
  Vec<T>*d_, *e_;
  SweepLog<T> log_;
  Steps<T> steps_;
  Order<T> order_;
  int64_t bytes_;
};

// Bytes for svd_blocks of m x n matrices.
template <class T>
int64_t svd_blocks_workspace(int64_t m, int64_t n) {
  return SvdBlocks<T>(Carver(nullptr), m, n).bytes();
}

// u {m, k}, s {k}, vt {k, n}, status of count <= kLanes matrices a {m, n}, k = min(m, n); u and vt may both be null.
// status: 0, or 1 not converged, 2 not finite, and then that matrix's outputs are NaN.
template <class T>
void svd_blocks(T* u, T* s, T* vt, uint32_t* status, const T* a, int64_t count, int64_t m, int64_t n, char* workspace) {
  SvdBlocks<T>(Carver(workspace), m, n).run(u, s, vt, status, a, count);
}

}  // namespace LC_ISA
}  // namespace lc
