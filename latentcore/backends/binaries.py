"""GPU kernels compiled: by Triton to cubins, by Numba to PTX; kept on disk under a key of all that they were made from."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import ops
from ..io import write_file
from ..ops.launches import Kernel, Launch, Operand, Table

ALIGNED = 16  # bytes: what all addresses are multiples of; and what integers are that kernels know more of
MANIFEST = "manifest.json"

_POINTERS = {"float32": "*fp32", "float64": "*fp64", "int64": "*i64", "uint32": "*u32"}
# By the language, the distributions that its binaries depend on, the compiler first.
_COMPILERS = {"triton": ("triton",), "numba": ("numba-cuda", "numba", "nvidia-nvvm", "nvidia-cuda-nvrtc")}
_SUFFIX = {"triton": "cubin", "numba": "ptx"}
_knobs = threading.Lock()  # Triton's settings are the process's


@dataclass(frozen=True)
class Variant:
    """A kernel and all that it is compiled for. signature: the type of each argument, "absent" where there is none;
    aligned: the integers known to be multiples of 16, as all addresses are."""

    kernel: Kernel
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: tuple[str, ...]
    threads: int

    def key(self, arch: int) -> str:
        """What its binary is stored under: 64 hexadecimal digits."""
        made_from = [sources(), self.kernel.path, self.signature, self.constants, self.aligned, self.threads, arch]
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()

    def file(self, arch: int) -> str:
        """The name of its file in a folder."""
        return f"{self.key(arch)}.{_SUFFIX[self.kernel.language]}"


@functools.cache
def sources() -> str:
    """A digest of everything that kernels are made from, but for the compilers."""
    folder = Path(ops.__file__).parent
    digest = hashlib.sha256()
    for path in [*sorted(folder.glob("*_cuda.py")), folder / "launches.py", Path(__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def variant_of(launch: Launch) -> Variant:
    """What a launch needs compiled. Raises OverflowError for a size that no int32 holds, TypeError for what is neither a
    buffer nor an int or a float."""
    integers = [name for name, v in launch.arguments.items() if isinstance(v, int) and v > 0 and v % ALIGNED == 0]
    return Variant(
        launch.kernel,
        tuple((name, _type(f"{launch.kernel.name}: {name}", value)) for name, value in launch.arguments.items()),
        tuple(launch.constants.items()),
        tuple(integers) if launch.kernel.language == "triton" else (),
        launch.threads,
    )


def _type(name: str, value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, Operand):
        return _POINTERS[value.dtype]
    if isinstance(value, Table):
        return "*i64"
    if isinstance(value, float):
        return "fp64"
    if not isinstance(value, int):
        raise TypeError(f"{name}: expected an int or a float, got {value!r}")
    if not -(2**31) <= value < 2**31:
        raise OverflowError(f"{name}: expected at most 2**31 - 1, got {abs(value)}")
    return "i32"


@dataclass(frozen=True)
class Binary:
    """A compiled kernel. hidden: pointers after the declared arguments, to be passed as null. shared: bytes of dynamic
    shared memory."""

    entry: str
    code: bytes
    threads: int
    shared: int
    hidden: int

    def about(self) -> dict[str, Any]:
        """All but the code, of which a digest."""
        return {**asdict(self), "code": hashlib.sha256(self.code).hexdigest()}


def _binary(about: dict[str, Any], code: bytes) -> Binary | None:
    """The binary of a description and its code, None if they do not fit."""
    binary = Binary(**{**about, "code": code})
    return binary if binary.about() == about else None


# ---- compiling -------------------------------------------------------------------------------------------------------


def compile_variant(variant: Variant, arch: int) -> Binary:
    """Compiles for an architecture, 80 or 90 as in sm_80 or sm_90. Needs no GPU. Raises ImportError without the compiler."""
    return (_compile_triton if variant.kernel.language == "triton" else _compile_numba)(variant, arch)


def _compile_triton(variant: Variant, arch: int) -> Binary:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    parameters, types = variant.kernel.parameters, dict(variant.signature)
    absent = [name for name, kind in types.items() if kind == "absent"]
    aligned = [name for name, kind in types.items() if kind[0] == "*" or name in variant.aligned]
    source = ASTSource(
        fn=variant.kernel.jit,
        signature={name: "constexpr" if name in absent else types.get(name, "constexpr") for name in parameters},
        constexprs={**dict(variant.constants), **dict.fromkeys(absent)},
        attrs={(parameters.index(name),): [["tt.divisibility", ALIGNED]] for name in aligned},
    )
    knobs = triton.knobs
    with (
        _knobs,
        tempfile.TemporaryDirectory() as folder,
        knobs.cache.scope(),
        knobs.compilation.scope(),
    ):
        knobs.cache.dir = folder  # the store is all the cache that there is
        knobs.compilation.disable_line_info = True  # a third of the size, and no paths inside
        made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": variant.threads // 32})
    about = made.metadata
    plain = about.num_ctas == 1 and not about.launch_pdl and not about.tensordesc_meta
    if not plain or about.global_scratch_size or about.profile_scratch_size:
        raise RuntimeError(f"{about.name}: needs a launch of a kind that is not made here")
    return Binary(about.name, made.asm["cubin"], 32 * about.num_warps, about.shared, hidden=2)


def _compile_numba(variant: Variant, arch: int) -> Binary:
    from numba import cuda, types

    kinds = {
        "*fp32": types.CPointer(types.float32), "*fp64": types.CPointer(types.float64),
        "*i64": types.CPointer(types.int64), "*u32": types.CPointer(types.uint32),
        "i32": types.int32, "fp64": types.float64, "absent": types.none,
    }  # fmt: skip
    signature = types.void(*(kinds[kind] for _, kind in variant.signature))
    ptx, _ = cuda.compile(
        variant.kernel.function, signature, cc=divmod(arch, 10), device=False, abi="numba", output="ptx",
        launch_bounds=(variant.threads, 1),
    )  # fmt: skip
    mangled = re.search(r"\.entry\s+([^\s(]+)", ptx)
    assert mangled
    # The mangled name counts what was compiled before.
    ptx = ptx.replace(mangled[1], variant.kernel.name)
    return Binary(variant.kernel.name, ptx.encode() + b"\0", variant.threads, 0, hidden=0)


def compile_all(work: Sequence[tuple[Variant, int]]) -> list[Binary]:
    """Compiles each for its architecture, on all processors."""
    if len(work) < 2:
        return [compile_variant(*each) for each in work]
    with ProcessPoolExecutor(min(len(work), os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(compile_variant, *zip(*work)))


# ---- keeping ---------------------------------------------------------------------------------------------------------


class Store:
    """Binaries in a folder, each with its description beside it. Safe for any number of processes: files are written
    whole, and what does not match its description counts as missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, variant: Variant, arch: int) -> Binary | None:
        """The binary of a variant, None if there is none."""
        path = self.folder / variant.file(arch)
        try:
            return _binary(json.loads(path.with_suffix(".json").read_text()), path.read_bytes())
        except (OSError, ValueError, TypeError):
            return None

    def put(self, variant: Variant, arch: int, binary: Binary) -> None:
        """Stores it. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / variant.file(arch)
        write_file(path, binary.code)
        write_file(path.with_suffix(".json"), json.dumps(binary.about()).encode())


class Shipment:
    """Binaries that were compiled ahead of time: a folder with a manifest of all of them."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError, and ValueError for kernels of another version of this package."""
        self.folder = folder
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError:
            raise FileNotFoundError(f"LATENTCORE_KERNELS: {folder} holds no {MANIFEST}") from None
        if manifest.get("sources") != sources():
            raise ValueError(
                f"LATENTCORE_KERNELS: {folder} holds kernels of another version of latentcore; "
                "write them anew with python -m latentcore kernels"
            )
        self.kernels: dict[str, dict[str, Any]] = manifest["kernels"]

    def get(self, variant: Variant, arch: int) -> Binary | None:
        """The binary of a variant, None if there is none. Raises OSError or ValueError for one that is damaged."""
        name = variant.file(arch)
        if name not in self.kernels:
            return None
        binary = _binary(self.kernels[name]["binary"], (self.folder / name).read_bytes())
        if binary is None:
            raise ValueError(f"LATENTCORE_KERNELS: {self.folder / name} is not what {MANIFEST} says")
        return binary


