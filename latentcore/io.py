"""Model files: one safetensors file, tensors and a JSON header; written whole or not at all, read with suspicion."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _from_bytes
from safetensors.numpy import save as _to_bytes

FORMAT = 1
_KEY = "latentcore"
_MAX_HEADER = 64 << 20


def write_file(path: Any, data: bytes) -> None:
    """Writes a file beside its name and renames it into place: whatever goes wrong, the old file stays whole. Raises
    OSError."""
    target = Path(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_model(path: Any, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Saves tensors and a header. Raises TypeError for a header that JSON cannot hold, OSError."""
    text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    # safetensors writes the memory of a strided array as it lies
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    write_file(path, _to_bytes(plain, {_KEY: text}))


def read_model(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and tensors of a model file. Raises ValueError, naming what is wrong, for a file that is none; OSError."""
    data = Path(path).read_bytes()
    try:
        tensors = _from_bytes(data)
        length = int.from_bytes(data[:8], "little")
        if length > _MAX_HEADER:
            raise ValueError(f"a header of {length} bytes, at most {_MAX_HEADER} are read")
        text = json.loads(data[8 : 8 + length]).get("__metadata__", {}).get(_KEY)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from None
    if text is None:
        raise ValueError(f"{path}: not a model of latentcore: its metadata has no {_KEY!r}")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ValueError(f"{path}: expected format {FORMAT}, got {found!r}")
    return header, tensors
