/* Every wrong argument and every broken file is a status and a message: errors MODEL FUNCTION, a function of one
 * output. Then two clones run in two threads, and one function in both. Prints what went wrong; ends with the number of
 * it. */
#define _POSIX_C_SOURCE 200809L
#include <latentcore.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kCalls = 3000, kBatch = 512 };
static int wrong;

static void check(int line, int right, const char* what) {
  if (!right) {
    printf("line %d: %s\n", line, what);
    ++wrong;
  }
}
#define CHECK(condition) check(__LINE__, (condition) != 0, #condition)

/* The status that is expected, with a message that says so, or none at all. */
static void check_error(int line, lc_status status, lc_status want, const lc_error* error, const char* says) {
  const int told = error->status == status && memchr(error->message, '\0', sizeof error->message) &&
                   (status ? strstr(error->message, says) != NULL : error->message[0] == '\0');
  if (status != want || !told) {
    printf("line %d: got %d (%d) %.256s, expected %d %s\n", line, status, error->status, error->message, want, says);
    ++wrong;
  }
}
#define FAILS(call, want, says)                        \
  do {                                                 \
    lc_error error;                                    \
    memset(&error, 'x', sizeof error);                 \
    model = (lc_model*)&wrong;                         \
    function = (lc_function*)&wrong;                   \
    const lc_status status = call;                     \
    check_error(__LINE__, status, want, &error, says); \
  } while (0)

static char* read_all(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  char* data = malloc(1 << 24);
  *size = file && data ? fread(data, 1, 1 << 24, file) : 0;
  if (file)
    fclose(file);
  return data;
}

typedef struct job {
  lc_function* function;
  size_t rows;
  const void* input;
  const void* want;
  size_t bytes;
  int* busy; /* calls that were refused; the first ends the job */
  int differing;
} job;

static void* repeat(void* given) {
  job* j = given;
  void* made = malloc(j->bytes);
  for (int i = 0; i < kCalls && !__atomic_load_n(j->busy, __ATOMIC_RELAXED); ++i) {
    memset(made, 0xff, j->bytes);
    const lc_status status = lc_function_run(j->function, j->rows, j->input, &made);
    __atomic_fetch_add(j->busy, status == LC_ERROR_BUSY, __ATOMIC_RELAXED);
    j->differing += status != LC_ERROR_BUSY && (status != LC_OK || memcmp(made, j->want, j->bytes));
  }
  free(made);
  return NULL;
}

static void run_both(job* jobs) {
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) CHECK(!pthread_create(&threads[i], NULL, repeat, &jobs[i]));
  for (int i = 0; i < 2; ++i) CHECK(!pthread_join(threads[i], NULL));
  CHECK(jobs[0].differing == 0 && jobs[1].differing == 0);
}

