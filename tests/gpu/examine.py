"""What a compiled kernel takes: its parameters, registers, shared memory and spills, as NVIDIA's tools tell it."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentcore.backends.binaries import Binary, Variant, compile_variant

SIZES = {"i32": 4, "fp64": 8}


@dataclass(frozen=True)
class Taken:
    """parameters: (offset, bytes) of each. spilled: bytes of local memory."""

    binary: Binary
    parameters: list[tuple[int, int]]
    registers: int
    spilled: int
    shared: int


def declared(variant: Variant) -> list[tuple[int, int]]:
    """The parameters that the launch layer fills in, (offset, bytes) of each, without the hidden ones."""
    sizes = [SIZES.get(kind, 8) for _, kind in variant.signature if kind != "absent" or variant.kernel.language == "numba"]
    return laid_out(sizes)


def laid_out(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Where parameters of these sizes lie, each aligned to its own."""
    places, end = [], 0
    for size in sizes:
        begin = -(-end // size) * size
        places.append((begin, size))
        end = begin + size
    return places


def examine(variant: Variant, arch: int) -> Taken:
    """Compiles a variant and looks at it."""
    binary = compile_variant(variant, arch)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        if variant.kernel.language == "numba":
            ptx = Path(folder, "kernel.ptx")
            ptx.write_bytes(binary.code.rstrip(b"\0"))
            log = _run(_tool("nvidia-cuda-nvcc", "ptxas"), "-v", f"--gpu-name=sm_{arch}", ptx, "-o", cubin)
            (spilled,) = re.findall(r"(\d+) bytes spill stores", log)
            (registers,) = re.findall(r"Used (\d+) registers", log)
            shared = sum(map(int, re.findall(r"(\d+) bytes smem", log)))
            sizes = re.findall(r"\.param \.\w(\d+)", binary.code.decode().partition(".entry")[2].partition("{")[0])
            return Taken(binary, laid_out([int(bits) // 8 for bits in sizes]), int(registers), int(spilled), shared)
        cubin.write_bytes(binary.code)
        cuobjdump = _tool("triton", "cuobjdump")
        usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", _run(cuobjdump, "-res-usage", cubin)))
        table = _run(cuobjdump, "-elf", cubin)
        found = re.findall(r"Ordinal\s*:\s*(0x[0-9a-f]+)\s*Offset\s*:\s*(0x[0-9a-f]+)\s*Size\s*:\s*(0x[0-9a-f]+)", table)
        places = sorted(tuple(int(number, 16) for number in each) for each in found)
    parameters = [(offset, size) for _, offset, size in places]
    spilled = int(usage["STACK"]) + int(usage["LOCAL"])
    return Taken(binary, parameters, int(usage["REG"]), spilled, binary.shared)


def _tool(distribution: str, name: str) -> str:
    files = importlib.metadata.files(distribution) or []
    (found,) = [file for file in files if file.name == name and file.parent.name == "bin"]
    return str(found.locate())


def _run(*command: object) -> str:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr
