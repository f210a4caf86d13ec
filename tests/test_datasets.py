import gzip
import itertools
import os
import re
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from latentcore import datasets

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def header(code, *sizes):
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes), *sizes)


def idx(array):
    return header(CODES[array.dtype.name], *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


def extreme(dtype, shape):
    """An array of `dtype` whose first entries are its extreme values; no two rows alike."""
    dtype = np.dtype(dtype)
    array = np.arange(np.prod(shape)).astype(dtype)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        array[:6] = [info.max, info.min, info.smallest_subnormal, -0.0, np.inf, np.nan]
    else:
        info = np.iinfo(dtype)
        array[:2] = [info.max, info.min]
    return array.reshape(shape)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 5), (7, 1, 1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize("dtype", CODES)
def test_every_element_type_comes_back(tmp_path, dtype, shape, compressed):
    array = extreme(dtype, shape)
    path = tmp_path / "x.idx"
    path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))
    got = datasets.load_idx(path)
    assert got.dtype == array.dtype
    assert got.dtype.isnative
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert got.shape == shape
    assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (3, 0)])
def test_an_empty_dimension_is_data_too(tmp_path, shape):
    path = tmp_path / "x.idx"
    path.write_bytes(header(0x0D, *shape))
    got = datasets.load_idx(path)
    assert got.shape == shape
    assert got.dtype == np.float32


@pytest.mark.parametrize("level", [0, 9])
def test_gzip_members_larger_than_a_read_join(tmp_path, level):
    array = np.random.default_rng(0).integers(0, 4, (1013, 1009), np.uint8)
    data = idx(array)
    cuts = [0, 3, 10, 10, 600_011, len(data)]
    members = [gzip.compress(data[a:b], level) for a, b in itertools.pairwise(cuts)]
    path = tmp_path / "x.gz"
    path.write_bytes(b"".join(members))
    np.testing.assert_array_equal(datasets.load_idx(path), array)


def test_either_name_finds_the_file(tmp_path):
    array = np.arange(5, dtype=np.int32)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "misnamed.gz").write_bytes(idx(array))
    for name in ("packed", "packed.gz", "plain", "plain.gz", "misnamed", "misnamed.gz"):
        np.testing.assert_array_equal(datasets.load_idx(tmp_path / name), array)
        np.testing.assert_array_equal(datasets.load_idx(str(tmp_path / name)), array)


@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_missing_file_names_both_names_tried(tmp_path, name):
    with pytest.raises(FileNotFoundError) as error:
        datasets.load_idx(tmp_path / name)
    assert set(str(error.value).partition("tried ")[2].split(", ")) == {str(tmp_path / "x"), str(tmp_path / "x.gz")}


