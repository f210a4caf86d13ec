#!/usr/bin/env bash
# On a machine with a GPU, in one call and under eight minutes: builds, runs all GPU tests on the device, the kernel tests under
# compute-sanitizer where there is one, and the benchmarks; writes bench/results/<gpu>.json and the GPU's part of
# bench/RESULTS.md. GPU_PYTHON names a Python that has everything (latentcore, its extra "cuda", pytest; for the benchmarks
# torch and jax with CUDA, whichever are to take part); without it the Makefile makes one.
# With --rehearse, on any machine: everything but launches.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

if [ "${1:-}" = --rehearse ]; then
  "${GPU_PYTHON:-.venv/bin/python}" -m bench.gpu --rehearse --output "$(mktemp -d)"
  exit
fi

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
if [ -z "${GPU_PYTHON:-}" ]; then
  make .venv-cuda/.test-cuda
  .venv-cuda/bin/python -m pip install --quiet torch 'jax[cuda13]' || echo "benchmarks go without the peers that cannot be installed"
  GPU_PYTHON=.venv-cuda/bin/python
fi
"$GPU_PYTHON" -c 'import latentcore as lc; lc.show_config()'

status=0
export LATENTCORE_TEST_DEVICE=cuda LATENTCORE_REQUIRE_CUDA=1
timeout 200 "$GPU_PYTHON" -m pytest -q -p no:cacheprovider tests/gpu --ignore=tests/gpu/test_compiled.py || status=1
if command -v compute-sanitizer; then
  timeout 90 compute-sanitizer --error-exitcode 1 \
      "$GPU_PYTHON" -m pytest -q -x -p no:cacheprovider tests/gpu -k "kernels and float32" || status=1
else
  echo "compute-sanitizer: not on this machine, not run"
fi
timeout 240 "$GPU_PYTHON" -m bench.gpu || status=1
exit $status
