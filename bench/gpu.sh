#!/usr/bin/env bash
# On a machine with a GPU, in one call and under eight minutes: builds, runs all GPU tests on the device, the kernel tests under
# compute-sanitizer where there is one, and the benchmarks; writes bench/results/<gpu>.json and the GPU's part of
# bench/RESULTS.md. GPU_PYTHON names a Python that has latentcore with its extra "cuda", CUDA's libraries and pytest; PEERS_PYTHON
# one that has torch and jax with CUDA, which pin compilers of their own. What is not named is made here. GPU_SECONDS: the time
# that there is.
# With --rehearse, on any machine: every command but launches. Kernels are compiled, tests collected, benchmarks run on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
limit=${GPU_SECONDS:-465}
part() { echo $(((limit - SECONDS) * $1 / 100)); }
status=0

make_engine() {
  make .venv-cuda/.test-cuda
  # With CuPy's libraries, of the CUDA that everything is pinned to.
  [ -n "$rehearse" ] || .venv-cuda/bin/python -m pip install --quiet "$(.venv-cuda/bin/python -c '
from importlib.metadata import requires
(cupy,) = [r.split(";")[0] for r in requires("latentcore") if r.startswith("cupy")]
print(cupy.replace("==", "[ctk]==").strip())')" 'cuda-toolkit==13.0.*'
}

make_peers() {
  python3 -m venv .venv-peers
  .venv-peers/bin/pip install --quiet torch 'jax[cuda13]' || echo "benchmarks go without the peers that cannot be installed"
}

rehearse=
[ "${1:-}" != --rehearse ] || rehearse=1
peers=
if [ -z "$rehearse" ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  if [ -z "${PEERS_PYTHON:-}" ]; then
    make_peers &
    peers=$!
  fi
fi
if [ -z "${GPU_PYTHON:-}" ]; then
  make_engine
  GPU_PYTHON=.venv-cuda/bin/python
fi
"$GPU_PYTHON" -c 'import latentcore as lc; lc.show_config()'

pytest=("$GPU_PYTHON" -m pytest -q -p no:cacheprovider tests/gpu --ignore=tests/gpu/test_compiled.py)
sanitized=(-x -k "kernels and float32")
export LATENTCORE_TEST_DEVICE=cuda
if [ -n "$rehearse" ]; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  LATENTCORE_CACHE=$scratch "$GPU_PYTHON" tests/gpu/variants.py --arch 90 --most 2
  "${pytest[@]}" --collect-only | tail -1
  "${pytest[@]}" "${sanitized[@]}" --collect-only | tail -1
  "$GPU_PYTHON" -m bench.gpu --rehearse --output "$scratch" --peers "${PEERS_PYTHON:-.venv/bin/python}" --seconds "$(part 90)"
  exit
fi

"$GPU_PYTHON" tests/gpu/variants.py
export LATENTCORE_REQUIRE_CUDA=1
timeout "$(part 40)" "${pytest[@]}" || status=1
if command -v compute-sanitizer; then
  seconds=$(part 30)
  timeout "$seconds" compute-sanitizer --error-exitcode 1 "${pytest[@]}" "${sanitized[@]}" || {
    [ $? = 124 ] && echo "compute-sanitizer: ended after $seconds s, with no error so far" || status=1
  }
else
  echo "compute-sanitizer: not on this machine, not run"
fi
[ -z "$peers" ] || wait "$peers" || status=1
"$GPU_PYTHON" -m bench.gpu --peers "${PEERS_PYTHON:-.venv-peers/bin/python}" --seconds "$(part 90)" || status=1
exit $status
