// Times single calls of a network from C++, in a process without Python: through latentcore.h, or through the C API of
// ONNX Runtime's library, which its Python package brings without the header: what is used of it is declared here.
//
// Usage: latency latentcore      MODEL FUNCTION WEIGHTS THREADS COUNT BATCH FEATURES OUTPUTS INPUTS
//        latency libonnxruntime* MODEL -        -       THREADS COUNT BATCH FEATURES OUTPUTS INPUTS
// INPUTS is a file of COUNT inputs, float32 (BATCH, FEATURES), of which each call takes the next. Prints the seconds
// from main to the first output (float64) and all outputs (float32). Then, for each line "CALLS REPEAT NANOSECONDS
// FLUSH" of the standard input: the seconds of a timer that times nothing (float64), their number (int64), and the
// seconds (float64) of up to CALLS timings of REPEAT calls each, ended after NANOSECONDS, with FLUSH bytes read through
// each core's caches before each. Errors go to the standard error, status 1.
#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "latentcore.h"

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Task {
  std::string engine, model, function, weights;
  int64_t threads, count, batch, features, width;
  std::vector<float> inputs, outputs;
  float* input(int64_t i) { return inputs.data() + i * batch * features; }
  float* output(int64_t i) { return outputs.data() + i * batch * width; }
};

using Call = std::function<void(int64_t)>;  // runs an input into its output

Call bind_latentcore(Task& task) {
  lc_error error;
  lc_model* model;
  lc_function* function;
  if (lc_model_open(task.model.c_str(), &model, &error))
    throw std::runtime_error(error.message);
  lc_options options = LC_OPTIONS_INIT;
  options.weights = task.weights.c_str();
  options.batch = static_cast<size_t>(task.batch);
  options.threads = static_cast<size_t>(task.threads);
  if (lc_function_bind(model, task.function.c_str(), &options, &function, &error))
    throw std::runtime_error(error.message);
  lc_model_free(model);
  return [&task, function](int64_t i) {
    void* outputs[] = {task.output(i)};
    if (const lc_status status = lc_function_run(function, static_cast<size_t>(task.batch), task.input(i), outputs))
      throw std::runtime_error(lc_status_text(status));
  };
}

// The functions of OrtApi, version 4 and later: a table that only grows at its end.
class Ort {
 public:
  explicit Ort(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
      throw std::runtime_error(dlerror());
    struct Base {
      void* const* (*get_api)(uint32_t);
      const char* (*version)();
    };
    const auto base = reinterpret_cast<const Base* (*)()>(dlsym(library, "OrtGetApiBase"));
    table_ = base ? base()->get_api(4) : nullptr;
    if (!table_)
      throw std::runtime_error("ONNX Runtime: no C API of version 4");
  }
  enum Slot {
    kGetErrorMessage = 2,
    kCreateEnv = 3,
    kCreateSession = 7,
    kCreateSessionOptions = 10,
    kSetIntraOpNumThreads = 24,
    kSetInterOpNumThreads = 25,
    kCreateTensorWithDataAsOrtValue = 49,
    kCreateCpuMemoryInfo = 69,
    kRunWithBinding = 133,
    kCreateIoBinding = 134,
    kBindInput = 136,
    kBindOutput = 137
  };
  template <class... Arguments>
  void operator()(Slot slot, Arguments... arguments) const {
    if (void* status = reinterpret_cast<void* (*)(Arguments...)>(table_[slot])(arguments...))
      throw std::runtime_error(reinterpret_cast<const char* (*)(void*)>(table_[kGetErrorMessage])(status));
  }

 private:
  void* const* table_;
};

