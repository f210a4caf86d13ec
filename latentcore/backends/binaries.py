"""GPU kernels compiled: by Triton to cubins, by Numba to PTX; kept on disk under a key of all that they were made from."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import ops
from ..io import write_file
from ..ops.launches import Kernel, Launch, Operand, Table

_POINTERS = {"float32": "*fp32", "float64": "*fp64", "int64": "*i64", "uint32": "*u32"}
_COMPILERS = {"triton": "triton", "numba": "numba-cuda"}  # the distribution of each


@dataclass(frozen=True)
class Variant:
    """A kernel and all that it is compiled for. signature: the type of each argument, "absent" where there is none;
    sixteenths: the integers known to be multiples of 16, as all addresses are."""

    kernel: Kernel
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    sixteenths: tuple[str, ...]
    threads: int

    def key(self, arch: int) -> str:
        """What its binary is stored under: 64 hexadecimal digits."""
        kernel = self.kernel
        made_from = [
            _sources(), kernel.function.__module__, kernel.name, self.signature, self.constants, self.sixteenths,
            self.threads, arch,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


@functools.cache
def _sources() -> str:
    """A digest of everything that kernels are made from."""
    digest = hashlib.sha256()
    for path in sorted(Path(ops.__file__).parent.glob("*_cuda.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def variant_of(launch: Launch) -> Variant:
    """What a launch needs compiled."""
    integers = [name for name, v in launch.arguments.items() if isinstance(v, int) and v > 0 and v % 16 == 0]
    return Variant(
        launch.kernel,
        tuple((name, _type(value)) for name, value in launch.arguments.items()),
        tuple(launch.constants.items()),
        tuple(integers),
        launch.threads,
    )


def _type(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, Operand):
        return _POINTERS[value.dtype]
    if isinstance(value, Table):
        return "*i64"
    if isinstance(value, float):
        return "fp64"
    if not -(2**31) <= value < 2**31:
        raise OverflowError(f"size: expected at most 2**31 - 1, got {abs(value)}")
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


def compile_variant(variant: Variant, arch: int) -> Binary:
    """Compiles for an architecture, 80 or 90 as in sm_80 or sm_90. Needs no GPU. Raises ImportError without the compiler."""
    return (_compile_triton if variant.kernel.language == "triton" else _compile_numba)(variant, arch)


def _compile_triton(variant: Variant, arch: int) -> Binary:
    os.environ.setdefault("TRITON_DISABLE_LINE_INFO", "1")  # a third of the size, and no paths inside
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = [name for name, _ in variant.signature]
    parameters = variant.kernel.parameters
    types = {name: "constexpr" if kind == "absent" else kind for name, kind in variant.signature}
    values = dict(variant.constants) | {name: None for name, kind in variant.signature if kind == "absent"}
    aligned = [name for name, kind in variant.signature if kind[0] == "*" or name in variant.sixteenths]
    assert set(parameters) == {*names, *dict(variant.constants)}
    source = ASTSource(
        fn=variant.kernel.jit,
        signature={name: types.get(name, "constexpr") for name in parameters},
        constexprs=values,
        attrs={(parameters.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": variant.threads // 32})
    about = compiled.metadata
    plain = about.num_ctas == 1 and not about.launch_pdl and not about.tensordesc_meta
    if not plain or about.global_scratch_size or about.profile_scratch_size:
        raise RuntimeError(f"{about.name}: needs a launch of a kind that is not made here")
    return Binary(about.name, compiled.asm["cubin"], 32 * about.num_warps, about.shared, hidden=2)


def _compile_numba(variant: Variant, arch: int) -> Binary:
    from numba import cuda, types

    kinds = {
        "*fp32": types.CPointer(types.float32), "*fp64": types.CPointer(types.float64),
        "*i64": types.CPointer(types.int64), "*u32": types.CPointer(types.uint32),
        "i32": types.int32, "fp64": types.float64,
    }  # fmt: skip
    signature = types.void(*(kinds[kind] for _, kind in variant.signature))
    ptx, _ = cuda.compile(
        variant.kernel.function, signature, cc=divmod(arch, 10), device=False, abi="numba", output="ptx",
        launch_bounds=(variant.threads, 1),
    )  # fmt: skip
    entry = re.search(r"\.entry\s+([^\s(]+)", ptx)
    assert entry
    return Binary(entry[1], ptx.encode() + b"\0", variant.threads, 0, hidden=0)


class Store:
    """Binaries in a folder, each with its description beside it. Safe for any number of processes: files are written
    whole, and what does not match its description counts as missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Binary | None:
        """The binary of that key, None if there is none."""
        try:
            about = json.loads((self.folder / f"{key}.json").read_text())
            code = (self.folder / f"{key}.bin").read_bytes()
            if hashlib.sha256(code).hexdigest() != about.pop("sha256"):
                return None
            return Binary(code=code, **about)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, binary: Binary) -> None:
        """Stores it. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = asdict(binary)
        about["sha256"] = hashlib.sha256(about.pop("code")).hexdigest()
        write_file(self.folder / f"{key}.bin", binary.code)
        write_file(self.folder / f"{key}.json", json.dumps(about).encode())


def stores() -> list[Store]:
    """Where binaries are looked for: the folder of ``LATENTCORE_KERNELS``, compiled ahead of time; then the cache, of these
    versions of the compilers, in ``LATENTCORE_CACHE`` or the user's cache."""
    found = []
    if os.environ.get("LATENTCORE_KERNELS"):
        found.append(Store(Path(os.environ["LATENTCORE_KERNELS"])))
    home = os.environ.get("LATENTCORE_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "latentcore"
    )
    versions = "-".join(f"{name}-{_version(name)}" for name in _COMPILERS.values())
    return [*found, Store(Path(home) / "kernels" / versions)]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def binary_of(launch: Launch, arch: int) -> Binary:
    """The binary of a launch, compiled if it is in no store. Raises ImportError if it must be compiled and the compiler is
    not installed."""
    variant = variant_of(launch)
    key, places = variant.key(arch), stores()
    for store in places:
        found = store.get(key)
        if found is not None:
            return found
    try:
        binary = compile_variant(variant, arch)
    except ImportError as error:
        name = _COMPILERS[variant.kernel.language]
        raise ImportError(
            f"backend 'cuda': the kernel {variant.kernel.name} for sm_{arch} must be compiled, and {name} cannot be imported "
            f"({error}); install latentcore[cuda], or set LATENTCORE_KERNELS to kernels compiled ahead of time"
        ) from None
    try:
        places[-1].put(key, binary)
    except OSError as error:  # a read-only home must not keep anyone from running
        print(f"latentcore: kernels cannot be cached: {error}", file=sys.stderr)  # noqa: T201
    return binary
