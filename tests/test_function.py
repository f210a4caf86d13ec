"""A compiled function as an object: how it is called, a check of every array that comes in, clones, and nothing left
behind."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import BATCH, FEATURES, FUNCTIONS, LATENT, X, Z, as_tuple, assert_same, fitted

import latentcore as lc

# ---- what comes in ---------------------------------------------------------------------------------------------------


def shifted(shape: tuple[int, ...], bytes_: int) -> np.ndarray:
    """A float32 array that begins so many bytes after a cache line."""
    raw = np.zeros(int(np.prod(shape)) * 4 + 128, np.uint8)
    start = -raw.ctypes.data % 64 + bytes_
    return np.ndarray(shape, np.float32, buffer=raw, offset=start)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


z, out = Z.astype("f4"), np.zeros((BATCH, FEATURES), "f4")
EXPECTED_ARRAY = "x: expected a NumPy array, or one in main memory that speaks DLPack, got"
EXPECTED_X = r"x: expected a C-contiguous float32 array of shape \(rows <= 16, 5\), got "
EXPECTED_OUT = r"out: expected a C-contiguous float32 array of shape \(3, 21\), got "
UNPLAIN = "that is not C-contiguous and aligned"

WRONG_X: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([[0.0] * LATENT], TypeError, f"{EXPECTED_ARRAY} list"),
    "None": (None, TypeError, f"{EXPECTED_ARRAY} NoneType"),
    "one row": (z[0], ValueError, EXPECTED_X + r"a float32 array of shape \(5,\)"),
    "three axes": (z[None], ValueError, EXPECTED_X + r"a float32 array of shape \(1, 16, 5\)"),
    "features": (z[:, :4].copy(), ValueError, EXPECTED_X + r"a float32 array of shape \(16, 4\)"),
    "rows": (np.zeros((17, 5), "f4"), ValueError, EXPECTED_X + r"a float32 array of shape \(17, 5\)"),
    "dtype": (Z, ValueError, EXPECTED_X + r"a float64 array of shape \(16, 5\)"),
    "integers": (Z.astype("i4"), ValueError, EXPECTED_X + "a int32 array of shape"),
    "byte order": (z.astype(">f4"), ValueError, EXPECTED_X + "a >f4 array of shape"),
    "Fortran order": (np.asfortranarray(z), ValueError, EXPECTED_X + r"a float32 array of shape \(16, 5\) " + UNPLAIN),
    "strided": (np.zeros((8, 10), "f4")[:, ::2], ValueError, EXPECTED_X + f".* {UNPLAIN}"),
    "every other row": (z[::2], ValueError, EXPECTED_X + f".* {UNPLAIN}"),
    "reversed": (z[::-1], ValueError, EXPECTED_X + f".* {UNPLAIN}"),
    "misaligned": (shifted((3, 5), 1), ValueError, EXPECTED_X + f".* {UNPLAIN}"),
}

WRONG_OUT: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([0.0], TypeError, "out: expected a NumPy array"),
    "a tuple": ((out[:3],), TypeError, "out: expected a NumPy array"),
    "rows": (out, ValueError, EXPECTED_OUT + r"a float32 array of shape \(16, 21\)"),
    "fewer rows": (out[:2], ValueError, EXPECTED_OUT + r"a float32 array of shape \(2, 21\)"),
    "features": (np.zeros((3, 20), "f4"), ValueError, EXPECTED_OUT + r"a float32 array of shape \(3, 20\)"),
    "flat": (np.zeros(63, "f4"), ValueError, EXPECTED_OUT + r"a float32 array of shape \(63,\)"),
    "dtype": (np.zeros((3, 21)), ValueError, EXPECTED_OUT + "a float64 array of shape"),
    "byte order": (np.zeros((3, 21), ">f4"), ValueError, EXPECTED_OUT + "a >f4 array of shape"),
    "Fortran order": (np.zeros((3, 21), "f4", "F"), ValueError, EXPECTED_OUT + f".* {UNPLAIN}"),
    "strided": (np.zeros((3, 42), "f4")[:, ::2], ValueError, EXPECTED_OUT + f".* {UNPLAIN}"),
    "broadcast": (np.broadcast_to(np.zeros(21, "f4"), (3, 21)), ValueError, EXPECTED_OUT + f".* {UNPLAIN}"),
    "misaligned": (shifted((3, 21), 2), ValueError, EXPECTED_OUT + f".* {UNPLAIN}"),
    "read-only": (read_only(np.zeros((3, 21), "f4")), ValueError, "out: expected a writeable array"),
}


@pytest.mark.parametrize("wrong", WRONG_X)
def test_wrong_input(wrong: str) -> None:
    given, kind, says = WRONG_X[wrong]
    call = lc.compile(fitted(), "decode", batch=BATCH)
    want = call(z)
    with pytest.raises(kind, match=says):
        call(given)
    assert_same(call(z), want)


@pytest.mark.parametrize("wrong", WRONG_OUT)
def test_wrong_output(wrong: str) -> None:
    given, kind, says = WRONG_OUT[wrong]
    call = lc.compile(fitted(), "decode", batch=BATCH)
    want = call(z[:3])
    before = given.tobytes() if isinstance(given, np.ndarray) else repr(given)
    with pytest.raises(kind, match=says):
        call(z[:3], out=given)
    assert (given.tobytes() if isinstance(given, np.ndarray) else repr(given)) == before
    assert_same(call(z[:3]), want)


def test_wrong_outputs_of_a_posterior() -> None:
    call = lc.compile(fitted(), "posterior", batch=BATCH)
    x, mu, logvar = X.astype("f4"), np.zeros((BATCH, LATENT), "f4"), np.zeros((BATCH, LATENT), "f4")
    for given in (mu, [mu, logvar], (mu,), (mu, logvar, mu), np.stack([mu, logvar])):
        with pytest.raises(TypeError, match="out: expected a tuple of 2 arrays"):
            call(x, out=given)
    with pytest.raises(ValueError, match=r"out\[1\]: expected a C-contiguous float32 .*, got a float64"):
        call(x, out=(mu, logvar.astype("f8")))
    with pytest.raises(TypeError, match=r"out\[0\]: expected a NumPy array"):
        call(x, out=(None, logvar))


def test_ways_to_call() -> None:
    call = lc.compile(fitted(), "decode", batch=BATCH)
    want = call(z)
    for arguments, named in (
        ((z, None), {}), ((z,), {"out": None}), ((), {"x": z}), ((), {"out": out, "x": z}), ((), {"x": z, "out": None})
    ):  # fmt: skip
        got = call(*arguments, **named)
        assert (got is out) == (named.get("out") is out)
        assert_same(got, want)
    assert_same(next(map(call, [z])), want)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), {}),
        ((), {"out": out}),
        ((z, None, None), {}),
        ((z,), {"output": out}),
        ((z,), {"x": z}),
        ((z, out), {"out": out}),
        ((z, out, z), {"out": out, "x": z}),
    ],
)
def test_wrong_calls(arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    call = lc.compile(fitted(), "decode", batch=BATCH)
    with pytest.raises(TypeError, match=r"decode: expected f\(x\) or f\(x, out=out\)"):
        call(*arguments, **named)


@pytest.mark.parametrize("offset", [4, 8, 20, 32, 60])
def test_any_alignment_of_whole_numbers(offset: int) -> None:
    model = fitted()
    call = lc.compile(model, "decode", batch=BATCH)
    x, y = shifted(z.shape, offset), shifted(out.shape, 64 - offset)
    x[...], y[...] = z, np.nan
    assert_same(call(x, out=y).copy(), model.decode(z))
    locked = read_only(x)
    assert_same(call(locked), model.decode(z))


class Foreign:
    """An array of another library: NumPy's, seen through DLPack alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.seen = 0

    def __dlpack__(self, **options: Any) -> Any:
        self.seen += 1
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_arrays_of_others_are_viewed() -> None:
    model = fitted()
    decode, posterior = (lc.compile(model, name, batch=BATCH) for name in ("decode", "posterior"))
    given, made = Foreign(z), Foreign(np.full_like(out, np.nan))
    assert decode(given, out=made) is made
    assert_same(made.array, model.decode(z))
    assert_same(decode(given), model.decode(z))
    assert (given.seen, made.seen) == (2, 1)
    codes = tuple(Foreign(np.full((BATCH, LATENT), np.nan, "f4")) for _ in range(2))
    assert posterior(Foreign(X.astype("f4")), out=codes) is codes
    assert_same(tuple(each.array for each in codes), model.encode(X))
    with pytest.raises(ValueError, match=EXPECTED_X + "a float64 array"):
        decode(Foreign(Z))
    with pytest.raises(ValueError, match=EXPECTED_X + f".* {UNPLAIN}"):
        decode(Foreign(np.asfortranarray(z)))