int main(int argc, char** argv) {
  lc_model *model, *open;
  lc_function *function, *bound, *clone, *twin;
  size_t size;
  if (argc != 3)
    return 125;
  const char *path = argv[1], *name = argv[2];

  CHECK(lc_version() == LC_VERSION);
  for (int i = -1; i < 100; ++i) CHECK(lc_status_text((lc_status)i)[0] != '\0');

  /* files */
  FAILS(lc_model_open("/nowhere/model", &model, &error), LC_ERROR_FILE, "/nowhere/model: No such file");
  CHECK(model == NULL);
  FAILS(lc_model_open("/", &model, &error), LC_ERROR_FILE, "/: expected a regular file");
  FAILS(lc_model_open("/dev/zero", &model, &error), LC_ERROR_FILE, "/dev/zero: expected a regular file");
  FAILS(lc_model_open(argv[0], &model, &error), LC_ERROR_MODEL, ": not a safetensors file");
  FAILS(lc_model_open(NULL, &model, &error), LC_ERROR_ARGUMENT, "path: expected the name of a file, got NULL");
  FAILS(lc_model_open(path, NULL, &error), LC_ERROR_ARGUMENT, "model: expected");
  CHECK(lc_model_open(path, NULL, NULL) == LC_ERROR_ARGUMENT);
  char* endless = malloc(100000);
  memset(endless, 0xc3, 99999); /* nothing but beginnings of characters */
  endless[99999] = '\0';
  FAILS(lc_model_open(endless, &model, &error), LC_ERROR_FILE, "File name too long");
  free(endless);

  /* bytes */
  char* data = read_all(path, &size);
  CHECK(size > 0);
  for (size_t cut = 0; cut < size; cut += 1 + size / 40)
    FAILS(lc_model_open_memory(data, cut, &model, &error), LC_ERROR_MODEL, "");
  CHECK(model == NULL);
  for (size_t at = 0; at < size; at += 1 + size / 40) {
    data[at] ^= 0x10;
    FAILS(lc_model_open_memory(data, size, &model, &error), LC_ERROR_MODEL, "");
    data[at] ^= 0x10;
  }
  FAILS(lc_model_open_memory(NULL, size, &model, &error), LC_ERROR_ARGUMENT, "data: expected the bytes of a file");
  FAILS(lc_model_open_memory(data, size, NULL, &error), LC_ERROR_ARGUMENT, "model: expected");
  FAILS(lc_model_open_memory(data, SIZE_MAX, &model, &error), LC_ERROR_MEMORY, "memory");
  char* moved = malloc(size + 1);
  memcpy(moved + 1, data, size);
  FAILS(lc_model_open_memory(moved + 1, size, &model, &error), LC_OK, "");
  free(moved);
  lc_model_free(model);
  free(data);
  FAILS(lc_model_open(path, &model, &error), LC_OK, "");
  open = model;

  /* descriptions */
  CHECK(lc_model_function_count(NULL) == 0 && lc_model_function(NULL, 0) == NULL);
  CHECK(lc_model_function_count(open) > 0 && lc_model_function(open, lc_model_function_count(open)) == NULL);
  int listed = 0;
  for (size_t i = 0; i < lc_model_function_count(open); ++i) listed += !strcmp(lc_model_function(open, i)->name, name);
  CHECK(listed == 1);

  /* binding */
  lc_options options = LC_OPTIONS_INIT;
  FAILS(lc_function_bind(NULL, name, NULL, &function, &error), LC_ERROR_ARGUMENT, "model: expected an open model");
  FAILS(lc_function_bind(open, NULL, NULL, &function, &error), LC_ERROR_ARGUMENT, "name: expected");
  FAILS(lc_function_bind(open, name, NULL, NULL, &error), LC_ERROR_ARGUMENT, "function: expected");
  FAILS(lc_function_bind(open, "dream", NULL, &function, &error), LC_ERROR_ARGUMENT, "name: expected one of '");
  FAILS(lc_function_bind(open, "", NULL, &function, &error), LC_ERROR_ARGUMENT, "got ''");
  CHECK(function == NULL);
#define WITH(member, value, want, says)                                           \
  do {                                                                            \
    options = (lc_options)LC_OPTIONS_INIT;                                        \
    options.member = value;                                                       \
    FAILS(lc_function_bind(open, name, &options, &function, &error), want, says); \
  } while (0)
  WITH(size, 0, LC_ERROR_ARGUMENT, "options: expected size to be sizeof(lc_options), got 0");
  WITH(size, SIZE_MAX, LC_ERROR_ARGUMENT, "options: expected size");
  WITH(weights, "float12", LC_ERROR_ARGUMENT, "weights: expected");
  WITH(weights, "", LC_ERROR_ARGUMENT, "weights: expected");
  WITH(instruction_set, "mmx", LC_ERROR_ARGUMENT, "instruction_set: 'mmx' is not available");
  WITH(batch, SIZE_MAX, LC_ERROR_ARGUMENT, "batch: expected at most 2147483647, got");
  WITH(threads, 257, LC_ERROR_ARGUMENT, "threads: expected at most 256, got 257");
  struct {
    lc_options options;
    char later[64];
  } larger = {LC_OPTIONS_INIT, {0}};
  larger.options.size = sizeof larger;
  FAILS(lc_function_bind(open, name, &larger.options, &function, &error), LC_OK, "");
  lc_function_free(function);
  larger.later[63] = 1;
  FAILS(lc_function_bind(open, name, &larger.options, &function, &error), LC_ERROR_ARGUMENT, "does not have");
  larger.options.size = sizeof(size_t); /* a program that knows no option but the size */
  larger.options.batch = SIZE_MAX;
  FAILS(lc_function_bind(open, name, &larger.options, &function, &error), LC_OK, "");
  lc_function_free(function);

  /* runs */
  options = (lc_options)LC_OPTIONS_INIT;
  options.batch = kBatch;
  FAILS(lc_function_bind(open, name, &options, &function, &error), LC_OK, "");
  bound = function;
  lc_model_free(open);
  const lc_signature* signature = lc_function_signature(bound);
  CHECK(signature && !strcmp(signature->name, name) && signature->output_count == 1);
  CHECK(lc_function_signature(NULL) == NULL && lc_function_instruction_set(NULL) == NULL);
  CHECK(strlen(lc_function_instruction_set(bound)) > 0);
  const size_t given = signature->input->features * (signature->input->dtype == LC_FLOAT64 ? 8 : 4);
  const size_t bytes = signature->outputs[0]->features * (signature->outputs[0]->dtype == LC_FLOAT64 ? 8 : 4);
  void *input = malloc(kBatch * given), *made = malloc(kBatch * bytes), *none = NULL;
  memset(input, 0x3e, kBatch * given); /* small numbers of either dtype */
  memset(made, 0xff, kBatch * bytes);
  CHECK(lc_function_run(NULL, 1, input, &made) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, 1, NULL, &made) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, 1, input, NULL) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, 1, input, &none) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, kBatch + 1, input, &made) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, SIZE_MAX, input, &made) == LC_ERROR_ARGUMENT);
  CHECK(lc_function_run(bound, 0, input, &made) == LC_OK);
  for (size_t i = 0; i < kBatch * bytes; ++i) CHECK(((unsigned char*)made)[i] == 0xff);
  CHECK(lc_function_run(bound, kBatch, input, &made) == LC_OK);

  /* clones */
  FAILS(lc_function_clone(NULL, &function, &error), LC_ERROR_ARGUMENT, "function: expected a function");
  FAILS(lc_function_clone(bound, NULL, &error), LC_ERROR_ARGUMENT, "clone: expected");
  FAILS(lc_function_clone(bound, &function, &error), LC_OK, "");
  clone = function;
  FAILS(lc_function_clone(clone, &function, &error), LC_OK, "");
  twin = function;
  lc_function_free(bound); /* the clones keep the weights */
  int busy = 0;
  job apart[2] = {{clone, 3, input, made, 3 * bytes, &busy, 0}, {twin, 2, input, made, 2 * bytes, &busy, 0}};
  run_both(apart);
  CHECK(busy == 0);
  lc_function_free(twin);
  const job all = {clone, kBatch, input, made, kBatch * bytes, &busy, 0};
  job shared[2] = {all, all};
  run_both(shared);
  CHECK(busy > 0);
  lc_function_free(clone);
  lc_function_free(NULL);
  lc_model_free(NULL);
  free(made);
  free(input);
  return wrong > 100 ? 100 : wrong;
}
