"""The reader of model files, which Python and the C library share: every claim that a file makes is checked."""

from __future__ import annotations

import copy
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import change, compact, raw, seal

import latentcore as lc
from latentcore import _core, io
from latentcore.ops import OPS

Tree = dict[str, Any]


def test_the_ops_of_files_are_those_of_plans() -> None:
    ops = _core.file_ops()
    assert {"linear_forward", "shift_forward"} < {name for name, _, _ in ops}
    for name, signature, options in ops:
        spec = OPS[name]
        wanted = {option: list(spec.codes.get(option, ())) or default for option, default in spec.options.items()}
        found = json.loads(options)
        assert (signature, found) == (spec.signature, wanted)
        assert all(spec.codes[option][0] == spec.options[option] for option in spec.codes)
        assert [type(value) for value in found.values()] == [type(value) for value in wanted.values()]


def read(data: bytes | bytearray) -> tuple[Tree, list[tuple[str, str, list[int], int]]]:
    header, tensors = _core.read_model(np.frombuffer(data, np.uint8))
    return header, tensors


def message(data: bytes | bytearray) -> str:
    """What is wrong with a file."""
    with pytest.raises(ValueError, match=r".") as caught:
        read(data)
    text = str(caught.value)
    assert len(text) <= 240
    assert text.isascii()
    assert text.isprintable()
    return text


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "m"
    lc.save(lc.MLP((4, 3, 2), ("relu", "identity"), random_state=0).initialize(), path)
    return path


@pytest.fixture
def model(saved: Path) -> tuple[Tree, dict[str, np.ndarray]]:
    """Header and tensors of a small network."""
    return io.read_model(saved)


def test_what_is_read(saved: Path) -> None:
    data = saved.read_bytes()
    header, tensors = read(data)
    assert header["crc32"] == f"{zlib.crc32(data.replace(header['crc32'].encode(), b'0' * 8)):08x}"
    assert {name: (dtype, shape) for name, dtype, shape, _ in tensors} == {
        "0.weight": ("float32", [3, 4]),
        "0.bias": ("float32", [3]),
        "1.weight": ("float32", [2, 3]),
        "1.bias": ("float32", [2]),
        "golden:input": ("float32", [2, 4]),
        "golden:output": ("float32", [2, 2]),
    }
    assert all(begin % 4 == 0 for *_, begin in tensors)


# ---- plans ---------------------------------------------------------------------------------------------------------------


def within(path: str, value: Any) -> Callable[[Tree, Tree], None]:
    """Sets a place in the plan; a number in the path is an index."""

    def changed(header: Tree, tensors: Tree) -> None:
        where: Any = header["plans"]["forward"]
        *parts, last = [int(part) if part.isdecimal() else part for part in path.split("/")]
        for part in parts:
            where = where[part]
        where[last] = value

    return changed


def removed(key: str) -> Callable[[Tree, Tree], None]:
    return lambda header, tensors: header["plans"]["forward"].pop(key)


def repeated(key: str, at: int = 0) -> Callable[[Tree, Tree], None]:
    return lambda header, tensors: header["plans"]["forward"][key].append(header["plans"]["forward"][key][at])


def reversed_calls(header: Tree, tensors: Tree) -> None:
    header["plans"]["forward"]["calls"].reverse()