def test_arrays_of_others_that_cannot_be_viewed() -> None:
    class Elsewhere(Foreign):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it lies on a GPU")

    class Interrupted(Foreign):
        def __dlpack__(self, **options: Any) -> Any:
            raise KeyboardInterrupt

    call = lc.compile(fitted(), "decode", batch=BATCH)
    for arguments, named, port in (((Elsewhere(z),), {}, "x"), ((z,), {"out": Elsewhere(out)}, "out")):
        with pytest.raises(TypeError, match=f"{port}: .* DLPack, got .*Elsewhere: it lies on a GPU") as caught:
            call(*arguments, **named)
        assert isinstance(caught.value.__cause__, BufferError)
    with pytest.raises(KeyboardInterrupt):
        call(Interrupted(z))
    assert_same(call(z), fitted().decode(z))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    model = fitted()
    call = lc.compile(model, "decode", batch=BATCH)
    made = torch.full((BATCH, FEATURES), float("nan"))
    assert call(torch.from_numpy(z), out=made) is made
    assert_same(made.numpy(), model.decode(z))
    with pytest.raises(TypeError, match=r"x: .*got Tensor: .*require"):
        call(torch.zeros(BATCH, LATENT, requires_grad=True))


@pytest.mark.parametrize("name", ["decode", "posterior"])
def test_nothing_is_held_after_a_call(name: str) -> None:
    call = lc.compile(fitted(), name, batch=BATCH)
    given = FUNCTIONS[name][0].astype("f4")
    made = call(given)
    foreign, narrow = Foreign(given), given[:, :1].copy()
    held = [given, foreign, narrow, *as_tuple(made), made, call]
    counts = [sys.getrefcount(each) for each in held]
    for _ in range(100):
        call(given, out=made)
        call(given, made)
        call(foreign, out=made)
        call.clone()(given)
        with pytest.raises(ValueError, match=r"out.*: expected"):
            call(given[:2], out=made)
        with pytest.raises(ValueError, match="x: expected"):
            call(narrow)
        with pytest.raises(TypeError):
            call(given, x=given)
    assert [sys.getrefcount(each) for each in held] == counts


