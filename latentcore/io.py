"""Model files: one safetensors file, tensors and a JSON header; written whole or not at all, read with suspicion.

The header is the one key of the metadata, ``latentcore``. It begins with ``crc32``, eight hexadecimal digits: the
CRC-32 of the whole file with these digits as zeros.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import _core
from .checks import check_path

FORMAT = 1
# What a file begins with: the header's length, which takes eight bytes, then JSON inside a string of JSON.
_ZEROS, _OPENING = "00000000", bytes(8) + rb'{"__metadata__":{"latentcore":"{\"crc32\": \"'


def check_writable(path: Any, name: str = "path") -> None:
    """Raises what ``write_file`` would raise, save for a full disk."""
    target, _ = _target(path, name)
    with _telling(path):
        beside = _beside(target)
        beside.touch(exist_ok=False)
        beside.unlink()


def write_file(path: Any, data: bytes | bytearray, name: str = "path") -> None:
    """Writes a file beside its name and renames it into place: whatever goes wrong, the old file stays whole. A file
    that is replaced leaves its permissions to the new one. Raises TypeError or ValueError for no path, OSError."""
    target, mode = _target(path, name)
    beside = _beside(target)
    with _telling(path):
        try:
            with beside.open("xb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise


def _target(path: Any, name: str) -> tuple[Path, int | None]:
    """The file to write, links followed, and the permissions of the one that is there."""
    given = check_path(path, name)
    target = Path(os.path.realpath(given))
    with _telling(path):
        if not target.exists():
            return target, None
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.is_file():
            raise OSError(errno.EINVAL, "Not a regular file")
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return target, stat.S_IMODE(target.stat().st_mode)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.{os.urandom(4).hex()}.tmp")


@contextlib.contextmanager
def _telling(path: Any) -> Iterator[None]:
    """Makes an OSError name the path that the caller gave."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def write_model(path: Any, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Saves tensors and a header. Raises TypeError or ValueError for what no file can hold, OSError."""
    data = encoded(header, tensors)
    try:
        _core.read_model(np.frombuffer(data, np.uint8))
    except ValueError as error:
        raise ValueError(f"model: no file can hold it: {error}") from None
    write_file(path, data)


def encoded(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytearray:
    """The bytes of a file, its contents unchecked. Raises TypeError or ValueError for a header that JSON cannot hold."""
    import json  # these two for writing alone

    from safetensors.numpy import save

    text = json.dumps({"crc32": _ZEROS, "format": FORMAT, **header}, allow_nan=False)
    # safetensors writes the memory of a strided array as it lies
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = bytearray(save(plain, {"latentcore": text}))
    seal(data)
    return data


def seal(data: bytearray) -> None:
    """Writes the checksum of a file into it."""
    place = slice(len(_OPENING), len(_OPENING) + len(_ZEROS))
    data[place] = _ZEROS.encode()
    data[place] = b"%08x" % zlib.crc32(data)


def read_model(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and tensors of a model file. Raises TypeError for no path, ValueError, naming what is wrong, for a file
    that is no model or is damaged; OSError. What it allocates is bounded by the size of the file."""
    given = check_path(path)
    status = given.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{given}: expected a regular file")
    try:
        with given.open("rb") as file:
            _core.model_header_bytes(file.read(8), status.st_size)
            file.seek(0)
            data = np.empty(status.st_size, np.uint8)
            data = data[: file.readinto(data.data)]
        header, entries = _core.read_model(data)
    except ValueError as error:
        raise ValueError(f"{given}: {error}") from None
    header.pop("crc32")
    tensors = {}
    for name, dtype, shape, begin in entries:
        end = begin + math.prod(shape) * np.dtype(dtype).itemsize
        tensors[name] = data[begin:end].view(dtype).reshape(shape)
    return header, tensors
