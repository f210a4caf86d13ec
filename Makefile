# Every command makes the environment that it needs: Python >= 3.10 with venv, a C++17 compiler and make are enough.
# Python sources are used in place; a change of the C++ sources or of a build file rebuilds the extension.
# ARGS is passed on: make demo ARGS="--epochs 3"; make test ARGS="-k linear", which leaves out the GPU's tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CUDA := $(VENV)-cuda
BUILD_FILES := pyproject.toml CMakeLists.txt $(shell find csrc fuzz -type f)
OPS := $(notdir $(basename $(wildcard csrc/ops/*.cpp)))
# Tests share the cores, a file at a time; libraries that they compare with start no threads beside them.
SHARED := -n auto --maxprocesses 4 --dist loadfile -p no:benchmark
ALONE := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1

.PHONY: demo test test-gpu bench lint sanitize fuzz clean

demo: $(VENV)/.demo
	$(BIN)/python -m latentcore demo $(ARGS)

test: $(VENV)/.test
	$(ALONE) $(BIN)/python -m pytest $(SHARED) $(ARGS)
ifeq ($(ARGS)$(shell uname),Linux)
	$(MAKE) test-gpu
else
	@echo "The GPU's tests were not run. On Linux, make test-gpu does."
endif

# Without a GPU: every kernel compiled, then every kernel interpreted. LATENTCORE_TEST_DEVICE=cuda runs them on the GPU instead
# of interpreting them; LATENTCORE_REQUIRE_CUDA=1 makes it an error if any did not run there.
test-gpu: $(CUDA)/.test-cuda
	$(CUDA)/bin/python -m pytest tests/gpu/test_compiled.py
ifeq ($(LATENTCORE_TEST_DEVICE),cuda)
	$(CUDA)/bin/python -m pytest tests/gpu --ignore=tests/gpu/test_compiled.py
else
	TRITON_INTERPRET=1 NUMBA_ENABLE_CUDASIM=1 $(ALONE) \
	    $(CUDA)/bin/python -m pytest $(SHARED) tests/gpu --ignore=tests/gpu/test_compiled.py
endif

bench: $(VENV)/.bench
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m bench $(ARGS)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m bench.sweep

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $$(find bench csrc examples fuzz tests -name '*.cpp' -o -name '*.h' -o -name '*.c')
	$(BIN)/mypy
	CMAKE_ARGS=-DLATENTCORE_WERROR=ON SKBUILD_BUILD_DIR=build/lint \
	    $(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/lint .
	$(BIN)/cmake -S . -B build/c_library -DLATENTCORE_WERROR=ON > /dev/null
	$(BIN)/cmake --build build/c_library --target core
	@# An object of one instruction set defines symbols that name its namespace alone: the linker merges the copies of any
	@# other inline function, and AVX-512 code would run on a processor that has none.
	@for isa in $$(cd build/lint/CMakeFiles && ls -d ops_*.dir | sed 's/ops_\(.*\).dir/\1/'); do \
	    find build/lint/CMakeFiles/ops_$$isa.dir -name '*.o' -exec nm -g --defined-only {} + | awk 'NF == 3 { print $$3 }' | \
	    grep -v -e "$${#isa}$$isa" -e '^DW.ref.' | sed "s/^/$$isa objects share the symbol /" | c++filt; \
	done | (! grep .)

# The kernels and the thread pool under the sanitizers of g++: memory and undefined behaviour, then data races.
sanitize: export CXX := g++
sanitize: export SKBUILD_INSTALL_STRIP := false
sanitize: fuzz
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0 LATENTCORE_TEST_SHARE=10 $(ALONE) \
	    .venv-address/bin/python -m pytest --capture=sys $(SHARED) $(OPS:%=tests/test_%.py)
	CMAKE_ARGS="-DLATENTCORE_SANITIZE=thread -DLATENTCORE_X86_SETS=OFF" SKBUILD_BUILD_DIR=build/thread \
	    $(MAKE) VENV=.venv-thread .venv-thread/.test
	@# The runtime of g++ 12 now and then fails to map its own memory where addresses are random: not a finding, run again.
	for attempt in 1 2 3; do \
	    LD_PRELOAD="$$($(CXX) -print-file-name=libtsan.so)" setarch -R \
	        .venv-thread/bin/python -m pytest --capture=sys tests/test_pool.py tests/test_clones.py > build/thread.log 2>&1 && status=0 || status=$$?; \
	    cat build/thread.log; \
	    if [ $$status = 0 ] || ! grep -q "ThreadSanitizer failed to allocate" build/thread.log; then exit $$status; fi; \
	done; exit 1

# Mutated model files, read, bound and run under the first two sanitizers: make fuzz ARGS=-runs=1000000 for longer.
fuzz: export CXX := g++
fuzz: export SKBUILD_INSTALL_STRIP := false
fuzz:
	CMAKE_ARGS="-DLATENTCORE_SANITIZE=address,undefined -DLATENTCORE_FUZZ=ON" SKBUILD_BUILD_DIR=build/address \
	    $(MAKE) VENV=.venv-address .venv-address/.test
	cd build/address && fuzz/fuzz $(or $(ARGS),-max_total_time=25) ../../tests/data

clean:
	rm -rf build dist .venv .venv-address .venv-cuda .venv-peers .venv-thread

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet scikit-build-core pybind11 cmake ninja
	touch $@

# What the GPU's compilers pin stays apart: an environment over the other one, where it finds all else.
$(CUDA)/.test-cuda: $(VENV)/.test
	$(PYTHON) -m venv --without-pip $(CUDA)
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" > \
	    "$$($(CUDA)/bin/python -c 'import site; print(site.getsitepackages()[0])')/over.pth"
	$(CUDA)/bin/python -m pip install --quiet "latentcore[test-cuda]"
	touch $@

# A stamp for each extra of pyproject.toml.
$(VENV)/.%: $(BUILD_FILES) | $(VENV)/.tools
	$(BIN)/pip install --quiet --no-build-isolation --editable '.[$*]'
	touch $@