# The buffers of the plan: x, y, 0:y, 0, 1; its calls: y of 0 from x, y from that.
PLANS: dict[str, tuple[Callable[[Tree, Tree], Any], str]] = {
    "no plans": (change("plans", None), "plans: expected an object, got null"),
    "a list": (change("plans", {"forward": []}), "plan 'forward': expected an object, got an array"),
    "name": (within("name", "encode"), "plan 'forward': name: expected its name in the list of plans.*, got 'encode'"),
    "dtype": (within("dtype", "float16"), "plan 'forward': dtype: expected 'float32' or 'float64', got 'float16'"),
    "double": (within("dtype", "float64"), "plan 'forward': buffer '.*': expected a weight .* of the plan's dtype"),
    "no buffers": (removed("buffers"), "plan 'forward': 'buffers' is missing"),
    "more": (within("threads", 8), "plan 'forward': 'threads' is unknown"),
    "buffers": (within("buffers", {}), "plan 'forward': buffers: expected an array, got an object"),
    "a buffer twice": (repeated("buffers"), "plan 'forward': the buffer 'x' is given twice"),
    "control": (within("buffers/0/name", "a\x1b[31m"), r"buffer 'a\\x1b\[31m': expected a name of at most 128 printable"),
    "long name": (within("buffers/0/name", "n" * 129), r"buffer 'n{60}\.\.\.': expected a name of at most 128 printable"),
    "layout": (within("buffers/0/layout", "fortran"), "buffer 'x': expected the layout 'array' or 'weight', got 'fortran'"),
    "role": (within("buffers/0/role", "const"), "buffer 'x': expected the role 'input', 'output', .*, got 'const'"),
    "uint32": (within("buffers/0/dtype", "uint32"), "buffer 'x': dtype: expected 'float32' or 'float64', got 'uint32'"),
    "no shape": (within("buffers/0/shape", []), "buffer 'x': expected a shape of 1 to 8 dimensions, got 0"),
    "nine": (within("buffers/0/shape", [1] * 9), "buffer 'x': expected a shape of 1 to 8 dimensions, got 9"),
    "rows last": (within("buffers/0/shape", [4, "rows"]), "buffer 'x': expected dimensions .* 'c\\*rows', got 'rows'"),
    "steps": (within("buffers/0/shape", ["steps", 4]), "buffer 'x': expected dimensions from 1 .*, got 'steps'"),
    "no rows": (within("buffers/0/shape", ["0*rows", 4]), "buffer 'x': expected dimensions .*, got '0\\*rows'"),
    "many rows": (within("buffers/0/shape", ["9999999999*rows", 4]), "buffer 'x': expected dimensions .*, got '99999999"),
    "signed rows": (within("buffers/0/shape", ["-2*rows", 4]), "buffer 'x': expected dimensions .*, got '-2\\*rows'"),
    "negative": (within("buffers/0/shape", ["rows", -4]), "buffer 'x': expected dimensions .*, got -4"),
    "wide": (within("buffers/0/shape", ["rows", 2**31]), "buffer 'x': expected dimensions .*, got 2147483648"),
    "real": (within("buffers/0/shape", ["rows", 4.0]), r"buffer 'x': expected dimensions .*, got 4\.0"),
    "none": (within("buffers/0/shape", ["rows", 0]), "buffer 'x': expected no dimension of 0, got"),
    "samples": (within("buffers/0/shape", ["2*rows", 4]), "buffer 'x': expected an input or output with 'rows' first"),
    "product": (within("buffers/2/shape", ["rows", 2**31 - 1, 2**31 - 1, 4]), "expected at most 2.30 elements a row"),
    "a gigabyte": (within("buffers/2/shape", ["rows", 2**28]), "a run of one row would take more than 1073741824 bytes"),
    "temporary weight": (within("buffers/3/role", "temporary"), "buffer '.*': expected a weight .* to be a state"),
    "rows of a weight": (within("buffers/3/shape", ["rows", 4]), "buffer '.*': expected a weight .* to be a state"),
    "no input": (within("buffers/0/role", "temporary"), "expected one input and one output or more, got 0 and 1"),
    "two inputs": (within("buffers/2/role", "input"), "expected one input and one output or more, got 2 and 1"),
    "no output": (within("buffers/1/role", "temporary"), "expected one input and one output or more, got 1 and 0"),
    "unknown state": (within("buffers/3/name", "5"), "plan 'forward': buffer '5': there is no tensor '5'"),
    "shape of a state": (within("buffers/3/shape", [4, 3]), r"tensor '.\.weight': expected float32 \(4, 3\), as plan"),
    "call": (within("calls/0", []), "plan 'forward': call 0: expected an object, got an array"),
    "exec": (within("calls/0/op", "exec"), "plan 'forward': call 0: the op 'exec' is unknown"),
    "training": (within("calls/1/op", "linear_backward_update"), "call 1: the op 'linear_backward_update' is unknown"),
    "argument": (within("calls/0/arguments/2", "w"), "call 0, linear_forward: there is no buffer 'w'"),
    "number": (within("calls/0/arguments/2", 0), "call 0, linear_forward: there is no buffer 0"),
    "fewer": (within("calls/0/arguments", []), "call 0, linear_forward: arguments: expected 4, got 0"),
    "absent": (within("calls/0/arguments/2", None), r"linear_forward: the argument x is missing; it is y\[r,o\]"),
    "misfit": (within("calls/1/arguments/2", "x"), r"call 1, linear_forward: w: '.*', a weight .*, does not fit y\[r,o\] "),
    "array for weight": (within("calls/0/arguments/3", "x"), r"w: 'x', an array float32 \(rows, 4\), does not fit"),
    "before it is written": (reversed_calls, "call 0, linear_forward: it reads '.*', which no call before it writes"),
    "written twice": (repeated("calls"), "call 2, linear_forward: it writes '.*', which is not its to write"),
    "an input written": (within("calls/0/arguments/1", "x"), "call 0, linear_forward: .*'x'"),
    "no calls": (within("calls", []), "plan 'forward': no call writes the output 'y'"),
    "unknown option": (within("calls/0/options/slope", 1), "call 0, linear_forward: the option 'slope' is unknown"),
    "activation": (within("calls/0/options/activation", "step"), "activation: expected one of identity, .*, got 'step'"),
    "options": (within("calls/0/options", 7), "call 0, linear_forward: options: expected an object, got 7"),
    "golden": (change("golden", "decode"), "golden: expected the name of a plan of one output, got 'decode'"),
}  # fmt: skip