def ship(folder: Path, variants: Sequence[Variant], archs: Sequence[int]) -> int:
    """Compiles variants for architectures into a folder, which LATENTCORE_KERNELS may name then. Returns how many there
    are. Raises ImportError without the compilers, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    work = [(variant, arch) for arch in archs for variant in dict.fromkeys(variants)]
    kernels = {}
    for (variant, arch), binary in zip(work, compile_all(work)):
        write_file(folder / variant.file(arch), binary.code)
        kernels[variant.file(arch)] = {
            "kernel": variant.kernel.path,
            "arch": arch,
            "arguments": dict(variant.signature),
            "constants": dict(variant.constants),
            "multiples of 16": variant.aligned,
            "binary": binary.about(),
        }
    manifest = {"sources": sources(), "compilers": _versions(), "kernels": kernels}
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    return len(kernels)


def cache() -> Store:
    """What these versions of the compilers made on this machine, in ``LATENTCORE_CACHE`` or the user's cache."""
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111, a home that is unknown is none
    home = os.environ.get("LATENTCORE_CACHE") or f"{users}/latentcore"
    versions = hashlib.sha256(json.dumps(_versions()).encode()).hexdigest()
    return Store(Path(home) / "kernels" / versions[:16])


@functools.cache
def _shipment(folder: str) -> Shipment:
    return Shipment(Path(folder))


@functools.cache
def _versions() -> dict[str, str]:
    """The versions of the compilers, of those that are installed."""
    found = {}
    for name in sum(_COMPILERS.values(), ()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def binary_of(variant: Variant, arch: int) -> Binary:
    """The binary of a variant: from the folder that ``LATENTCORE_KERNELS`` names, from the cache, or compiled. Raises
    ImportError if it must be compiled and the compiler is not installed; OSError or ValueError for a folder that
    LATENTCORE_KERNELS should not name."""
    shipped = os.environ.get("LATENTCORE_KERNELS")
    store = cache()
    binary = (_shipment(shipped).get(variant, arch) if shipped else None) or store.get(variant, arch)
    if binary is not None:
        return binary
    try:
        binary = compile_variant(variant, arch)
    except ImportError as error:
        raise ImportError(
            f"backend 'cuda': the kernel {variant.kernel.name} for sm_{arch} must be compiled, and "
            f"{_COMPILERS[variant.kernel.language][0]} cannot be imported ({error}); install latentcore[cuda], or set "
            "LATENTCORE_KERNELS to a folder that python -m latentcore kernels wrote"
        ) from None
    try:
        store.put(variant, arch, binary)
    except OSError as error:  # a read-only home must not keep anyone from running
        warnings.warn(f"kernels cannot be cached: {error}", RuntimeWarning, stacklevel=2)
    return binary
