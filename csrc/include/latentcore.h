/* latentcore: runs the functions of a saved model (encode, decode, transform, ...) where a call must return in
 * microseconds, every time. Plain C99; also C++. Link latentcore::latentcore or latentcore::static.
 *
 *   lc_error error;
 *   lc_model* model;
 *   lc_function* decode;
 *   if (lc_model_open("vae.safetensors", &model, &error) || lc_function_bind(model, "decode", NULL, &decode, &error))
 *     return fprintf(stderr, "%s\n", error.message), 1;
 *   lc_model_free(model); // a function needs its model no longer
 *   float z[20] = {0}, x[784];
 *   void* outputs[] = {x};
 *   lc_function_run(decode, 1, z, outputs);
 *   lc_function_free(decode);
 *
 * Errors. What can fail returns a status: LC_OK, which is 0, or what went wrong; with an lc_error (it may be NULL)
 * comes a sentence that names the argument, what was expected and what came. What was to be made is then NULL. Nothing
 * is thrown, nothing printed, and no input, files included, crashes the process.
 *
 * Ownership. What lc_model_open*, lc_function_bind and lc_function_clone make belongs to the caller, who frees it;
 * freeing NULL does nothing. Names and signatures belong to the model or function that they came from. Arguments are
 * read during the call and not kept.
 *
 * Threads. A model never changes: any threads may use it at once. A function runs in one thread at a time, any thread;
 * for more threads make clones, which share the weights. Freeing an object must be the last use of it.
 *
 * Arrays are C-contiguous (rows, features), aligned to their dtype, and the caller's. They must not overlap.
 */
#ifndef LATENTCORE_H
#define LATENTCORE_H

#include <stddef.h>

#define LC_VERSION_MAJOR 0
#define LC_VERSION_MINOR 1
#define LC_VERSION_PATCH 0
#define LC_VERSION (LC_VERSION_MAJOR * 10000 + LC_VERSION_MINOR * 100 + LC_VERSION_PATCH)

#if defined(__GNUC__)
#define LC_API __attribute__((visibility("default")))
#else
#define LC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* LC_VERSION of the library that runs, which may be newer than this header. */
LC_API int lc_version(void);

/* ---- errors ------------------------------------------------------------------------------------------------------ */

typedef enum lc_status {
  LC_OK = 0,
  LC_ERROR_ARGUMENT = 1, /* an argument is wrong: NULL, an unknown function or option, more rows than the batch */
  LC_ERROR_FILE = 2,     /* the file cannot be read */
  LC_ERROR_MODEL = 3,    /* the bytes are no sound model file, or do not reproduce the example stored with them */
  LC_ERROR_MEMORY = 4,   /* there is not enough memory, or no thread can be started */
  LC_ERROR_BUSY = 5,     /* the function is running in another thread */
  LC_ERROR_INTERNAL = 6  /* anything else: an error of the library */
} lc_status;

typedef struct lc_error {
  lc_status status;
  char message[256]; /* UTF-8, cut where it is longer, always terminated; empty for LC_OK */
} lc_error;

/* A few words on a status, for what gives no message: lc_function_run. Never NULL. */
LC_API const char* lc_status_text(lc_status status);

/* ---- models ------------------------------------------------------------------------------------------------------ */

/* An open model file. */
typedef struct lc_model lc_model;

/* Opens a file that latentcore.save wrote: reads it whole, checks every byte, and recomputes the example that is stored
 * with it. The file may be replaced or deleted afterwards. */
LC_API lc_status lc_model_open(const char* path, lc_model** model, lc_error* error);

/* The same of a file's bytes, at any alignment. They are copied: the caller may free them afterwards. */
LC_API lc_status lc_model_open_memory(const void* data, size_t size, lc_model** model, lc_error* error);

LC_API void lc_model_free(lc_model* model);

typedef enum lc_dtype { LC_FLOAT32 = 1, LC_FLOAT64 = 2 } lc_dtype;

/* Later versions may append members to the two structs that follow; their sizes mean nothing. */

/* An array that a function takes or gives: (rows, features). */
typedef struct lc_port {
  const char* name;
  lc_dtype dtype;
  size_t features; /* elements of each row */
} lc_port;

/* What a function takes and gives. */
typedef struct lc_signature {
  const char* name; /* "decode" */
  const lc_port* input;
  size_t output_count;
  const lc_port* const* outputs;
} lc_signature;

/* How many functions a model has; 0 for NULL. */
LC_API size_t lc_model_function_count(const lc_model* model);

/* The function of that number, with the dtypes of the model; NULL beyond the last. */
LC_API const lc_signature* lc_model_function(const lc_model* model, size_t index);

/* ---- functions --------------------------------------------------------------------------------------------------- */

/* How a function is bound. Zero and NULL, what LC_OPTIONS_INIT gives, are the defaults. Later versions may append
 * members whose zeros are defaults too: `size` tells which the caller knows, and lets old programs run with new
 * libraries. */
typedef struct lc_options {
  size_t size;         /* sizeof(lc_options) */
  const char* weights; /* "float32" or "float64", also the dtype of arrays; "float16", "int8" or "int8_dynamic": float32
                          arrays over smaller weights, the last also over rows rounded to 8 bits in every layer; NULL:
                          the dtype of the model */
  const char* instruction_set; /* "avx512", "avx2" or "baseline"; NULL: the best that this processor has */
  size_t batch;                /* the most rows of a call, up to 2^31 - 1; 0: 1 */
  size_t threads;              /* that work on a call, up to 256; 0: 1. Results do not depend on it */
} lc_options;

#define LC_OPTIONS_INIT {sizeof(lc_options), NULL, NULL, 0, 0}

/* A function of a model, ready to run. */
typedef struct lc_function lc_function;

/* Makes a function of a model: packs its weights for the instruction set, lays out and touches all the memory that
 * calls will need, and starts the threads. It needs the model no longer. options: NULL for the defaults. */
LC_API lc_status lc_function_bind(const lc_model* model, const char* name, const lc_options* options,
                                  lc_function** function, lc_error* error);

/* Runs a function over up to `batch` rows. outputs: as many arrays as its signature has, in that order. Checks no
 * numbers: NaN in a row goes through that row. Allocates nothing; with one thread it takes no lock and makes no system
 * call. Denormals count as zero inside; the caller's floating-point mode comes back as it was. A row's result depends
 * neither on the rows beside it nor on the number of threads, and equals Python's bit for bit on the same instruction
 * set. */
LC_API lc_status lc_function_run(lc_function* function, size_t rows, const void* input, void* const* outputs);

/* Makes another function that does the same, with memory of its own over the same weights; they may be freed in any
 * order. The original may be running meanwhile. */
LC_API lc_status lc_function_clone(const lc_function* function, lc_function** clone, lc_error* error);

LC_API void lc_function_free(lc_function* function);

/* What a function takes and gives, with the dtypes that it was bound for; NULL for NULL. */
LC_API const lc_signature* lc_function_signature(const lc_function* function);

/* The instruction set that a function was bound for; NULL for NULL. */
LC_API const char* lc_function_instruction_set(const lc_function* function);

#ifdef __cplusplus
}
#endif

#endif
