#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lc {
namespace {

inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int kSpins = 4000;  // some tens of microseconds: from one call of a plan, or one short run, to the next
constexpr int kMaxMembers = 256;

// A ticket is (generation << 16) | closed << 15 | workers inside. A worker enters a job by adding one to an open ticket
// of a generation that it has not seen; the leader closes it when no item is left and then waits only for those inside,
// so a worker that wakes late costs nothing.
constexpr uint64_t kClosed = 1u << 15, kInside = kClosed - 1;

// The items of one member of a team. A member takes its own first, the same ones whenever a plan runs again, so that
// their weights are still in its cache; then those that others have not come to.
struct alignas(64) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

struct Pool {
  std::mutex lent;  // held by the run that leads
  std::mutex mutex;
  std::condition_variable wake;
  int sleepers = 0;  // under mutex
  int workers = 0;   // under lent
  alignas(64) std::atomic<uint64_t> ticket{kClosed};
  Share share[kMaxMembers];
  int members = 0;
  Team::Body body = nullptr;
  void* closure = nullptr;
};

alignas(64) char storage[sizeof(Pool)];
Pool& pool() {
  static Pool* const made = [] {
    Pool* p = new (storage) Pool;
    // The child of a fork has none of the threads: begin anew, without running destructors on a held mutex.
    pthread_atfork(nullptr, nullptr, [] { new (storage) Pool; });
    return p;
  }();
  return *made;
}

void take_items(Pool& p, int thread) {
  for (int k = 0; k < p.members; ++k) {
    Share& share = p.share[(thread + k) % p.members];
    for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) p.body(p.closure, i, thread);
  }
}

void work(Pool& p, int index) {
  const FlushDenormals flush;
  uint64_t seen = 0;
  int spins = 0;
  for (;;) {
    uint64_t t = p.ticket.load(std::memory_order_acquire);
    if (!(t & kClosed) && t >> 16 != seen) {
      seen = t >> 16;
      while (!(t & kClosed) && t >> 16 == seen) {
        if (!p.ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel))
          continue;
        if (index < p.members)
          take_items(p, index);
        p.ticket.fetch_sub(1, std::memory_order_acq_rel);
        break;
      }
      spins = 0;
    } else if (++spins < kSpins) {
      relax();
    } else {
      // Whoever is woken stays awake for a while, also where the job was over before it came: the next one follows
      // soon.
      std::unique_lock<std::mutex> lock(p.mutex);
      const uint64_t last = p.ticket.load(std::memory_order_acquire) >> 16;
      ++p.sleepers;
      p.wake.wait(lock, [&] {
        const uint64_t now = p.ticket.load(std::memory_order_acquire);
        return now >> 16 != last || (!(now & kClosed) && now >> 16 != seen);
      });
      --p.sleepers;
      spins = 0;
    }
  }
}

}  // namespace

Team::Team(int threads) : threads_(threads) {
  if (threads <= 1)
    return;
  Pool& p = pool();
  if (!p.lent.try_lock())
    return;
  leader_ = true;
  for (; p.workers < threads - 1 && p.workers < kMaxMembers - 1; ++p.workers) {
    try {
      std::thread([&p, index = p.workers + 1] { work(p, index); }).detach();
    } catch (const std::exception&) {
      break;  // the system gives no more threads; those that run do all the work
    }
  }
  p.members = threads < kMaxMembers ? threads : kMaxMembers;
}

Team::~Team() {
  if (leader_)
    pool().lent.unlock();
}

void Team::begin(int64_t items, Body body, void* closure) {
  started_ = leader_ && items > 1;
  if (!started_) {
    for (int64_t i = 0; i < items; ++i) body(closure, i, 0);
    return;
  }
  Pool& p = pool();
  p.body = body;
  p.closure = closure;
  for (int64_t k = 0; k < p.members; ++k) {
    p.share[k].next.store(items * k / p.members, std::memory_order_relaxed);
    p.share[k].end = items * (k + 1) / p.members;
  }
  const uint64_t generation = (p.ticket.load(std::memory_order_relaxed) >> 16) + 1;
  // Under the mutex a worker is either asleep and counted, or has yet to look at the new ticket.
  const std::lock_guard<std::mutex> lock(p.mutex);
  p.ticket.store(generation << 16, std::memory_order_release);
  if (p.sleepers > 0)
    p.wake.notify_all();
}

void Team::join() {
  if (!started_)
    return;
  started_ = false;
  Pool& p = pool();
  take_items(p, 0);
  p.ticket.fetch_or(kClosed, std::memory_order_acq_rel);
  for (int spins = 0; p.ticket.load(std::memory_order_acquire) & kInside; ++spins) {
    if (spins < kSpins)
      relax();
    else
      sched_yield();
  }
}

FlushDenormals::FlushDenormals() : saved_(0) {
#if defined(__x86_64__)
  saved_ = _mm_getcsr();
  _mm_setcsr(static_cast<uint32_t>(saved_) | 0x8040u);  // FTZ and DAZ
#elif defined(__aarch64__)
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" ::"r"(saved_ | (1u << 24)));
#endif
}

FlushDenormals::~FlushDenormals() {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<uint32_t>(saved_));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" ::"r"(saved_));
#endif
}

}  // namespace lc