def test_a_first_call_maps_no_pages() -> None:
    resource = pytest.importorskip("resource", reason="page faults are counted on Unix")
    call = lc.compile(lc.VAE(LATENT, (300, 300), random_state=0).initialize(FEATURES), "decode", batch=256)
    given, made = np.zeros((256, LATENT), "f4"), np.ones((256, FEATURES), "f4")
    for each in (call, call.clone()):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        each(given, out=made)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 50


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc tells how much memory is in use")
def test_memory_does_not_grow() -> None:
    call = lc.compile(fitted(), "posterior", batch=BATCH)
    given = X.astype("f4")
    made = call(given)

    def repeat(times: int) -> None:
        for _ in range(times):
            call(given, out=made)
            call(given)
        for _ in range(times // 10):
            call.clone()(given, out=made)
            with pytest.raises(TypeError):
                call(given, made, made)

    repeat(1000)
    before = resident()
    repeat(20_000)
    assert resident() - before < 2**20


# ---- the object ------------------------------------------------------------------------------------------------------


def test_what_it_says_of_itself() -> None:
    call = lc.compile(fitted(), "decode", batch=3, threads=2)
    best = lc._core.instruction_sets()[0]
    said = f"<compiled decode: batch=3, weights='float32', threads=2, instruction_set='{best}'>"
    for each in (call, call.clone()):
        assert repr(each) == said
        assert (each.function, each.batch, each.weights, each.threads) == ("decode", 3, "float32", 2)
        assert each.instruction_set == best
        assert callable(each)
    with pytest.raises(AttributeError):
        call.batch = 4


def test_what_it_refuses() -> None:
    call = lc.compile(fitted(), "decode")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"a compiled function cannot be pickled: .* clone\(\)"):
            attempt(call)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (type(call),), {})
    with pytest.raises(TypeError, match="cannot create"):
        type(call)()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_clone(function: str) -> None:
    given = FUNCTIONS[function][0].astype("f4")
    call = lc.compile(fitted(), function, batch=BATCH)
    want = call(given)
    clone = call.clone()
    assert type(clone) is type(call)
    assert clone is not call
    assert_same(clone(given), want)
    assert_same(call(given), want)
    del call
    gc.collect()
    assert_same(clone.clone()(given), want)
    with pytest.raises(ValueError, match="x: expected"):
        clone(given[:, :1])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc tells how much memory is in use")
def test_clones_share_the_weights() -> None:
    call = lc.compile(lc.VAE(LATENT, (1000, 1000), random_state=0).initialize(FEATURES), "decode")
    call(z[:1])
    before = resident()
    clones = [call.clone() for _ in range(20)]
    for clone in clones:
        clone(z[:1])
    assert resident() - before < 20 * 4 * 1000 * 1000 / 4
