"""Model files: one safetensors file, tensors and a JSON header; written whole or not at all, read with suspicion.

The header is the one key of the metadata, ``latentcore``. It begins with ``crc32``, eight hexadecimal digits: the
CRC-32 of the whole file with these digits as zeros.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _from_bytes
from safetensors.numpy import save as _to_bytes

from .checks import check_path, shown

FORMAT = 1
_KEY, _ZEROS = "latentcore", "00000000"
# JSON inside a string of JSON: in the strings of the inner one a quote has three backslashes before it
_CHECKSUM = re.compile(rb'{\\"crc32\\": \\"([0-9a-f]{8})\\"')
_MAX_HEADER = 8 << 20  # JSON may take twenty times its size in memory


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
    """Saves tensors and a header. Raises TypeError or ValueError for a header that JSON cannot hold, OSError."""
    text = json.dumps({"crc32": _ZEROS, "format": FORMAT, **header}, allow_nan=False)
    # safetensors writes the memory of a strided array as it lies
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    data = bytearray(_to_bytes(plain, {_KEY: text}))
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER:
        raise ValueError(f"model: its description takes {length} bytes, a file holds at most {_MAX_HEADER}")
    at = _find_checksum(data[: 8 + length])
    data[at : at + 8] = _checksum(data, at)
    write_file(path, data)


def _find_checksum(head: bytes | bytearray) -> int:
    """Where the digits stand."""
    found = _CHECKSUM.search(head)
    if found is None:
        raise ValueError("the checksum is missing")
    return found.start(1)


def _checksum(data: bytes | bytearray, at: int) -> bytes:
    view = memoryview(data)
    crc = zlib.crc32(view[at + 8 :], zlib.crc32(_ZEROS.encode(), zlib.crc32(view[:at])))
    return b"%08x" % crc


def read_model(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and tensors of a model file. Raises TypeError for no path, ValueError, naming what is wrong, for a file
    that is no model or is damaged; OSError. What it allocates is bounded by the size of the file."""
    given = check_path(path)
    status = given.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{given}: expected a regular file")
    with given.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= status.st_size - 8:
            raise ValueError(
                f"{given}: not a safetensors file: its {status.st_size} bytes cannot hold a header of {length} bytes"
            )
        if length > _MAX_HEADER:
            raise ValueError(f"{given}: expected a header of at most {_MAX_HEADER} bytes, got {length}")
        head = file.read(length)
        header = _header(given, head)
        file.seek(0)
        data = file.read(status.st_size)
    try:
        at = _find_checksum(data[: 8 + length])
        computed, stored = _checksum(data, at), data[at : at + 8]
        if computed != stored:
            raise ValueError(f"the checksum is {stored.decode()}, the contents give {computed.decode()}")
        tensors = _from_bytes(data)
    except KeyError as error:
        raise ValueError(f"{given}: the file is damaged: a tensor of the unknown dtype {error}") from None
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{given}: the file is damaged: {error}") from None
    header.pop("crc32", None)
    return header, tensors


def _header(path: Path, head: bytes) -> dict[str, Any]:
    """The header in the JSON of a safetensors file."""
    try:
        outer = _json(head.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a safetensors file: its header is not JSON: {error}") from None
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    text = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{path}: not a model of latentcore: its metadata has no text {_KEY!r}")
    try:
        header = _json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the file is damaged: its description is not JSON: {error}") from None
    found = header.get("format") if isinstance(header, dict) else None
    if not isinstance(header, dict) or isinstance(found, bool) or found != FORMAT:
        raise ValueError(f"{path}: expected a model of format {FORMAT}, got {shown(found)}")
    return header


def _json(text: str) -> Any:
    """JSON without what readers disagree on: keys given twice, huge integers, NaN and infinities."""
    return json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"the key {shown(key)} is given twice")
        unique[key] = value
    return unique


def _integer(digits: str) -> int:
    if len(digits) > 20:  # 2**64 has 20
        raise ValueError(f"{digits[:20]}... is too large")
    return int(digits)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