Call bind_onnx_runtime(Task& task) {
  const Ort ort(task.engine.c_str());
  void *environment, *options, *session, *memory;
  constexpr int kWarnings = 2, kDeviceAllocator = 0, kDefaultMemory = 0, kFloat = 1;
  ort(Ort::kCreateEnv, kWarnings, "latency", &environment);
  ort(Ort::kCreateSessionOptions, &options);
  ort(Ort::kSetIntraOpNumThreads, options, static_cast<int>(task.threads));
  ort(Ort::kSetInterOpNumThreads, options, 1);
  ort(Ort::kCreateSession, environment, task.model.c_str(), options, &session);
  ort(Ort::kCreateCpuMemoryInfo, kDeviceAllocator, kDefaultMemory, &memory);
  std::vector<void*> bindings(static_cast<size_t>(task.count));
  for (int64_t i = 0; i < task.count; ++i) {
    void *x, *y, *&binding = bindings[static_cast<size_t>(i)];
    const auto tensor = [&](float* data, int64_t columns, void** made) {
      const int64_t shape[] = {task.batch, columns};
      const size_t bytes = static_cast<size_t>(task.batch * columns) * sizeof(float);
      ort(Ort::kCreateTensorWithDataAsOrtValue, memory, static_cast<void*>(data), bytes, &shape[0], size_t{2}, kFloat,
          made);
    };
    tensor(task.input(i), task.features, &x);
    tensor(task.output(i), task.width, &y);
    ort(Ort::kCreateIoBinding, session, &binding);
    ort(Ort::kBindInput, binding, "x", x);
    ort(Ort::kBindOutput, binding, "y", y);
  }
  return [ort, session, bindings](int64_t i) {
    ort(Ort::kRunWithBinding, session, static_cast<void*>(nullptr), bindings[static_cast<size_t>(i)]);
  };
}

class Caches {
 public:
  Caches() { sched_getaffinity(0, sizeof own_, &own_); }

  // Reads so many bytes on each core of this process.
  void flush(size_t bytes) {
    memory_.resize(bytes / sizeof(uint64_t), 1);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &own_))
        continue;
      if (CPU_COUNT(&own_) > 1)
        pin(cpu);
      uint64_t any = 0;
      for (const uint64_t word : memory_) any |= word;
      sink_ = any;
    }
    if (CPU_COUNT(&own_) > 1)
      sched_setaffinity(0, sizeof own_, &own_);
  }

 private:
  void pin(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  cpu_set_t own_;
  std::vector<uint64_t> memory_;
  volatile uint64_t sink_ = 0;
};

void write(const void* data, size_t bytes) {
  if (std::fwrite(data, 1, bytes, stdout) != bytes)
    throw std::runtime_error("cannot write");
}

int run(int argc, char** argv) {
  const auto begin = Clock::now();
  if (argc != 11)
    throw std::runtime_error("expected 10 arguments, see the source");
  Task task{argv[1],
            argv[2],
            argv[3],
            argv[4],
            std::atoll(argv[5]),
            std::atoll(argv[6]),
            std::atoll(argv[7]),
            std::atoll(argv[8]),
            std::atoll(argv[9]),
            {},
            {}};
  task.inputs.resize(static_cast<size_t>(task.count * task.batch * task.features));
  task.outputs.resize(static_cast<size_t>(task.count * task.batch * task.width));
  std::ifstream file(argv[10], std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(task.inputs.data()),
                 static_cast<std::streamsize>(task.inputs.size() * sizeof(float))))
    throw std::runtime_error("cannot read the inputs");
  const Call call = task.engine == "latentcore" ? bind_latentcore(task) : bind_onnx_runtime(task);
  call(0);
  const double first = since(begin);
  for (int64_t i = 1; i < task.count; ++i) call(i);
  write(&first, sizeof first);
  write(task.outputs.data(), task.outputs.size() * sizeof(float));
  std::fflush(stdout);

  Caches caches;
  int64_t next = 0;
  std::vector<double> times;
  const auto sample = [&](int64_t calls, int64_t repeat, double seconds, size_t flush, const auto& body) {
    times.clear();
    const auto start = Clock::now();
    for (int64_t n = 0; n < calls; ++n) {
      if (flush)
        caches.flush(flush);
      const auto from = Clock::now();
      for (int64_t k = 0; k < repeat; ++k) {
        body(next);
        if (++next == task.count)
          next = 0;
      }
      const auto to = Clock::now();
      times.push_back(std::chrono::duration<double>(to - from).count());
      if (std::chrono::duration<double>(to - start).count() > seconds)
        break;
    }
  };
  const auto nothing = [](int64_t i) { asm volatile("" : : "r"(i) : "memory"); };
  int64_t calls, repeat;
  double nanoseconds;
  size_t flush;
  while (std::cin >> calls >> repeat >> nanoseconds >> flush) {
    times.reserve(static_cast<size_t>(std::max<int64_t>(calls, 1001)));
    sample(1001, repeat, 1.0, 0, nothing);
    std::nth_element(times.begin(), times.begin() + 500, times.end());
    const double timer = times[500];
    sample(calls, repeat, nanoseconds * 1e-9, flush, call);
    const auto count = static_cast<int64_t>(times.size());
    write(&timer, sizeof timer);
    write(&count, sizeof count);
    write(times.data(), times.size() * sizeof(double));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