@pytest.mark.parametrize("changed", PLANS)
def test_plans(changed: str, model: tuple[Tree, dict[str, np.ndarray]]) -> None:
    header, tensors = copy.deepcopy(model)
    assert [b["name"] for b in header["plans"]["forward"]["buffers"]][:2] == ["x", "y"]
    edit, says = PLANS[changed]
    edit(header, tensors)
    text = message(io.encoded(header, tensors))
    assert re.search(says, text), text


OPTIONS = {
    "samples": ("2", "score_forward: samples: expected an integer from 0 to 4294967295, got '2'"),
    "variance": (None, "gaussian_forward: variance: expected a number, got null"),
    "mean_over_rows": (1, "gaussian_forward: mean_over_rows: expected true or false, got 1"),
    "stream": (2**32, "latent_forward: stream: expected an integer from 0 to 4294967295, got 4294967296"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(option: str) -> None:
    header, tensors = io.read_model(Path(__file__).parent / "data" / "vae_importance_gelu.safetensors")
    value, says = OPTIONS[option]
    call = next(c for c in header["plans"]["score_samples"]["calls"] if c["op"] == says.partition(":")[0])
    del call["options"][option]
    read(io.encoded(header, tensors))  # an option that is not given has its default
    call["options"][option] = value
    assert message(io.encoded(header, tensors)).endswith(says)


def test_samples_must_fit() -> None:
    header, tensors = io.read_model(Path(__file__).parent / "data" / "vae_importance_gelu.safetensors")
    for call in header["plans"]["score_samples"]["calls"]:
        if call["op"] == "latent_forward":
            for samples in (0, 2, 2**32 - 1):
                call["options"]["samples"] = samples
                assert "latent_forward: z: 'z', an array float32 (rows, 3), does not fit" in message(
                    io.encoded(header, tensors)
                )


# ---- the layout of safetensors -------------------------------------------------------------------------------------------


def relaid(saved: Path, edit: Callable[[Tree], Any], more: bytes = b"") -> bytes:
    """The file with another list of tensors, sealed again."""
    data = saved.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    edit(header)
    text = compact(header)
    return seal(raw(text + " " * (-len(text) % 8), data[end:] + more))


def entry(name: str, **changes: Any) -> Callable[[Tree], Any]:
    return lambda header: header[name].update(changes)


LAYOUTS: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "no object": (lambda h: h.update({"0.bias": 5}), "tensor '0.bias': expected an object, got 5"),
    "dtype": (entry("0.bias", dtype="BF16"), "tensor '0.bias': expected the dtype F32, F64 or I64, got 'BF16'"),
    "no dtype": (lambda h: h["0.bias"].pop("dtype"), "tensor '0.bias': 'dtype' is missing"),
    "more": (entry("0.bias", order="F"), "tensor '0.bias': 'order' is unknown"),
    "shape": (entry("0.bias", shape=3), "tensor '0.bias': expected a shape of at most 8 dimensions, got 3"),
    "deep": (entry("0.bias", shape=[1] * 9), "tensor '0.bias': expected a shape of at most 8 dimensions, got 9"),
    "negative": (entry("0.bias", shape=[-3]), "tensor '0.bias': expected dimensions from 0 to 2147483647, got -3"),
    "wide": (entry("0.bias", shape=[2**31]), "tensor '0.bias': expected dimensions from 0 to 2147483647, got 2147483648"),
    "overflow": (entry("0.bias", shape=[2**31 - 1] * 3), "tensor '0.bias': a shape of more elements than any file holds"),
    "wraps": (entry("0.bias", shape=[2**31 - 1, 4, 1]), "tensor '0.bias': its shape does not make the 12 bytes"),
    "empty overflow": (entry("0.bias", shape=[2**31 - 1] * 3 + [0]), "tensor '0.bias': a shape of more elements"),
    "size": (entry("0.bias", shape=[4]), "tensor '0.bias': its shape does not make the 12 bytes that it is given"),
    "backwards": (entry("0.bias", data_offsets=[12, 0]), "tensor '0.bias': expected data_offsets within the"),
    "beyond": (entry("0.bias", data_offsets=[0, 2**62]), "tensor '0.bias': expected data_offsets within the"),
    "before": (entry("0.bias", data_offsets=[-12, 0]), "tensor '0.bias': expected data_offsets within the"),
    "one": (entry("0.bias", data_offsets=[0]), "tensor '0.bias': expected data_offsets within the"),
    "three": (entry("0.bias", data_offsets=[0, 12, 24]), "tensor '0.bias': expected data_offsets within the"),
    "real": (entry("0.bias", data_offsets=[0.0, 12.0]), "tensor '0.bias': expected data_offsets within the"),
    "unaligned": (entry("0.bias", data_offsets=[1, 13]), "tensor '0.bias': its data is not aligned"),
    "overlap": (entry("1.bias", data_offsets=[0, 8]), "tensor '.*': its data begins at .*, expected .*, where that of the"),
    "hole": (lambda h: h.pop("0.bias"), "tensor '.*': its data begins at 12, expected 0, where that of the one before ends"),
    "a name": (lambda h: h.update({"\x07" * 99: 5}), r"tensor '(\\x07){15}\.\.\.': expected an object, got 5"),
}  # fmt: skip


@pytest.mark.parametrize("changed", LAYOUTS)
def test_layouts(changed: str, saved: Path) -> None:
    edit, says = LAYOUTS[changed]
    text = message(relaid(saved, edit))
    assert re.search(says, text), text


def test_data_beside_the_tensors(saved: Path) -> None:
    read(relaid(saved, lambda header: None))
    says = r"the file is damaged: its tensors take (\d+) bytes of data, it has (\d+)"
    assert re.fullmatch(says, message(relaid(saved, lambda header: None, bytes(4))))
