// What the machine can do at most: float32 multiply-adds held in registers, and bytes read from each level of memory.
// Usage: ceilings THREADS; prints one JSON object. Build: c++ -O3 -march=native -pthread ceilings.cpp

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Floats __attribute__((vector_size(kVectorBytes)));
typedef long long Integers __attribute__((vector_size(kVectorBytes)));

namespace {

constexpr int kChains = 12;  // hides the latency of two units of four cycles; with two constants it fills 16 registers
constexpr int kStreams = 8;
constexpr double kSeconds = 0.03;
constexpr int kRepeats = 5;

std::atomic<float> float_sink;
std::atomic<long long> integer_sink;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The highest total of body(thread) units a second over a few repeats; every thread works for kSeconds.
template <class Body>
double best_rate(int threads, const Body& body) {
  double best = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    std::atomic<int> waiting{threads};
    std::vector<double> rates(threads);
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        body(t);
        --waiting;
        while (waiting.load() > 0) std::this_thread::yield();
        double units = 0, begin = now(), end = begin;
        for (; end - begin < kSeconds; end = now()) units += body(t);
        rates[t] = units / (end - begin);
      });
    }
    double total = 0;
    for (int t = 0; t < threads; ++t) {
      team[t].join();
      total += rates[t];
    }
    best = std::max(best, total);
  }
  return best;
}

double multiply_adds(int) {
  constexpr long kTurns = 20000;
  Floats chains[kChains], factor = Floats{} + 0.999f, step = Floats{} + 0.001f;
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) chains[c] = Floats{} + static_cast<float>(c);
  for (long turn = 0; turn < kTurns; ++turn) {
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = chains[c] * factor + step;
  }
  Floats sum{};
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sum += chains[c];
  float_sink.store(sum[0]);
  return 2.0 * kTurns * kChains * (kVectorBytes / sizeof(float));
}

double read_all(const Integers* data, size_t count) {
  Integers any[kStreams] = {};
  for (size_t i = 0; i < count; i += kStreams) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) any[s] |= data[i + s];
  }
  Integers all{};
  for (int s = 0; s < kStreams; ++s) all |= any[s];
  integer_sink.store(all[0]);
  return static_cast<double>(count) * kVectorBytes;
}

double read_rate(int threads, size_t bytes_each) {
  constexpr size_t kPage = size_t{2} << 20, kTurn = kStreams * kVectorBytes;
  const size_t bytes = bytes_each / kTurn * kTurn, reserved = (bytes + kPage - 1) / kPage * kPage;
  std::vector<Integers*> buffers;
  for (int t = 0; t < threads; ++t) {
    void* memory = std::aligned_alloc(kPage, reserved);
    if (memory == nullptr)
      std::abort();
    madvise(memory, reserved, MADV_HUGEPAGE);
    std::memset(memory, 1, reserved);
    buffers.push_back(static_cast<Integers*>(memory));
  }
  const size_t passes = std::max<size_t>(1, (size_t{1} << 20) / bytes);
  const double rate = best_rate(threads, [&](int t) {
    double units = 0;
    for (size_t pass = 0; pass < passes; ++pass) units += read_all(buffers[t], bytes / kVectorBytes);
    return units;
  });
  for (Integers* buffer : buffers) std::free(buffer);
  return rate;
}

size_t cache_size(int name, size_t otherwise) {
  const long size = sysconf(name);
  return size > 0 ? static_cast<size_t>(size) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 1;
  const size_t l1 = cache_size(_SC_LEVEL1_DCACHE_SIZE, 32 << 10);
  const size_t l2 = cache_size(_SC_LEVEL2_CACHE_SIZE, 512 << 10);
  const size_t l3 = cache_size(_SC_LEVEL3_CACHE_SIZE, 8 << 20);
  struct Level {
    const char* name;
    size_t capacity, buffer;  // what all threads hold together; what each reads
  };
  const Level levels[] = {
      {"L1", l1 * threads, l1 / 2},
      {"L2", l2 * threads, l2 / 2},
      {"L3", l3, std::min(4 * l2, l3 / 2 / threads)},
      {"DRAM", size_t{1} << 40, std::min<size_t>(std::max<size_t>(4 * l3, 128 << 20), 512 << 20) / threads},
  };
  std::printf("{\"threads\": %d, \"vector_bytes\": %d, \"fma_gflops\": %.1f, \"levels\": [", threads, kVectorBytes,
              best_rate(threads, multiply_adds) * 1e-9);
  for (const Level& level : levels)
    std::printf("%s{\"name\": \"%s\", \"capacity\": %zu, \"buffer\": %zu, \"gbps\": %.1f}",
                &level == levels ? "" : ", ", level.name, level.capacity, level.buffer,
                read_rate(threads, level.buffer) * 1e-9);
  std::printf("]}\n");
  return 0;
}
