"""Ways to damage a model file, and to make one that was never sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from latentcore import io

Header, Tensors = dict[str, Any], dict[str, np.ndarray]


def seal(data: bytes | bytearray) -> bytes:
    """Makes the checksum fit, if there is one."""
    sealed = bytearray(data)
    if sealed[8:].startswith(io._OPENING[8:]):
        io.seal(sealed)
    return bytes(sealed)


def raw(header: bytes | str, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with that header."""
    text = header.encode() if isinstance(header, str) else header
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def wrapped(text: str) -> bytes:
    """A file whose description is that text."""
    return raw(compact({"__metadata__": {"latentcore": text}}))


def compact(tree: Any) -> str:
    """JSON without spaces, as safetensors writes it."""
    return json.dumps(tree, separators=(",", ":"))


def change(key: str, value: Any) -> Callable[[Header, Tensors], None]:
    def changed(header: Header, tensors: Tensors) -> None:
        where: Any = header
        *path, last = key.split("/")
        for part in path:
            where = where[part]
        where[last] = value

    return changed


def tensor(name: str, edit: Callable[[np.ndarray], Any] | None) -> Callable[[Header, Tensors], None]:
    def changed(header: Header, tensors: Tensors) -> None:
        array = tensors.pop(name, np.zeros(1))
        if edit:
            tensors[name] = edit(array)

    return changed
