"""The C library: built by plain CMake into a folder of its own, installed, and used from there as its users do. Its numbers
are Python's, bit for bit."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_allocations import SHIM

import latentcore as lc
from latentcore import _core
from latentcore.backends.cpu import CpuBackend
from latentcore.io import read_model, write_model
from latentcore.models.snapshot import WEIGHTS, Snapshot

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "c_library"
TOOLS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
CMAKE, CC, CXX = (shutil.which(name, path=TOOLS) for name in ("cmake", "cc", "c++"))
VALGRIND = shutil.which("valgrind")
# nothing may look for Python, which would end the configuration here
NO_PYTHON = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in ("Python", "Python3", "PythonInterp", "pybind11")]

pytestmark = pytest.mark.skipif(not (CMAKE and CC and CXX), reason="cmake, cc and c++ are needed")


def run(*command: Any, expect: int = 0, **options: Any) -> str:
    """What a program prints; a failure shows it."""
    done = subprocess.run(
        [str(part) for part in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900, **options
    )
    assert done.returncode == expect, f"{command[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed. The build itself is kept: a second run compiles what changed."""
    where = tmp_path_factory.mktemp("prefix")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=TOOLS) and not (BUILD / "CMakeCache.txt").exists() else []
    environment = {**os.environ, "PATH": TOOLS}
    options = os.environ.get("CMAKE_ARGS", "").split()  # as pip takes them
    run(CMAKE, "-S", ROOT, "-B", BUILD, *generator, *NO_PYTHON, *options, env=environment)
    run(CMAKE, "--build", BUILD, "--parallel", os.cpu_count(), env=environment)
    run(CMAKE, "--install", BUILD, "--prefix", where, env=environment)
    return where


@pytest.fixture(scope="module")
def library(prefix: Path) -> Path:
    (found,) = prefix.glob("lib*/liblatentcore.so")
    return found


def build(source: Path, to: Path, prefix: Path) -> Path:
    """A CMake project of C alone, built against the installed library."""
    run(CMAKE, "-S", source, "-B", to, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_C_COMPILER={CC}", *NO_PYTHON)
    run(CMAKE, "--build", to)
    return to


@pytest.fixture(scope="module")
def examples(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "examples" / "embed", tmp_path_factory.mktemp("embed"), prefix)


@pytest.fixture(scope="module")
def programs(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "tests" / "c_library", tmp_path_factory.mktemp("programs"), prefix)


def made(kind: str) -> Any:
    rng = np.random.default_rng(0)
    X = rng.random((60, 21))
    return {
        "vae": lambda: lc.VAE(5, (37, 18), activation="gelu", random_state=0).initialize(21),
        "learned": lambda: lc.VAE(4, (33,), likelihood="gaussian", variance="learned", dtype="float64", random_state=0)
        .initialize(21),
        "autoencoder": lambda: lc.Autoencoder(3, (17,), random_state=0).initialize(21),
        "linear": lambda: lc.Autoencoder(3, (), dtype="float64", random_state=0).initialize(21),
        "mlp": lambda: lc.MLP((21, 37, 5), ("softplus", "sigmoid"), random_state=0).initialize(),
        "pca": lambda: lc.PCA(6).fit(X.astype("f4")),
        "whitened": lambda: lc.PCA(21, whiten=True).fit(X),
    }[kind]()  # fmt: skip


KINDS = ("vae", "learned", "autoencoder", "linear", "mlp", "pca", "whitened")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("models")
    models = {kind: (made(kind), folder / f"{kind}.safetensors") for kind in KINDS}
    for model, path in models.values():
        lc.save(model, path)
    return models


# ---- the library by ctypes -------------------------------------------------------------------------------------------


class Port(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("dtype", ctypes.c_int), ("features", ctypes.c_size_t))

    def of(self, rows: int) -> tuple[tuple[int, int], str]:
        return (rows, self.features), {1: "float32", 2: "float64"}[self.dtype]


class Signature(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("input", ctypes.POINTER(Port)),
        ("output_count", ctypes.c_size_t),
        ("outputs", ctypes.POINTER(ctypes.POINTER(Port))),
    )


class Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("weights", ctypes.c_char_p),
        ("instruction_set", ctypes.c_char_p),
        ("batch", ctypes.c_size_t),
        ("threads", ctypes.c_size_t),
    )


