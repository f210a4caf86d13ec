"""Every kernel of every case, and of whole models, compiled for the architectures of data centres. Needs no GPU."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from cases import DTYPES
from examine import declared, examine
from kernels import SPARE, plan_of

from latentcore.backends.binaries import compile_variant, variant_of
from latentcore.kernels import common_plans, variants_of
from latentcore.ops.launches import launches_of

ARCHS = 80, 90

# Of each kernel the most registers of a thread and bytes of shared memory of a block, over all variants: a little more than
# they take, so that a change for the worse shows.
BUDGETS = {
    "adam_update_block": (64, 0),
    "advance_clock": (32, 0),
    "linear_forward_tile": (255, 65536),
    "linear_backward_input_tile": (255, 65536),
    "linear_backward_weight_tile": (255, 65536),
    "linear_backward_update_tile": (255, 65536),
}


def _variants():
    """By the names of kernels, all that the cases and the common models launch."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("test_*_kernels.py")):
        for case in importlib.import_module(path.stem).CASES:
            for dtype in DTYPES:
                found |= dict.fromkeys(map(variant_of, launches_of(plan_of(case, dtype), case.rows + SPARE)))
    found |= dict.fromkeys(variants_of(common_plans()))
    by_name = {}
    for variant in found:
        by_name.setdefault(variant.kernel.name, []).append(variant)
    return by_name


VARIANTS = _variants()


@pytest.fixture(scope="session")
def taken():
    """What each variant takes on each architecture."""
    work = [(variant, arch) for variants in VARIANTS.values() for variant in variants for arch in ARCHS]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        return dict(zip(work, pool.map(examine, *zip(*work))))


def test_every_kernel_has_a_budget():
    assert VARIANTS.keys() == BUDGETS.keys()


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", VARIANTS)
def test_compiled(name, arch, taken, record_usage):
    for variant in VARIANTS[name]:
        found = taken[variant, arch]
        what = f"{variant.signature} {variant.constants} {variant.aligned}"
        hidden = found.parameters[len(declared(variant)) :]
        assert found.parameters[: len(declared(variant))] == declared(variant), what
        assert [size for _, size in hidden] == [8] * found.binary.hidden, what
        assert found.binary.threads == variant.threads, what
        assert found.spilled == 0, f"{what}: {found.spilled} bytes spilled"
        record_usage(name, arch, found.registers, found.shared)
        registers, shared = BUDGETS[name]
        assert found.registers <= registers, f"{what}: {found.registers} registers"
        assert found.shared <= shared, f"{what}: {found.shared} bytes of shared memory"


@pytest.mark.parametrize("language", ["triton", "numba"])
def test_compiling_again_gives_the_same_bytes(language, taken):
    variant = next(v for variants in VARIANTS.values() for v in variants if v.kernel.language == language)
    assert compile_variant(variant, 90) == taken[variant, 90].binary
