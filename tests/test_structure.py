"""The shape of the project: which way imports run, where an op lives, how long a file grows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "latentcore"
CSRC = ROOT / "csrc"

# What each part may import beside itself:
# api, kernels -> models -> training -> backends -> plan -> ops, models -> linalg -> backends, and models -> layers -> plan.
BELOW = {
    "ops": set(),
    "plan": {"ops"},
    "layers": {"plan", "ops"},
    "backends": {"io", "plan", "ops", "_core"},
    "checks": set(),
    "linalg": {"backends", "checks", "plan", "ops"},
    "io": {"checks", "_core"},
    "datasets": set(),
    "progress": set(),
    "training": {"progress", "backends", "checks", "io", "plan", "ops"},
    "models": {"training", "linalg", "layers", "backends", "checks", "io", "progress", "plan", "ops"},
    "kernels": {"models", "backends", "plan", "ops"},
    "pytorch": {"models", "checks", "ops"},
    "onnx": {"io", "plan", "ops", "_core"},
    "api": {"models", "onnx", "training", "backends", "checks", "io", "plan", "ops", "_core"},
}
ABOVE = {"__init__", "__main__", "cli"}


def imports(path: Path) -> set[str]:
    """The parts of the package that a file imports, anywhere in it: latentcore.ops.linear is of the part ops."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *(node.module.split(".") if node.module else [])]
            modules = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        found.update([*module.split("."), "__init__"][1] for module in modules if module.split(".")[0] == "latentcore")
    return found


@pytest.mark.parametrize("name", BELOW)
def test_imports_run_one_way(name: str) -> None:
    module = PACKAGE / f"{name}.py"
    files = [module] if module.exists() else sorted((PACKAGE / name).glob("**/*.py"))
    assert files
    for path in files:
        backwards = imports(path) - BELOW[name] - {name}
        assert not backwards, f"{path.relative_to(ROOT)} imports {sorted(backwards)}"


def test_every_part_has_its_place() -> None:
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert parts == BELOW.keys() | ABOVE


def test_import_is_light() -> None:
    program = """
import os, sys
import numpy, safetensors.numpy
tasks = lambda: len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
modules, threads = set(sys.modules), tasks()
import latentcore
print(*sorted({name.split(".")[0] for name in set(sys.modules) - modules} - sys.stdlib_module_names))
print(tasks() - threads)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    foreign, started = run.stdout.splitlines()
    assert set(foreign.split()) <= {"latentcore", "numpy", "safetensors"}
    assert int(started) == 0


def test_every_op_has_its_whole_home() -> None:
    # An op's file lists what it offers in OPS; the others are what ops share.
    references = {path.stem for path in (PACKAGE / "ops").glob("*.py") if "\nOPS = (" in path.read_text()}
    kernels = {path.stem for path in (CSRC / "ops").glob("*.cpp")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert references
    gpu = {path.stem.removesuffix("_cuda") for path in (PACKAGE / "ops").glob("*_cuda.py")}
    assert references == kernels
    assert references <= gpu
    assert references <= tests


@pytest.mark.parametrize("folder", [PACKAGE, CSRC, ROOT / "tests"], ids=lambda folder: folder.name)
def test_no_file_has_two_jobs(folder: Path) -> None:
    files = [path for path in folder.glob("**/*") if path.suffix in {".py", ".pyi", ".cpp", ".h", ".c"}]
    assert files
    long = {path.name: lines for path in files if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_only_the_binding_knows_python() -> None:
    sources = {path: path.read_text() for path in CSRC.glob("**/*") if path.suffix in {".cpp", ".h"}}
    knowing = {path.name for path, text in sources.items() if "pybind11" in text or "Python.h" in text}
    assert knowing == {"bindings.cpp", "function.cpp", "function.h"}