class Error(ctypes.Structure):
    _fields_ = (("status", ctypes.c_int), ("message", ctypes.c_char * 256))


class Library:
    """The few calls that tests make of it."""

    def __init__(self, path: Path) -> None:
        self.core = ctypes.CDLL(str(path))
        self.core.lc_model_function.restype = ctypes.POINTER(Signature)
        self.core.lc_function_signature.restype = ctypes.POINTER(Signature)
        self.core.lc_model_function_count.restype = ctypes.c_size_t

    def make(self, call: str, *arguments: Any) -> ctypes.c_void_p:
        made, error = ctypes.c_void_p(), Error()
        status = getattr(self.core, call)(*arguments, ctypes.byref(made), ctypes.byref(error))
        assert status == error.status
        assert bool(made) == (status == 0)
        if status:
            raise ValueError(status, error.message.decode())
        return made

    def open(self, path: Path) -> ctypes.c_void_p:
        return self.make("lc_model_open", os.fsencode(path))

    def signatures(self, model: ctypes.c_void_p) -> Iterator[Signature]:
        for i in range(self.core.lc_model_function_count(model)):
            yield self.core.lc_model_function(model, ctypes.c_size_t(i)).contents

    def bind(
        self, model: Any, name: str, weights: str | None = None, isa: str | None = None, **sizes: int
    ) -> ctypes.c_void_p:
        options = Options(ctypes.sizeof(Options), weights and weights.encode(), isa and isa.encode(), **sizes)
        return self.make("lc_function_bind", model, name.encode(), ctypes.byref(options))

    def run(self, function: ctypes.c_void_p, x: np.ndarray) -> tuple[np.ndarray, ...]:
        signature = self.core.lc_function_signature(function).contents
        shape, dtype = signature.input.contents.of(len(x))
        given = np.ascontiguousarray(x, dtype).reshape(shape)
        made = [np.full(*signature.outputs[i].contents.of(len(x))[:1], np.nan, signature.outputs[i].contents.of(1)[1])
                for i in range(signature.output_count)]  # fmt: skip
        pointers = (ctypes.c_void_p * len(made))(*(a.ctypes.data for a in made))
        status = self.core.lc_function_run(function, ctypes.c_size_t(len(x)), ctypes.c_void_p(given.ctypes.data), pointers)
        if status:
            raise ValueError(status)
        return tuple(made)


@pytest.fixture(scope="module")
def c(library: Path) -> Library:
    return Library(library)


# ---- the package -----------------------------------------------------------------------------------------------------


def test_version(prefix: Path, c: Library) -> None:
    text = (prefix / "include" / "latentcore.h").read_text()
    numbers = [int(n) for n in re.findall(r"define LC_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", text)]
    assert ".".join(map(str, numbers)) == lc.__version__
    assert c.core.lc_version() == numbers[0] * 10000 + numbers[1] * 100 + numbers[2]


def test_only_the_public_functions_are_exported(library: Path) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is needed to list symbols")
    symbols = {line.split()[-1] for line in run(nm, "-D", "--defined-only", library).splitlines()}
    text = (ROOT / "csrc" / "include" / "latentcore.h").read_text()
    assert symbols == set(re.findall(r"^LC_API .*?\b(lc_\w+)\(", text, re.MULTILINE))


def test_it_needs_the_system_alone(library: Path) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("readelf is needed to list what a library needs")
    dynamic = run(readelf, "-d", library)
    needed = {name.partition(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)}
    assert needed <= {"libstdc++", "libc++", "libgcc_s", "libm", "libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    (soname,) = re.findall(r"\(SONAME\).*\[(.*)\]", dynamic)
    assert soname == "liblatentcore.so." + ".".join(lc.__version__.split(".")[:2])
    assert (library.parent / soname).exists()


def test_the_header_stands_alone(prefix: Path) -> None:
    text = "#include <latentcore.h>\nlc_options options = LC_OPTIONS_INIT;\nint version(void) { return lc_version(); }\n"
    strict = ["-pedantic-errors", "-Wall", "-Wextra", "-Werror", f"-I{prefix / 'include'}", "-fsyntax-only"]
    for compiler, language, standard in ((CC, "c", "c99"), (CC, "c", "c11"), (CXX, "c++", "c++11"), (CXX, "c++", "c++17")):
        run(compiler, f"-std={standard}", *strict, "-x", language, "-", input=text)


def test_pkg_config(prefix: Path, library: Path, tmp_path: Path) -> None:
    pkg_config = shutil.which("pkg-config")
    if pkg_config is None:
        pytest.skip("pkg-config is needed")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(library.parent / "pkgconfig")}
    flags = run(pkg_config, "--cflags", "--libs", "latentcore", env=environment).split()
    run(CC, ROOT / "examples" / "embed" / "decode.c", *flags, "-o", tmp_path / "decode")
    assert "usage" in run(tmp_path / "decode", expect=2, env={**os.environ, "LD_LIBRARY_PATH": str(library.parent)})


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", _core.instruction_sets())
@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_python_s(kind: str, isa: str, c: Library, files: dict[str, tuple[Any, Path]]) -> None:
    model, path = files[kind]
    opened = c.open(path)
    signatures = list(c.signatures(opened))
    assert {s.name.decode() for s in signatures} == set(model._functions())
    rng = np.random.default_rng(1)
    for signature in signatures:
        name = signature.name.decode()
        x = rng.random((7, signature.input.contents.features))
        x[:, ::3] = 0
        for weights in (None, *WEIGHTS):
            snapshot = Snapshot(model, name, weights or model._dtype)
            call = CpuBackend().bind(snapshot.plan, 7, snapshot.state, 1, isa).function()
            want = call(x.astype(snapshot.plan.dtype))
            want = want if isinstance(want, tuple) else (want,)
            function = c.bind(opened, name, weights, isa, batch=7)
            for rows in (7, 1, 3):
                for got, all_rows in zip(c.run(function, x[:rows]), want, strict=True):
                    expected = all_rows[:rows].reshape(got.shape)
                    assert got.dtype == expected.dtype
                    assert got.tobytes() == expected.tobytes(), (name, weights, rows)
            c.core.lc_function_free(function)
    c.core.lc_model_free(opened)


def test_threads_give_the_same_bits(c: Library, tmp_path: Path) -> None:
    model = lc.VAE(16, (600,), random_state=0).initialize(300)
    lc.save(model, tmp_path / "model")
    opened = c.open(tmp_path / "model")
    z = np.random.default_rng(0).standard_normal((64, 16))
    (want,) = c.run(c.bind(opened, "decode", batch=64), z)
    for threads in (2, 5):
        (got,) = c.run(c.bind(opened, "decode", batch=64, threads=threads), z)
        assert got.tobytes() == want.tobytes()
    assert want.tobytes() == model.decode(z).tobytes()


def test_a_batch_beyond_memory(c: Library, tmp_path: Path) -> None:
    lc.save(lc.Autoencoder(1, (), random_state=0).initialize(60000), tmp_path / "wide")
    opened = c.open(tmp_path / "wide")
    with pytest.raises(ValueError, match="memory") as raised:
        c.bind(opened, "decode", batch=2**31 - 1)
    assert raised.value.args[0] == 4
    c.core.lc_model_free(opened)


