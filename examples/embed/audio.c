/* A decoder in an audio callback: audio MODEL [CALLS]. Each block of 64 frames at 48 kHz is made by one call, which
 * must return within 1.33 ms. Prints how long the calls took; ends with 1 if any of them, a million by default, was
 * late. */
#define _POSIX_C_SOURCE 200809L
#include <latentcore.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { kFrames = 64, kRate = 48000, kMostLatent = 1024, kMostFeatures = 1 << 16, kBins = 40 };

typedef struct synth {
  lc_function* decode;
  size_t latent, features;
  float phase;
  float z[kMostLatent], x[kMostFeatures];
} synth;

/* What an audio host calls: fills a block with a wave of the decoder's, which moves with its code. */
static int callback(synth* s, float* block) {
  s->phase += 1e-3f;
  for (size_t i = 0; i < s->latent; ++i) s->z[i] = sinf(s->phase * (float)(i + 1));
  void* outputs[] = {s->x};
  if (lc_function_run(s->decode, 1, s->z, outputs))
    return 1;
  for (size_t i = 0; i < kFrames; ++i) block[i] = s->x[i % s->features];
  return 0;
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int main(int argc, char** argv) {
  static synth s;
  static float block[kFrames];
  static long counted[kBins];
  const int64_t deadline = INT64_C(1000000000) * kFrames / kRate;
  const long calls = argc > 2 ? atol(argv[2]) : 1000000;
  lc_error error;
  lc_model* model;
  lc_options options = LC_OPTIONS_INIT;
  options.weights = "float32";
  if (argc < 2 || calls < 1) {
    fprintf(stderr, "usage: %s MODEL [CALLS]\n", argv[0]);
    return 2;
  }
  if (lc_model_open(argv[1], &model, &error) || lc_function_bind(model, "decode", &options, &s.decode, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 2;
  }
  lc_model_free(model);
  s.latent = lc_function_signature(s.decode)->input->features;
  s.features = lc_function_signature(s.decode)->outputs[0]->features;
  if (s.latent > kMostLatent || s.features > kMostFeatures) {
    fprintf(stderr, "the model is larger than a block can wait for\n");
    return 2;
  }

  /* As an audio thread would; one would also ask for a real-time priority, which a loop without pauses loses again. */
  const int locked = !mlockall(MCL_CURRENT | MCL_FUTURE);

  int64_t worst = 0;
  long late = 0;
  for (long i = 0; i < calls; ++i) {
    const int64_t begin = now();
    if (callback(&s, block))
      return 2;
    const int64_t took = now() - begin;
    int bin = 0;
    while (bin < kBins - 1 && took >> (bin + 1)) ++bin;
    ++counted[bin];
    if (took > worst)
      worst = took;
    late += took > deadline;
  }

  printf("%ld calls, memory %s\n", calls, locked ? "locked" : "not locked");
  for (int bin = 0; bin < kBins; ++bin)
    if (counted[bin])
      printf("from %8.3f us: %10ld\n", (double)(INT64_C(1) << bin) / 1e3, counted[bin]);
  printf("worst %.3f us of %.3f us; late: %ld\n", (double)worst / 1e3, (double)deadline / 1e3, late);
  lc_function_free(s.decode);
  return late > 0;
}
