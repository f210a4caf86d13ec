"""Files that are damaged, of someone else, or made to harm: each is refused with a ValueError that names what is wrong,
or loads as a model that works. Nothing crashes, hangs or takes memory that the file does not pay for.

A file carries a checksum of all its bytes, so that chance damage is always found. To get behind it, a mutation here is
sealed again: its checksum is made to fit.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import Header, Tensors, change, compact, raw, seal, tensor, wrapped
from safetensors.numpy import save_file

import latentcore as lc
from latentcore import io

X = np.random.default_rng(0).random((20, 4), np.float32)

MODELS: dict[str, Callable[[], Any]] = {
    "VAE": lambda: lc.VAE(2, (3,), epochs=2, batch_size=8, random_state=0).fit(X),
    "MLP": lambda: lc.MLP((4, 3, 2), ("gelu", "sigmoid"), random_state=0).initialize(),
    "PCA": lambda: lc.PCA(2, whiten=True, svd_solver="randomized", random_state=0).fit(X),
    "IncrementalPCA": lambda: lc.IncrementalPCA(2).partial_fit(X[:9]).partial_fit(X[9:]),
}


@pytest.fixture(scope="module", params=MODELS)
def content(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small fitted model."""
    path = tmp_path_factory.mktemp("hostile") / "m"
    lc.save(MODELS[request.param](), path)
    return path.read_bytes()


def of(*models: str) -> pytest.MarkDecorator:
    """Runs a test on the files of these models alone."""
    return pytest.mark.parametrize("content", models, indirect=True)


def refused(data: bytes | bytearray, path: Path, says: str = ".") -> None:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=says) as caught:
        lc.load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    assert len(text) - len(str(path)) < 400


def tried(data: bytes | bytearray, path: Path) -> bool:
    """Loads and uses a model; whether it could be loaded."""
    path.write_bytes(data)
    try:
        model: Any = lc.load(path)
    except ValueError as error:
        if not str(error).startswith(f"{path}: "):
            raise
        return False
    x = np.zeros((3, model.n_features_in_), model._dtype)
    out = model.forward(x) if isinstance(model, lc.MLP) else model.inverse_transform(model.transform(x))
    assert np.isfinite(out).all()
    try:
        if isinstance(model, lc.VAE):
            lc.train(model, x, epochs=1)
    except (ValueError, TypeError, FloatingPointError, MemoryError):
        return True  # parameters of training are checked when they are used
    lc.save(model, path)
    return True


# ---- chance damage ---------------------------------------------------------------------------------------------------


def test_every_truncation(content: bytes, tmp_path: Path) -> None:
    for length in range(len(content)):
        refused(content[:length], tmp_path / "m")


def test_what_is_too_long(content: bytes, tmp_path: Path) -> None:
    for more in (b"\0", b"}", content):
        refused(content + more, tmp_path / "m", "the file is damaged: the checksum is")
        refused(seal(content + more), tmp_path / "m", "the file is damaged: its tensors take .* bytes of data, it has")


def test_a_flip_of_any_byte(content: bytes, tmp_path: Path) -> None:
    # header, weights, moments, history: the checksum covers them all, so that no flip is harmless
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        refused(bytes(flipped), tmp_path / "m")


