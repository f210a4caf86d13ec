/* Runs of every function allocate nothing, lock nothing and make no system call, from the first one on: quiet MODEL,
 * under a shim that counts. Prints what it counted, then forbids system calls and runs on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <latentcore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kCounters = 5, kMostFunctions = 128, kBatch = 16, kMostOutputs = 4 };

typedef struct bound {
  lc_function* function;
  void* input;
  void* outputs[kMostOutputs];
} bound;

static void* room(const lc_port* port) {
  return calloc(kBatch * port->features, port->dtype == LC_FLOAT64 ? 8 : 4);
}

static int run_all(const bound* all, int count) {
  for (int i = 0; i < count; ++i)
    for (size_t rows = 0; rows <= kBatch; ++rows)
      if (lc_function_run(all[i].function, rows, all[i].input, all[i].outputs))
        return 1;
  return 0;
}

int main(int argc, char** argv) {
  static const char* const weights[] = {"float32", "float64", "float16", "int8", "int8_dynamic"};
  const long* counted = dlsym(RTLD_DEFAULT, "counted");
  static bound all[kMostFunctions];
  int count = 0;
  lc_model* model;
  if (argc != 2 || !counted || lc_model_open(argv[1], &model, NULL))
    return 2;
  for (size_t i = 0; i < lc_model_function_count(model); ++i)
    for (int w = 0; w < 5; ++w, ++count) {
      bound* b = &all[count];
      lc_options options = LC_OPTIONS_INIT;
      options.weights = weights[w];
      options.batch = kBatch;
      if (lc_function_bind(model, lc_model_function(model, i)->name, &options, &b->function, NULL))
        return 2;
      const lc_signature* signature = lc_function_signature(b->function);
      b->input = room(signature->input);
      for (size_t k = 0; k < signature->output_count; ++k) b->outputs[k] = room(signature->outputs[k]);
    }
  long before[kCounters];
  memcpy(before, counted, sizeof before);
  const int failed = run_all(all, count);
  long after[kCounters];
  memcpy(after, counted, sizeof after);
  char text[200];
  int length = snprintf(text, sizeof text, "%d functions, %s:", count, failed ? "failed" : "ran");
  for (int i = 0; i < kCounters; ++i)
    length += snprintf(text + length, sizeof text - length, " %ld", after[i] - before[i]);
  if (write(1, text, length) != length || prctl(PR_SET_SECCOMP, 1, 0, 0, 0))
    return 3;
  run_all(all, count);
  syscall(SYS_exit, write(1, " and on\n", 8) != 8);
  return 4;
}
