"""Files: what is saved comes back, training goes on to the same bits; whatever goes wrong, the old file stays whole."""

from __future__ import annotations

import copy
import errno
import functools
import os
import pickle
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import latentcore as lc
from latentcore import _core, io
from latentcore.backends.cpu import CpuBackend
from latentcore.training import Trainer

X = np.random.default_rng(0).random((37, 7), np.float32)


def everything(model: Any) -> dict[str, Any]:
    """All that a model holds, bit for bit, but for the seconds that it took."""
    arrays = {name + kind: a for kind in ("", ":m", ":v") for name, a in model._read(kind).items()}
    arrays |= {"progress": model._progress}
    arrays |= {f"history {name}": a for name, a in model.history_.items() if name != "seconds"}
    held: dict[str, Any] = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    parameters = {name: np.asarray(v, object).tolist() for name, v in model.get_params().items() if name != "backend"}
    return held | {"seed": model.seed_, "parameters": parameters, "minibatches": model._minibatches}


def midway(model: Any) -> Any:
    """An epoch, and two steps of the next."""
    lc.train(model, X, epochs=1)
    Trainer(model, X).run(2)
    return model


def small(**parameters: Any) -> lc.VAE:
    return lc.VAE(**{"latent_dim": 3, "hidden": (5,), "epochs": 2, "batch_size": 8, "random_state": 0, **parameters})


MODELS: dict[str, Callable[[], Any]] = {
    "untrained": lambda: small().initialize(7),
    "trained": lambda: small().fit(X),
    "midway": lambda: midway(small()),
    "float64": lambda: small(dtype="float64", hidden=(17, 5), activation="gelu").fit(X),
    "no hidden layer": lambda: small(hidden=()).fit(X),
    "one width": lambda: small(hidden=np.int64(4), latent_dim=np.int32(2), beta=np.float32(0.5)).fit(X),
    "array of widths": lambda: small(hidden=np.array([4, 3])).fit(X),
    "learned variance": lambda: small(likelihood="gaussian", variance="learned", kl_warmup=3).fit(X),
    "importance": lambda: small(importance_samples=3, max_grad_norm=1.0).fit(X),
    "widest seed": lambda: small(random_state=2**64 - 1).fit(X),
    "autoencoder": lambda: lc.Autoencoder(3, (17,), epochs=2, batch_size=8, random_state=2**63 + 1).fit(X),
    "autoencoder float64": lambda: midway(lc.Autoencoder(3, (5,), dtype="float64", random_state=0, batch_size=8)),
}


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "m"
    before = everything(model)
    lc.save(model, path)
    assert everything(model) == before
    loaded = lc.load(path)
    assert type(loaded) is type(model)
    assert everything(loaded) == before
    assert set(loaded._storage) == {name for name, _, _ in loaded._weights()}  # moments wait until it trains
    assert list(loaded.parameters()) == list(model.parameters())
    assert list(loaded.history_) == list(model.history_)
    assert np.array_equal(loaded.reconstruct(X), model.reconstruct(X))
    if model.history_:
        assert loaded.history_["active_units"].dtype == np.int64
    lc.save(loaded, tmp_path / "again")
    again = lc.load(tmp_path / "again")
    lc.save(again, path)
    assert path.read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("through", ["file", "pickle", "copy"])
