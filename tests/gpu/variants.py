"""Every kernel of every case, of whole models and of wide layers. As a program it compiles them all for the GPU at hand into
the cache, on all processors, so that no test waits for a compiler."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # cases, and those of each op

import test_linear
from cases import DTYPES, Case
from kernels import SPARE, plan_of

from latentcore.backends.binaries import Variant, cache, compile_all, variant_of
from latentcore.kernels import common_plans, variants_of
from latentcore.ops.launches import launches_of

_WIDE = (1024, 1024), (1031, 1027)  # layers that get the larger tiles, of sizes that 16 divides and of others


def cases() -> Iterator[Case]:
    """The cases of all kernel tests."""
    for path in sorted(Path(__file__).parent.glob("test_*_kernels.py")):
        yield from importlib.import_module(path.stem).CASES


def wide_layers() -> Iterator[Case]:
    """Layers whose activations take the most registers."""
    for outputs, inputs in _WIDE:
        yield from (test_linear.forward(1, inputs, outputs, name) for name in ("tanh", "gelu"))
        yield from (test_linear.backward_input(1, inputs, outputs, name) for name in ("softplus", "gelu"))
        yield test_linear.backward_weight(1, inputs, outputs)


def variants() -> dict[str, list[Variant]]:
    """By the names of kernels, all that these launch."""
    found: dict[Variant, None] = {}
    wide, precisions = list(wide_layers()), {"float32": ("ieee", "tf32"), "float64": ("ieee",)}
    for case in [*cases(), *wide]:
        for dtype in DTYPES:
            for precision in precisions[dtype] if case in wide else ("ieee",):
                launches = launches_of(plan_of(case, dtype), case.rows + SPARE, precision)
                found |= dict.fromkeys(map(variant_of, launches))
    found |= dict.fromkeys(variants_of(common_plans()))
    by_name: dict[str, list[Variant]] = {}
    for variant in found:
        by_name.setdefault(variant.kernel.name, []).append(variant)
    return by_name


def main() -> None:
    """Fills the cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, help="in the place of that of the GPU at hand: 90 for sm_90")
    parser.add_argument("--most", type=int, help="compile so many at most, to rehearse")
    options = parser.parse_args()
    if options.arch is None:
        from latentcore.backends.device import CupyDevice

        options.arch = CupyDevice().arch
    every, store = [variant for some in variants().values() for variant in some], cache()
    work = [(variant, options.arch) for variant in every if store.get(variant, options.arch) is None][: options.most]
    for (variant, arch), binary in zip(work, compile_all(work)):
        store.put(variant, arch, binary)
    print(f"{len(work)} of {len(every)} kernels compiled for sm_{options.arch} into {store.folder}")


if __name__ == "__main__":
    main()
