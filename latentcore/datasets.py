"""Readers for the data sets of the demo and the benchmarks: IDX files (MNIST) and scikit-learn's handwritten digits."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_digits", "load_idx", "load_mnist"]

MAX_DIMS = 8
MAX_BYTES = 1 << 34
_CHUNK = 1 << 18
# A deflate stream cannot expand further: 258 bytes from two one-bit codes.
_DEFLATE_MAX_RATIO = 1032
_ELEMENT_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


class _Reader(Protocol):
    def read(self, limit: int, /) -> bytes: ...


class _Gunzip:
    """Reads the members of a gzip file one after another and never decompresses more than it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._member = zlib.decompressobj(wbits=31)
        self._pending = b""

    def read(self, limit: int, /) -> bytes:
        """Return 1 to `limit` bytes, or none at the end of the last member, whose checksum is then verified.

        Raises ValueError for a stream that is cut off or damaged.
        """
        while True:
            if self._member.eof:
                self._pending = self._member.unused_data or self._file.read(_CHUNK)
                if not self._pending:
                    return b""
                self._member = zlib.decompressobj(wbits=31)
            self._pending = self._pending or self._file.read(_CHUNK)
            if not self._pending:
                raise ValueError("truncated gzip stream")
            try:
                data = self._member.decompress(self._pending, limit)
            except zlib.error as error:
                raise ValueError(f"corrupt gzip stream ({error})") from None
            self._pending = self._member.unconsumed_tail
            if data:
                return data


def _fill(reader: _Reader, buffer: memoryview) -> int:
    """Read into `buffer` until it is full or the data ends; return the number of bytes read."""
    filled = 0
    while filled < len(buffer):
        data = reader.read(min(len(buffer) - filled, _CHUNK))
        if not data:
            break
        buffer[filled : filled + len(data)] = data
        filled += len(data)
    return filled


def _read_idx(file: BinaryIO) -> NDArray[Any]:
    file_bytes = os.fstat(file.fileno()).st_size
    start = file.read(len(_GZIP_MAGIC))
    file.seek(0)
    compressed = start == _GZIP_MAGIC
    reader: _Reader = _Gunzip(file) if compressed else file

    magic = bytearray(4)
    got = _fill(reader, memoryview(magic))
    if got == 0:
        raise ValueError("the file is empty")
    if got < 4:
        raise ValueError(f"truncated header: expected 4 bytes of magic number, got {got}")
    if magic[:2] != b"\0\0":
        raise ValueError(f"not an IDX file: expected a magic number that begins with 0000, got {magic.hex()}")
    if magic[2] not in _ELEMENT_TYPES:
        known = ", ".join(f"0x{code:02x}" for code in _ELEMENT_TYPES)
        raise ValueError(f"unknown IDX element type 0x{magic[2]:02x}: expected one of {known}")
    dtype, ndim = np.dtype(_ELEMENT_TYPES[magic[2]]), magic[3]
    if not 1 <= ndim <= MAX_DIMS:
        raise ValueError(f"expected 1 to {MAX_DIMS} dimensions, the header says {ndim}")

    sizes = bytearray(4 * ndim)
    got = _fill(reader, memoryview(sizes))
    if got < len(sizes):
        raise ValueError(f"truncated header: expected {len(sizes)} bytes for {ndim} dimensions, got {got}")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    n_bytes = math.prod(shape) * dtype.itemsize
    # Empty dimensions count as one here, because NumPy bounds the others too.
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"the header's shape {shape} of {dtype.name} exceeds the limit of {MAX_BYTES} bytes")
    header_bytes = len(magic) + len(sizes)
    most = file_bytes * _DEFLATE_MAX_RATIO if compressed else file_bytes - header_bytes
    if n_bytes > most:
        raise ValueError(
            f"truncated data: the header's shape {shape} of {dtype.name} takes {n_bytes} bytes, "
            f"the file can hold at most {most}"
        )

    raw = np.empty(n_bytes, np.uint8)
    got = _fill(reader, raw.data)
    if got < n_bytes:
        raise ValueError(f"truncated data: expected {n_bytes} bytes for shape {shape} of {dtype.name}, got {got}")
    if reader.read(1):
        raise ValueError(f"trailing bytes after the {n_bytes} of shape {shape} of {dtype.name}")
    return raw.view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _first_file(*candidates: Path) -> Path:
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no such file: tried {', '.join(map(str, candidates))}")


def load_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read one IDX file, plain or gzip (told by its first bytes, not by its name).

    Where `path` is not a file, the same name with `.gz` added (or taken away) is tried. Returns an array of the shape
    and element type in the file's header (uint8, int8, int16, int32, float32 or float64), in native byte order.

    Raises FileNotFoundError, naming both names tried, and ValueError for a malformed file: wrong magic number, unknown
    element type, no dimension or more than 8, a size above 16 GiB, data that is cut off, damaged or followed by
    more. At most one byte more than the header promises is ever decompressed.
    """
    name = os.fspath(path)
    found = _first_file(Path(name), Path(name.removesuffix(".gz") if name.endswith(".gz") else name + ".gz"))
    with found.open("rb") as file:
        try:
            return _read_idx(file)
        except ValueError as error:
            raise ValueError(f"{found}: {error}") from None


def load_mnist(
    root: str | os.PathLike[str], split: Literal["train", "test"] = "train"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read MNIST, or a data set in its format, from the IDX files in `root` or `root/mnist`, each plain or `.gz`.

    Returns images, float32 of shape (n, 784) in [0, 1], and labels, int64 of shape (n,) in 0..9.

    Raises FileNotFoundError, naming the paths tried, and ValueError for an unknown split, a malformed file, images
    that are not (n, 28, 28) uint8 with n > 0, or labels that are not n uint8 in 0..9.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise ValueError(f"split: expected 'train' or 'test', got {split!r}")
    images_name, labels_name = (f"{prefixes[split]}-{part}-ubyte" for part in ("images-idx3", "labels-idx1"))
    folders = (Path(root), Path(root) / "mnist")
    images_path = _first_file(*(folder / name for folder in folders for name in (images_name, images_name + ".gz")))
    labels_path = _first_file(*(images_path.parent / name for name in (labels_name, labels_name + ".gz")))

    images, labels = load_idx(images_path), load_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise ValueError(
            f"{images_path}: expected uint8 images of shape (n, 28, 28) with n > 0, "
            f"got {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_path}: expected {len(images)} uint8 labels, as many as there are images, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_path}: expected labels in 0..9, got {labels.max()}")
    return np.divide(images.reshape(-1, 784), 255, dtype=np.float32), labels.astype(np.int64)


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the handwritten digits that scikit-learn carries: 8x8 pixels, in 17 levels of grey.

    Returns images, float32 of shape (1797, 64) in [0, 1], and labels, int64 of shape (1797,) in 0..9.
    Raises ImportError if scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError("load_digits needs scikit-learn: pip install scikit-learn") from error
    images, labels = load(return_X_y=True)
    return np.divide(images, 16, dtype=np.float32), labels.astype(np.int64)
