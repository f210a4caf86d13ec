/* Decodes a code with a saved model: decode MODEL [NUMBER...]. Codes that are not given are zeros. */
#include <latentcore.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  lc_error error;
  lc_model* model;
  lc_function* decode;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL [NUMBER...]\n", argv[0]);
    return 2;
  }
  lc_options options = LC_OPTIONS_INIT;
  options.weights = "float32";
  if (lc_model_open(argv[1], &model, &error) || lc_function_bind(model, "decode", &options, &decode, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  lc_model_free(model); /* the function has all it needs */

  const lc_signature* signature = lc_function_signature(decode);
  const size_t latent = signature->input->features, features = signature->outputs[0]->features;
  float* z = calloc(latent, sizeof *z);
  float* x = calloc(features, sizeof *x);
  if (!z || !x || (size_t)argc - 2 > latent) {
    fprintf(stderr, "expected at most %zu numbers\n", latent);
    return 2;
  }
  for (int i = 2; i < argc; ++i) z[i - 2] = strtof(argv[i], NULL);

  void* outputs[] = {x};
  const lc_status status = lc_function_run(decode, 1, z, outputs);
  if (status) {
    fprintf(stderr, "%s\n", lc_status_text(status));
    return 1;
  }
  for (size_t i = 0; i < features; ++i) printf("%.9g\n", x[i]);

  free(x);
  free(z);
  lc_function_free(decode);
  return 0;
}