def test_random_damage(content: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(500):
        damaged = bytearray(content)
        at, count = int(rng.integers(len(content))), int(rng.integers(1, 200))
        damaged[at : at + count] = rng.bytes(count) if rng.random() < 0.5 else b""
        assert not tried(bytes(damaged), tmp_path / "m") or bytes(damaged) == content


# ---- sealed again ----------------------------------------------------------------------------------------------------


def test_sealed_mutations_of_bytes(content: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    end = 8 + int.from_bytes(content[:8], "little")
    json_bytes = np.frombuffer(b'0123456789{}[]",:-.eE\\ tfn', np.uint8)
    loaded = 0
    for _ in range(2000):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(8, end)) if rng.random() < 0.7 else int(rng.integers(len(content)))
            at = min(at, len(data) - 1)
            kind = int(rng.integers(4))
            if kind == 0:
                data[at] = int(rng.integers(256))
            elif kind == 1:
                data[at] = int(rng.choice(json_bytes))
            else:
                count = int(rng.integers(1, 20))
                data[at : at + (kind == 3) * count] = data[:0] if kind == 3 else rng.choice(json_bytes, count).tobytes()
                data[:8] = max(0, end - 8 + len(data) - len(content)).to_bytes(8, "little")
        loaded += tried(seal(data), tmp_path / "m")
    assert loaded < 200


VALUES = [
    None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**53, 2**63, 2**64, 10**19, -(2**63), 0.5, -0.0, 1e308, 5e-324, "",
    "x", "rows", "float16", "\ud7ff\x00", [], [1], [[1]], {}, {"a": 1}, [None] * 5, "9" * 3000, list(range(500)),
]  # fmt: skip


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON tree with each of its keys."""
    keys = range(len(tree)) if isinstance(tree, list) else list(tree) if isinstance(tree, dict) else []
    return [place for key in keys for place in [(tree, key), *places(tree[key])]]


def test_sealed_mutations_of_values(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    header, tensors = io.read_model(path)
    text = json.dumps(header)
    rng = np.random.default_rng(3)
    first = len(places({**header, "plans": {}}))
    chosen = [(place, value) for place in range(first) for value in VALUES]  # every value of all but the plans
    plans = range(first, len(places(header)))
    chosen += [(int(rng.choice(plans)), VALUES[int(rng.integers(len(VALUES)))]) for _ in range(500)]
    for place, value in chosen:
        changed = json.loads(text)
        assert list(changed)[-1] == "plans"
        where, key = places(changed)[place]
        where[key] = value
        changed.setdefault("format", 1)
        tried(io.encoded(changed, tensors), path)


# ---- made to harm ----------------------------------------------------------------------------------------------------


MADE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "its 0 bytes cannot hold a header of 0 bytes"),
    "seven bytes": (b"\0" * 7, "its 7 bytes cannot hold a header of 0 bytes"),
    "no header": (raw(b""), "cannot hold a header of 0 bytes"),
    "length beyond the file": (raw("{}", length=3), "its 10 bytes cannot hold a header of 3 bytes"),
    "length 2**63": (raw("{}", length=2**63), f"cannot hold a header of {2**63} bytes"),
    "length 2**64 - 1": (raw("{}", length=2**64 - 1), f"cannot hold a header of {2**64 - 1} bytes"),
    "not UTF-8": (raw(b'{"\xff": 1}'), "its header is not JSON: a text that is not UTF-8 at byte 2"),
    "UTF-16": (raw("{}".encode("utf-16")), "its header is not JSON"),
    "a number": (raw("31"), "not a model of latentcore"),
    "a list": (raw("[]"), "not a model of latentcore"),
    "no metadata": (raw("{}"), "not a model of latentcore: its metadata has no text 'latentcore'"),
    "metadata a list": (raw('{"__metadata__": ["latentcore"]}'), "not a model of latentcore"),
    "description a number": (raw('{"__metadata__": {"latentcore": 1}}'), "not a model of latentcore"),
    "description no JSON": (wrapped("{"), "its description is not JSON"),
    "description a list": (wrapped("[]"), "expected a model of format 1, got nothing"),
    "no format": (wrapped("{}"), "expected a model of format 1, got nothing"),
    "later format": (wrapped('{"format": 2}'), "expected a model of format 1, got 2"),
    "format true": (wrapped('{"format": true}'), "expected a model of format 1, got true"),
    "no checksum": (wrapped('{"format": 1}'), "the checksum is missing"),
    "key twice": (raw('{"a": 1, "a": 2}'), "the key 'a' is given twice"),
    "key twice inside": (wrapped('{"format": 2, "format": 1}'), "the key 'format' is given twice"),
    "NaN": (wrapped('{"format": NaN}'), "its description is not JSON: expected a value at byte 11"),
    "infinity": (wrapped('{"format": -Infinity}'), "its description is not JSON: expected a value at byte 11"),
    "long integer": (wrapped('{"format": ' + "9" * 100_000 + "}"), "the number '9{60}...' is too large at byte 11"),
    "deep": (raw("[" * 1_000_000), "its header is not JSON: nested deeper than 64 levels"),
    "deep inside": (wrapped("[" * 1_000_000), "its description is not JSON: nested deeper than 64 levels"),
    "pickle": (pickle.dumps({"weights": [1.0] * 100}), "cannot hold a header of"),
    "text": (b"# a configuration\nlatent_dim = 20\n" * 10, "cannot hold a header of"),
}


@pytest.mark.parametrize("made", MADE)
def test_made_to_harm(made: str, tmp_path: Path) -> None:
    data, says = MADE[made]
    refused(data, tmp_path / "m", says)


def test_files_of_others(tmp_path: Path) -> None:
    save_file({"weight": np.ones((3, 2), np.float32)}, tmp_path / "m", {"format": "pt"})
    refused((tmp_path / "m").read_bytes(), tmp_path / "m", "not a model of latentcore: its metadata has no text")
    with pytest.raises(IsADirectoryError):
        lc.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        lc.load(tmp_path / "missing")
    for device in ("/dev/null", "/dev/zero"):
        with pytest.raises(ValueError, match=f"{device}: expected a regular file"):
            lc.load(device)


CHANGES: dict[str, tuple[Callable[[Header, Tensors], None], str]] = {
    "model": (change("model", "GAN"), "model: expected one of VAE, Autoencoder, .*PCA.*, got 'GAN'"),
    "other model": (change("model", "Autoencoder"), "config: 'beta' is unknown"),
    "unknown key": (change("extra", 1), "header: 'extra' is unknown"),
    "no config": (lambda header, tensors: header.pop("config"), "header: 'config' is missing"),
    "unknown parameter": (change("config/widths", [1]), "config: 'widths' is unknown"),
    "nested parameter": (change("config/hidden", [[1]]), r"hidden: expected a number or a text.*, got \[1\]"),
    "seed": (change("seed", 2**64), f"its description is not JSON: the number '{2**64}' is too large at byte"),
    "progress": (change("progress", [0, 1, 0]), "progress: epoch: expected an integer from 0 to 0, got 1"),
    "offset": (change("progress", [9, 2, 20]), "progress: offset: expected a multiple of 8 below 20, got 20"),
    "offset inside": (change("progress", [9, 2, 9]), "progress: offset: expected a multiple of 8 below 20, got 9"),
    "minibatches": (change("minibatches", [4, 8]), "minibatches: batch: expected an integer from 1 to 4, got 8"),
    "operation": (change("plans/decode/calls", [{"op": "exec"}]), "plan 'decode': call 0: 'arguments' is missing"),
    "dtype": (change("network/dtype", "float64"), r"encoder.0.weight: expected float64 \(3, 4\), got float32"),
    "width": (change("network/hidden", [2**31 - 1]), "expected float32 .2147483647, 4., got float32 .3, 4."),
    "widths": (change("network/hidden", [1] * 100_000), "network: 100000 hidden layers, but"),
    "features": (change("network/n_features", 2**31), "n_features: expected an integer from 1 to 2147483647"),
    "negative width": (change("network/latent_dim", -2), "latent_dim: expected an integer from 1 .*, got -2"),
    "history": (change("history", ["loss"] * 9), "history: '.*' is unknown"),
    "history twice": (change("history", [["loss"]]), "history: expected a list of names"),
    "missing": (tensor("latent.bias", None), "tensors: 'latent.bias' is missing"),
    "missing moment": (tensor("latent.bias:v", None), "tensors: 'latent.bias:v' is missing"),
    "extra": (tensor("decoder.7.bias", np.ones_like), "tensors: 'decoder.7.bias' is unknown"),
    "transposed": (tensor("latent.weight", np.transpose), r"latent.weight': expected float32 \(4, 3\), .* \(3, 4\)"),
    "integers": (tensor("latent.bias", lambda a: a.astype("i4")), "latent.bias': expected the dtype F32, .*, got 'I32'"),
    "half": (tensor("latent.bias", lambda a: a.astype("f2")), "tensor 'latent.bias': expected the dtype F32, .*, got 'F16'"),
    "NaN": (tensor("latent.bias", lambda a: a * np.nan), "tensor 'latent.bias': expected finite numbers in float32"),
    "infinity": (tensor("latent.bias:m", lambda a: a + np.inf), "latent.bias:m: expected finite numbers in float32"),
    "negative moment": (tensor("latent.bias:v", lambda a: a - 1), "latent.bias:v: expected no negative .*, got -0.99"),
    "other weights": (tensor("decoder.1.bias", lambda a: a + 0.01), "golden:output: the weights miss it by 0.00"),
    "huge weights": (tensor("latent.bias", lambda a: a + 1e38), "golden:output: the weights miss it by"),
    "golden": (tensor("golden:input", lambda a: a + 2), r"golden:input: expected data in \[0, 1\]"),
    "golden output": (tensor("golden:output", lambda a: a * np.nan), "golden:output': expected finite numbers in float32"),
    "epochs": (tensor("history:loss", lambda a: a[:1]), "history:.*: expected at most 2 epochs, in all alike"),
    "more epochs": (change("progress", [9, 1, 0]), "history:.*: expected at most 1 epochs, in all alike, got 2"),
    "flat history": (tensor("history:loss", lambda a: a[0]), "history:.*: expected numbers of each epoch|in all alike"),
    "text history": (tensor("history:loss", lambda a: a > 0), "tensor 'history:loss': expected the dtype .*, got 'BOOL'"),
}  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES)
@of("VAE")
def test_sealed_changes(changed: str, content: bytes, tmp_path: Path) -> None:
    resealed(*CHANGES[changed], content, tmp_path / "m")


def resealed(edit: Callable[[Header, Tensors], None], says: str, content: bytes, path: Path) -> None:
    """Refuses an edited file."""
    path.write_bytes(content)
    header, tensors = io.read_model(path)
    edit(header, tensors)
    refused(io.encoded(header, tensors), path, says)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "U4", "C64", "X", "float32"])
def test_dtypes_that_numpy_lacks(dtype: str, content: bytes, tmp_path: Path) -> None:
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].replace(b'"dtype":"F32"', f'"dtype":"{dtype}"'.encode(), 1)
    refused(seal(raw(header, content[end:])), tmp_path / "m")
    size = 4 if dtype == "BF16" else 2
    alone = {
        "__metadata__": {"latentcore": '{"crc32": "00000000", "format": 1}'},
        "t": {"dtype": dtype, "shape": [2], "data_offsets": [0, size]},
    }
    refused(seal(raw(compact(alone), bytes(size))), tmp_path / "m", "tensor 't': expected the dtype F32, F64 or I64, got")


BOMBS = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
import latentcore as lc
from latentcore import io
sys.path.insert(0, sys.argv[2])
from damage import raw, seal

path = Path(sys.argv[1])
path.write_bytes(Path(sys.argv[3]).read_bytes())
header, tensors = io.read_model(path)
kept = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (kept + (400 << 20),) * 2)
PREFIX = '{"crc32": "00000000", "format": 1, '

def describe(text, tensors="", data=b""):
    return seal(raw('{"__metadata__":{"latentcore":' + json.dumps(text) + "}" + tensors + "}", data))

def model(**changes):
    described = {"crc32": "0" * 8, "format": 1, **header, **changes}
    return describe(json.dumps(described))

def entry(name, shape, begin=0, end=0):
    return ',"%s":{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}' % (name, json.dumps(shape), begin, end)

network = header["network"]
million = 1_000_000
bombs = {
    "empty objects": describe(PREFIX + '"a": [' + "{}," * (2 * million) + "{}]}"),
    "outer objects": raw('{"a": [' + "{}," * (2 * million) + "{}]}"),
    "many keys": describe(PREFIX + ",".join('"%d": 0' % i for i in range(million // 2)) + "}"),
    "repeated key": raw("{" + '"a": 0,' * million + '"a": 0}'),
    "escapes": raw('{"' + "\\u0000" * million + '": 0}'),
    "many tensors": describe(PREFIX + '"a": 1}', "".join(entry(i, [0]) for i in range(100_000))),
    "long shape": describe(PREFIX + '"a": 1}', entry("a", [1] * million, 0, 4), bytes(4)),
    "huge shape": describe(PREFIX + '"a": 1}', entry("a", [2**62, 2**62])),
    "huge empty shape": describe(PREFIX + '"a": 1}', entry("a", [2**62, 2**62, 0])),
    "wide": model(network={**network, "n_features": 2**31 - 1, "latent_dim": 2**31 - 1, "hidden": [2**31 - 1]}),
    "layers": model(network={**network, "hidden": [2**31 - 1] * (million // 4)}),
    "widths": model(config={**header["config"], "hidden": [3] * million}),
    "names": model(history=["loss"] * million),
}
for name, data in bombs.items():
    path.write_bytes(data)
    del data
    begun = time.perf_counter()
    try:
        lc.load(path)
        raise SystemExit(f"{name}: loaded")
    except ValueError as error:
        assert len(str(error)) < 1000, name
    assert time.perf_counter() - begun < 10, name
with path.open("wb") as file:  # sparse: a header of a gigabyte, and data of 64
    file.write((1 << 30).to_bytes(8, "little"))
    file.truncate(64 << 30)
try:
    lc.load(path)
except ValueError as error:
    print(error, len(bombs))
"""


@of("VAE")
def test_bombs(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(content)
    arguments = [str(tmp_path / "m"), str(Path(__file__).parent), str(tmp_path / "good")]
    run = subprocess.run([sys.executable, "-c", BOMBS, *arguments], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert run.stdout.rstrip().endswith("expected a header of at most 8388608 bytes, got 1073741824 13")