@pytest.mark.parametrize("kind", ["vae", "whitened"])
def test_the_example_is_recomputed(kind: str, c: Library, files: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    header, tensors = read_model(files[kind][1])
    eps = np.finfo(tensors["golden:output"].dtype).eps
    for change, sound in ((eps, True), (1e4 * eps, False)):
        write_model(tmp_path / "changed", header, tensors | {"golden:output": tensors["golden:output"] + change})
        if sound:
            c.core.lc_model_free(c.open(tmp_path / "changed"))
            continue
        with pytest.raises(ValueError, match="changed: golden:output: the weights miss it by") as raised:
            c.open(tmp_path / "changed")
        assert raised.value.args[0] == 3


def test_weights_beyond_float32(c: Library, tmp_path: Path) -> None:
    model = lc.Autoencoder(2, (3,), dtype="float64", random_state=0).initialize(4)
    model.set_parameters({name: array * 1e300 for name, array in model.parameters().items() if name == "decoder.1.weight"})
    lc.save(model, tmp_path / "model")
    opened = c.open(tmp_path / "model")
    for weights in ("float32", "float16", "int8", "int8_dynamic"):
        with pytest.raises(ValueError, match=r"weights: decoder\.1: expected finite numbers in float32") as raised:
            c.bind(opened, "decode", weights)
        assert raised.value.args[0] == 1
    c.core.lc_function_free(c.bind(opened, "encode", "float16"))
    c.core.lc_model_free(opened)


# ---- programs --------------------------------------------------------------------------------------------------------


def test_decode(examples: Path, files: dict[str, tuple[Any, Path]]) -> None:
    model, path = files["vae"]
    for given in ([], [0.5], [0.25, -1, 3e-5, 1e10, 1 / 3]):
        printed = np.array(run(examples / "decode", path, *given).split(), np.float32)
        z = np.zeros((1, 5), np.float32)
        z[0, : len(given)] = given
        assert printed.tobytes() == model.decode(z).tobytes()
    assert "/nowhere: No such file or directory" in run(examples / "decode", "/nowhere", expect=1)
    assert "name: expected one of 'transform', 'inverse_transform', 'score_samples', got 'decode'" in run(
        examples / "decode", files["pca"][1], expect=1
    )


def test_audio(examples: Path, files: dict[str, tuple[Any, Path]]) -> None:
    done = subprocess.run([examples / "audio", files["vae"][1], "3000"], text=True, capture_output=True, timeout=100)
    assert done.stderr == ""
    worst, deadline, late = re.search(r"worst ([\d.]+) us of ([\d.]+) us; late: (\d+)$", done.stdout.strip()).groups()
    assert float(deadline) == pytest.approx(64 / 48000 * 1e6, abs=1e-3)
    assert (float(worst) > float(deadline)) == (int(late) > 0) == (done.returncode == 1)
    assert sum(int(n) for n in re.findall(r"^from +[\d.]+ us: +(\d+)$", done.stdout, re.MULTILINE)) == 3000


@pytest.mark.parametrize("linked", ["latentcore", "static"])
@pytest.mark.parametrize(("kind", "function"), [("vae", "decode"), ("whitened", "transform")])
def test_errors(linked: str, kind: str, function: str, programs: Path, files: dict[str, tuple[Any, Path]]) -> None:
    assert run(programs / f"errors_{linked}", files[kind][1], function) == ""


def test_errors_under_valgrind(programs: Path, files: dict[str, tuple[Any, Path]]) -> None:
    if VALGRIND is None:
        pytest.skip("valgrind is not installed")
    turns = "--fair-sched=try"  # else one thread may go on to its end before the other begins
    strict = ["-q", "--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all", "--error-exitcode=99"]
    assert run(VALGRIND, turns, *strict, programs / "errors_latentcore", files["vae"][1], "decode") == ""


@pytest.mark.parametrize("kind", ["vae", "learned", "whitened"])
def test_runs_are_quiet(kind: str, programs: Path, files: dict[str, tuple[Any, Path]], tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("Linux can forbid system calls")
    run(CC, "-shared", "-fPIC", "-w", "-o", tmp_path / "shim.so", "-x", "c", "-", "-ldl", input=SHIM)
    model, path = files[kind]
    environment = {**os.environ, "LD_PRELOAD": str(tmp_path / "shim.so")}
    done = subprocess.run([programs / "quiet", path], env=environment, capture_output=True, text=True, timeout=100)
    if "__libc_" in done.stderr or done.returncode == 3:
        pytest.skip("glibc and seccomp are needed")
    assert done.stdout == f"{5 * len(model._functions())} functions, ran: 0 0 0 0 0 and on\n"
    assert done.returncode == 0
