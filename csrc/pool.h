// The engine's threads: started on first need, lent to one run at a time, asleep some tens of microseconds after it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "compiler.h"

namespace lc {

// The threads that one run may use. A run that finds the pool lent out works alone: results never depend on it.
class Team {
 public:
  using Body = void (*)(void* closure, int64_t item, int thread);

  explicit Team(int threads);  // 1 <= threads; takes no lock and starts nothing when threads == 1
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // body(item, thread) for every item in [0, items), each once, in any order; returns when all are done.
  template <class F>
  void each(int64_t items, F&& body) {
    if (items == 1 || !leader_) {
      for (int64_t i = 0; i < items; ++i) body(i, 0);
    } else if (items > 1) {
      using Closure = std::remove_reference_t<F>;
      dispatch(items, [](void* f, int64_t item, int thread) { (*static_cast<Closure*>(f))(item, thread); }, &body);
    }
  }
  // The same, without waiting: the other threads do what they can until join(), which does the rest and returns when
  // all is done. body must live until then; only one start() at a time, and no each() before its join().
  template <class F>
  void start(int64_t items, F* body) {
    begin(items, [](void* f, int64_t item, int thread) { (*static_cast<F*>(f))(item, thread); }, body);
  }
  void join();
  // The same as each(), on the calling thread alone when the whole takes less than a hand-over would.
  template <class F>
  void each_if(bool worth_it, int64_t items, F&& body) {
    if (worth_it)
      each(items, body);
    else
      for (int64_t i = 0; i < items; ++i) body(i, 0);
  }

  LC_INLINE int threads() const { return threads_; }

 private:
  void begin(int64_t items, Body body, void* closure);
  void dispatch(int64_t items, Body body, void* closure) {
    begin(items, body, closure);
    join();
  }
  int threads_;
  bool leader_ = false, started_ = false;
};

// Denormals are zero inside a run; the caller's floating-point control word comes back as it was.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();

 private:
  uint64_t saved_;
};

}  // namespace lc
