"""How an op declares its arguments: ``"y[r,o] before?[r,o] = x[r,i] w{o,i}"``.

Outputs stand before the ``=``, inputs after it; ``?`` marks what may be absent. ``[...]`` is an array and ``{o,i}`` the
weight of a linear layer with its bias. A dimension is a letter, a number times a letter, an option times a letter, a
number, or ``steps``. ``:dtype`` names a dtype other than the plan's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Dim = int | str  # an int, "rows", "c*rows" or "steps"
Size = tuple[int, str]  # a value, and its unit: "", "rows" or "steps"
Described = tuple[str, str, str, list[Size]]  # a buffer's name, layout, dtype and shape

_ARGUMENT = re.compile(r"(\w+)(\??)([\[{])([^\]}]*)[\]}](?::(\w+))?")


def size_of(dim: Dim) -> Size:
    """A dimension as (value, unit), unit one of "", "rows", "steps"."""
    if isinstance(dim, int):
        return (dim, "")
    head, _, tail = dim.rpartition("*")
    if tail not in ("rows", "steps") or (head and not head.isdecimal()):
        raise ValueError(f"dimension: expected an int, 'rows', 'c*rows' or 'steps', got {dim!r}")
    return (int(head or 1), tail)


class Clock:
    """The scalars of one run: see ``csrc/op.h``."""

    def __init__(
        self,
        rows: int = 0,
        step: int = 0,
        epoch: int = 0,
        offset: int = 0,
        iteration: int = 0,
        sample: int = 0,
        seed: int = 0,
    ) -> None:
        self.rows, self.step, self.epoch, self.offset = rows, step, epoch, offset
        self.iteration, self.sample, self.seed = iteration, sample, seed


class Argument(NamedTuple):
    """One argument of a signature."""

    name: str
    optional: bool
    layout: str
    dims: tuple[str, ...]
    dtype: str | None


class Op:
    """An op: its signature, its options with their defaults, its reference and its cost in FLOPs. codes: the options that
    name one of a few, and these."""

    def __init__(
        self,
        name: str,
        signature: str,
        reference: Callable[..., None],
        flops: Callable[[Mapping[str, int], Mapping[str, Any]], float],
        options: Mapping[str, Any] | None = None,
        codes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.name, self.signature, self.reference, self.flops = name, signature, reference, flops
        self.options, self.codes = options or {}, codes or {}
        left, _, right = signature.partition("=")
        sides = [[_argument(m) for m in _ARGUMENT.finditer(side)] for side in (left, right)]
        self.arguments, self.outputs = tuple(sides[0] + sides[1]), len(sides[0])
        parts = (part.rpartition("*")[2] for a in self.arguments for part in a.dims)
        self.letters = tuple(dict.fromkeys(part for part in parts if _is_letter(part)))
        self.timed = "clock" in reference.__code__.co_varnames  # the reference takes the clock

    def option_numbers(self, options: Mapping[str, Any]) -> list[float]:
        """The options as the kernels take them, in the order of their declaration."""
        return [float(self.codes[k].index(v)) if k in self.codes else float(v) for k, v in options.items()]

    def unify(self, buffers: Sequence[Described | None], options: Mapping[str, Any], real: str) -> dict[str, Size]:
        """The size of each letter. Raises ValueError where an argument is missing or does not fit the others."""
        for k, names in self.codes.items():
            if options[k] not in names:
                raise ValueError(f"{self.name}: {k}: expected one of {', '.join(names)}, got {options[k]!r}")
        sizes: dict[str, Size] = dict.fromkeys(self.letters, (0, ""))
        known: set[str] = set()
        for argument, buffer in zip(self.arguments, buffers, strict=True):
            if buffer is None:
                if not argument.optional:
                    raise ValueError(f"{self.name}: argument {argument.name!r} is missing; it is {self.signature}")
                continue
            name, layout, dtype, shape = buffer
            want = argument.dtype or real
            fits = layout == argument.layout and dtype == want and len(shape) == len(argument.dims)
            if not fits or not all(self._fit(d, s, sizes, known, options) for d, s in zip(argument.dims, shape)):
                raise ValueError(
                    f"{self.name}: {argument.name}: buffer {name!r} ({layout} {dtype} {shape}) does not fit "
                    f"{self.signature} with { ({k: sizes[k] for k in known}) }"
                )
        return sizes

    @staticmethod
    def _fit(dim: str, actual: Size, sizes: dict[str, Size], known: set[str], options: Mapping[str, Any]) -> bool:
        if dim == "steps":
            return actual == (1, "steps")
        head, _, letter = dim.rpartition("*")
        if not _is_letter(letter):
            return actual == (int(letter), "")
        times = int(options[head]) if head in options else int(head or 1)
        if actual[1] == "steps" or times < 1 or actual[0] % times:
            return False
        size = (actual[0] // times, actual[1])
        if letter in known:
            return sizes[letter] == size
        known.add(letter)
        sizes[letter] = size
        return True


def _argument(match: re.Match[str]) -> Argument:
    name, optional, bracket, dims, dtype = match.groups()
    return Argument(name, bool(optional), "array" if bracket == "[" else "weight", tuple(dims.split(",")), dtype)


def _is_letter(text: str) -> bool:
    return text.isalpha() and text != "steps"