def test_training_goes_on_to_the_same_bits(name: str, through: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    if through == "file":
        lc.save(model, tmp_path / "m")
        other = lc.load(tmp_path / "m")
    else:
        other = pickle.loads(pickle.dumps(model)) if through == "pickle" else copy.deepcopy(model)
    assert model._progress[2] == (16 if "midway" in name or name == "autoencoder float64" else 0)
    for each in (model, other):
        lc.train(each, X, epochs=2, validation=X[:5])
    assert everything(other) == everything(model)


def test_history_of_epochs_with_and_without_validation(tmp_path: Path) -> None:
    model = small().fit(X)
    lc.train(model, X, epochs=1, validation=X)
    lc.save(model, tmp_path / "m")
    found = lc.load(tmp_path / "m").history_
    assert {name: a.tobytes() for name, a in found.items()} == {n: a.tobytes() for n, a in model.history_.items()}
    assert np.isnan(found["val_loss"]).tolist() == [True, True, False]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_backend_of_a_loaded_model(backend: str, tmp_path: Path) -> None:
    model = small().fit(X)
    lc.save(model, tmp_path / "m")
    loaded = lc.load(tmp_path / "m", backend=backend)
    assert loaded.backend == loaded._backend.name == backend
    np.testing.assert_allclose(loaded.decode(np.ones((1, 3))), model.decode(np.ones((1, 3))), rtol=1e-5)
    lc.save(loaded, tmp_path / "again")
    assert everything(lc.load(tmp_path / "again")) == everything(model)


@pytest.mark.parametrize("instructions", _core.instruction_sets())
def test_every_instruction_set_accepts_the_golden_output(
    instructions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(hidden=(130, 70, 30), activation="silu", likelihood="gaussian", epochs=20).fit(X)
    lc.save(model, tmp_path / "m")
    bind = functools.partialmethod(CpuBackend.bind, instruction_set=instructions)
    monkeypatch.setattr(CpuBackend, "bind", bind)
    assert everything(lc.load(tmp_path / "m")) == everything(model)


def test_strided_arrays(tmp_path: Path) -> None:
    model = small().initialize(7)
    wide = np.random.default_rng(1).random((14, 20), np.float32)
    given = {
        "encoder.0.weight": np.asfortranarray(wide[:5, :7]),
        "latent.weight": wide[::2, ::-4][:6],
        "latent.bias": wide[:6, 3],
        "decoder.1.weight": wide[:5, :7].T,
    }
    model.set_parameters(given)
    lc.save(model, tmp_path / "m")
    found = lc.load(tmp_path / "m").parameters()
    for name, array in given.items():
        assert np.array_equal(found[name], array)
    written = safetensors.numpy.load(bytes(io.encoded({}, given)))
    assert written.keys() == given.keys()
    assert all(np.array_equal(written[name], array) for name, array in given.items())


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
@pytest.mark.parametrize("name", ["m", "ünïcode ☃.safetensors", "x" * 250, "a\nb", ".hidden"])
def test_names(kind: Callable[[Any], Any], name: str, tmp_path: Path) -> None:
    model = small().initialize(7)
    path = kind(str(tmp_path / name))
    lc.save(model, path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert everything(lc.load(path)) == everything(model)


# ---- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """A process whose files may grow to so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "m"
    lc.save(small().initialize(7), path)
    return path, path.read_bytes()


def assert_whole(path: Path, content: bytes) -> None:
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content
    lc.load(path)


FAILURES = [OSError(errno.ENOSPC, "No space left on device"), OSError("odd"), KeyboardInterrupt(), MemoryError()]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@pytest.mark.parametrize("moment", ["fchmod", "fsync", "replace"])
def test_the_old_file_stays_whole(
    failure: BaseException, moment: str, saved: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Path if moment == "replace" else os, moment, fail)
        with pytest.raises(type(failure)) as caught:
            lc.save(small().fit(X), saved[0])
        if isinstance(failure, OSError) and failure.errno:
            assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{saved[0]}'"
    assert_whole(*saved)


@pytest.mark.parametrize("limit", [0, 1, 4096, 8191])
def test_a_full_disk(limit: int, saved: tuple[Path, bytes]) -> None:
    bigger = small(hidden=(50,)).fit(X)
    with small_files(limit), pytest.raises(OSError, match=r"File too large: '.*m'"):
        lc.save(bigger, saved[0])
    assert_whole(*saved)
    lc.save(bigger, saved[0])
    assert everything(lc.load(saved[0])) == everything(bigger)


def test_a_full_disk_at_a_checkpoint(saved: tuple[Path, bytes]) -> None:
    model = small(hidden=(50,)).fit(X)
    before = everything(model)
    with small_files(4096), pytest.raises(OSError, match="File too large"):
        lc.train(model, X, checkpoint=saved[0])
    assert everything(model) == before
    assert_whole(*saved)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file opened and not yet held
def test_interrupts_at_any_moment(tmp_path: Path) -> None:
    models = [small(random_state=seed).initialize(7) for seed in (0, 1)]
    path, contents = tmp_path / "m", []
    for model in models:
        lc.save(model, path)
        contents.append(path.read_bytes())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupted = 0
    try:
        for i in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 20e-6 * (1 + i % 150))
                lc.save(models[i % 2], path)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            assert path.read_bytes() in contents
            assert [entry.name for entry in tmp_path.iterdir()] == ["m"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 5


@pytest.mark.parametrize(
    ("name", "kind"),
    [("missing/m", FileNotFoundError), ("file/m", NotADirectoryError), ("", IsADirectoryError), ("x" * 256, OSError)],
    ids=["missing folder", "no folder", "a folder", "long"],
)  # fmt: skip
def test_where_no_file_can_be(name: str, kind: type[OSError], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    for attempt in (lambda: lc.save(small().initialize(7), path), lambda: io.check_writable(path)):
        with pytest.raises(kind) as caught:
            attempt()
        assert caught.value.filename == str(path)
        assert caught.value.errno
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_must_not_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match=r"Not a regular file: '.*fifo'"):
        lc.save(small().initialize(7), fifo)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    locked = tmp_path / "locked"
    locked.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # as it is for all but root
    with pytest.raises(PermissionError, match=r"Permission denied: '.*locked'"):
        lc.save(small().initialize(7), locked)
    assert locked.read_bytes() == b"old"


def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "m"
    before = os.umask(0o027)
    try:
        lc.save(small().initialize(7), path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o664, 0o755):
            path.chmod(mode)
            lc.save(small().initialize(7), path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "folder" / "m"
    target.parent.mkdir()
    link.symlink_to(target)
    for seed in (0, 1):
        model = small(random_state=seed).initialize(7)
        lc.save(model, link)
        assert link.is_symlink()
        assert everything(lc.load(target)) == everything(model)
    assert [entry.name for entry in target.parent.iterdir()] == ["m"]


def test_a_description_too_long_to_be_read_is_not_written(tmp_path: Path) -> None:
    says = r"model: no file can hold it: expected a header of at most 8388608 bytes, got \d+"
    with pytest.raises(ValueError, match=says):
        lc.save(small(hidden=np.ones(3000, int)).initialize(7), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