def test_a_folder_and_a_pipe_are_not_files(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(FileNotFoundError, match=name):
            datasets.load_idx(tmp_path / name)


GOOD = idx(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
PACKED = gzip.compress(GOOD)
MALFORMED = {
    "empty": (b"", "the file is empty"),
    "gzip of nothing": (gzip.compress(b""), "the file is empty"),
    "half a magic number": (GOOD[:3], "truncated header: expected 4 bytes of magic number, got 3"),
    "a lone first byte of gzip": (PACKED[:1], "truncated header: expected 4 bytes of magic number, got 1"),
    "text": (b"label,pixel0,pixel1\n", "not an IDX file: expected a magic number that begins with 0000, got 6c616265"),
    "second byte of magic": (b"\0\x01" + GOOD[2:], "not an IDX file: .* got 00010b03"),
    "little-endian": (GOOD[3::-1] + GOOD[4:], "not an IDX file: .* got 030b0000"),
    "gzip of gzip": (gzip.compress(PACKED), "not an IDX file: .* got 1f8b"),
    "element type 0": (header(0, 4) + bytes(4), "unknown IDX element type 0x00: expected one of 0x08, 0x09, 0x0b"),
    "element type 0x0a": (header(0x0A, 4) + bytes(4), "unknown IDX element type 0x0a"),
    "element type 0xff": (header(0xFF, 4) + bytes(4), "unknown IDX element type 0xff"),
    "no dimension": (header(0x08) + b"\0", "expected 1 to 8 dimensions, the header says 0"),
    "9 dimensions": (header(0x08, *[1] * 9) + b"\0", "expected 1 to 8 dimensions, the header says 9"),
    "255 dimensions": (header(0x08, *[1] * 255) + b"\0", "expected 1 to 8 dimensions, the header says 255"),
    "no sizes": (GOOD[:4], "truncated header: expected 12 bytes for 3 dimensions, got 0"),
    "half a size": (GOOD[:13], "truncated header: expected 12 bytes for 3 dimensions, got 9"),
    "product wraps to 0 in 64 bits": (header(0x08, *[2**31] * 4), "exceeds the limit"),
    "product wraps to 1 in 64 bits": (header(0x08, 2**32 - 1, 2**32 - 1, 1) + b"\0", "exceeds the limit"),
    "bytes wrap, elements do not": (header(0x0E, 2**31, 2**30), "exceeds the limit"),
    "largest header": (header(0x0E, *[2**32 - 1] * 8), "exceeds the limit"),
    "one above the limit": (header(0x08, 2**17, 2**17 + 1), "exceeds the limit of 17179869184 bytes"),
    "empty dimension among huge ones": (header(0x0E, 0, 2**32 - 1, 2**32 - 1), "exceeds the limit"),
    "more than the file holds": (
        header(0x08, 2**32 - 1) + b"\0",
        "truncated data: .* takes 4294967295 bytes, .* most 1$",
    ),
    "more than gzip can hold": (gzip.compress(header(0x08, 2**32 - 1)), "truncated data: .* takes 4294967295 bytes"),
    "one byte short": (GOOD[:-1], r"truncated data: .*shape \(2, 3, 4\) of int16 takes 48 bytes, .* at most 47"),
    "no data": (GOOD[:16], "truncated data: .* takes 48 bytes, .* at most 0"),
    "one byte over": (GOOD + b"\0", r"trailing bytes after the 48 of shape \(2, 3, 4\) of int16"),
    "data after an empty dimension": (header(0x08, 0) + b"\0", "trailing bytes after the 0"),
    "gzip, one byte short": (gzip.compress(GOOD[:-1]), "truncated data: expected 48 bytes .* got 47"),
    "gzip, one byte over": (gzip.compress(GOOD + b"\0"), "trailing bytes after the 48"),
    "gzip, a second file behind": (PACKED + PACKED, "trailing bytes after the 48"),
    "gzip magic alone": (PACKED[:2], "truncated gzip stream"),
    "gzip header cut": (PACKED[:9], "truncated gzip stream"),
    "gzip data cut": (PACKED[: len(PACKED) // 2], "truncated gzip stream"),
    "gzip checksum missing": (PACKED[:-8], "truncated gzip stream"),
    "gzip checksum cut": (PACKED[:-1], "truncated gzip stream"),
    "gzip checksum wrong": (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "corrupt gzip stream .*incorrect data check"),
    "gzip length wrong": (PACKED[:-4] + b"\0\0\0\0", "corrupt gzip stream .*incorrect length check"),
    "gzip method unknown": (PACKED[:2] + b"\x07" + PACKED[3:], "corrupt gzip stream .*unknown compression method"),
    "gzip block type unknown": (PACKED[:10] + b"\xff" * 40, "corrupt gzip stream .*invalid block type"),
    "gzip, text behind": (PACKED + b"text", "corrupt gzip stream .*incorrect header check"),
}


@pytest.mark.parametrize(("data", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_gets_a_clear_error(tmp_path, data, message):
    path = tmp_path / "x.idx"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as error:
            datasets.load_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: ")


def test_every_cut_and_every_flipped_byte_is_survived(tmp_path):
    path = tmp_path / "x.idx"
    for data in (GOOD, PACKED):
        for at in range(len(data)):
            path.write_bytes(data[:at])
            with pytest.raises(ValueError, match=re.escape(str(path))):
                datasets.load_idx(path)
            path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
            try:
                got = datasets.load_idx(path)
            except ValueError as error:
                assert str(error).startswith(str(path))  # noqa: PT017 -- either outcome is right
            else:
                assert got.nbytes <= len(GOOD)


def test_a_gzip_bomb_is_not_inflated(tmp_path, monkeypatch):
    """No more than the header promises and one byte leaves the decompressor, whatever the stream holds."""
    inflated = []

    class Counting:
        def __init__(self, wbits):
            self._real = zlib.decompressobj(wbits=wbits)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def decompress(self, data, limit):
            out = self._real.decompress(data, limit)
            inflated.append(len(out))
            return out

    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(header(0x08, 100) + bytes(1 << 26)))
    counting = type("zlib", (), {"decompressobj": staticmethod(lambda wbits: Counting(wbits)), "error": zlib.error})
    monkeypatch.setattr(datasets, "zlib", counting)
    with pytest.raises(ValueError, match="trailing bytes after the 100"):
        datasets.load_idx(bomb)
    assert sum(inflated) == 4 + 4 + 100 + 1


def write_mnist(folder, images, labels, prefix="train"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


@pytest.mark.parametrize("folder", ["", "mnist"])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_mnist_is_found_and_scaled(tmp_path, folder, split, prefix):
    rng = np.random.default_rng(0)
    pixels, digits = rng.integers(0, 256, (7, 28, 28), np.uint8), rng.integers(0, 10, 7, np.uint8)
    pixels[0, 0, :2] = 0, 255
    write_mnist(tmp_path / folder, pixels, digits, prefix)
    images, labels = datasets.load_mnist(tmp_path, split)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images, pixels.reshape(7, 784).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(labels, digits)
    assert images.min() == 0
    assert images.max() == 1


def test_images_and_labels_come_from_one_folder(tmp_path):
    write_mnist(tmp_path, np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8))
    write_mnist(tmp_path / "mnist", np.ones((3, 28, 28), np.uint8), np.ones(3, np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError) as error:
        datasets.load_mnist(tmp_path)
    stem = tmp_path / "train-labels-idx1-ubyte"
    assert str(error.value) == f"no such file: tried {stem}, {stem}.gz"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((3, 28, 28), np.uint8),
            np.zeros(4, np.uint8),
            r"expected 3 uint8 labels.* got uint8 of shape \(4,\)",
        ),
        (np.zeros((3, 28, 28), np.uint8), np.zeros((3, 1), np.uint8), r"expected 3 uint8 labels.* of shape \(3, 1\)"),
        (np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.int32), "expected 3 uint8 labels.* got int32"),
        (np.zeros((3, 28, 28), np.uint8), np.full(3, 10, np.uint8), "expected labels in 0..9, got 10"),
        (np.zeros((3, 28, 27), np.uint8), np.zeros(3, np.uint8), r"expected uint8 images .* of shape \(3, 28, 27\)"),
        (np.zeros((3, 784), np.uint8), np.zeros(3, np.uint8), r"expected uint8 images .* of shape \(3, 784\)"),
        (np.zeros((3, 28, 28), np.float32), np.zeros(3, np.uint8), "expected uint8 images .* got float32"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8), "with n > 0"),
    ],
)
def test_mnist_files_that_do_not_fit_are_refused(tmp_path, images, labels, message):
    write_mnist(tmp_path, images, labels)
    with pytest.raises(ValueError, match=message):
        datasets.load_mnist(tmp_path)


def test_mnist_that_is_missing_names_every_path_tried(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        datasets.load_mnist(tmp_path / "nowhere", "test")
    for tail in ("", "mnist"):
        stem = tmp_path / "nowhere" / tail / "t10k-images-idx3-ubyte"
        assert f"{stem}, {stem}.gz" in str(error.value)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="split: expected 'train' or 'test', got 'valid'"):
        datasets.load_mnist(tmp_path, "valid")


@pytest.mark.skipif("LATENTCORE_DATA" not in os.environ, reason="LATENTCORE_DATA, the folder above mnist, is not set")
def test_mnist_itself():
    root = Path(os.environ["LATENTCORE_DATA"])
    images, labels = datasets.load_mnist(root, "train")
    assert images.shape == (60000, 784)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_allclose(images.mean(dtype=np.float64), 0.1306604762738429, rtol=1e-6)
    images, labels = datasets.load_mnist(root / "mnist", "test")
    assert images.shape == (10000, 784)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_digits():
    pytest.importorskip("sklearn")
    images, labels = datasets.load_digits()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images[0, :8] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert (images.min(), images.max()) == (0, 1)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"^load_digits needs scikit-learn: pip install scikit-learn$"):
        datasets.load_digits()
