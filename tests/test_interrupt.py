"""What is left of a model after an error, and after an interrupt: the state from before the call, or whole steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from models import assert_same, draw, state

import latentcore as lc
from latentcore.ops import OPS, Clock
from latentcore.training import Trainer


def trained(steps: int = 6, **options: Any) -> Any:
    """A model in the middle of its second epoch, of four steps over 50 rows, with a history."""
    model = lc.VAE(3, (17,), random_state=0, batch_size=16, **options)
    lc.train(model, draw(50, 20), epochs=1)
    Trainer(model, draw(50, 20)).run(steps - 4)
    return model


def stop(epoch: int, record: Any) -> None:
    if epoch == 2:
        raise RuntimeError("stop")


NAN = draw(50, 20)
NAN[3, 3] = np.nan
HUGE = {"cpu": 1e30, "reference": 1e200}  # two layers of such weights overflow float32, float64


def later(rate: float) -> Callable[[int], float]:
    return lambda epoch: rate if epoch == 3 else 1e-3


ERRORS: dict[str, tuple[type[Exception], str, Callable[[str], dict[str, Any]]]] = {
    "a loss": (FloatingPointError, r"step 8 \(epoch 2\): the loss", lambda b: {"learning_rate": HUGE[b]}),
    "a later loss": (FloatingPointError, r"step 14 \(epoch 4\)", lambda b: {"learning_rate": later(HUGE[b])}),
    "a learning rate": (ValueError, "learning_rate: expected", lambda b: {"learning_rate": later(-1)}),
    "a callback": (RuntimeError, "stop", lambda b: {"callback": stop}),
    "data": (ValueError, "X: expected finite", lambda b: {"X": NAN}),
    "a callback, other data": (RuntimeError, "stop", lambda b: {"X": draw(30, 20), "callback": stop}),
    "an option, other data": (ValueError, "validation: expected", lambda b: {"X": draw(30, 20), "patience": 2}),
}


@pytest.mark.parametrize("backend", HUGE)
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_restores_the_model(error: str, backend: str) -> None:
    """Weights, moments, progress and history; it trains on as if nothing had been."""
    kind, message, options = ERRORS[error]
    model, untouched = trained(backend=backend), trained(backend=backend)
    with pytest.raises(kind, match=message):
        lc.train(model, **{"X": draw(50, 20), "epochs": 5, **options(backend)})
    assert_same(state(model), state(untouched))
    for each in (model, untouched):
        lc.train(each, draw(50, 20), epochs=2)
    assert_same(state(model), state(untouched))


def test_a_weight_that_is_not_finite_is_an_error() -> None:
    """The loss of the step that made it was finite."""
    model, untouched = trained(), trained()
    with pytest.raises(FloatingPointError, match=r"a weight is not finite after step 7;.*as it was before this call"):
        lc.train(model, draw(50, 20), epochs=1, learning_rate=1e39)
    assert_same(state(model), state(untouched))


def test_an_error_leaves_an_untrained_model_untrained() -> None:
    """Data of another width may come next."""
    model = lc.VAE(3, (17,))
    parameters = model.get_params()
    for X, options in (
        (draw(50, 20), {"learning_rate": 1e30}),
        (255 * draw(50, 20), {}),
        (draw(50, 20), {"epochs": -1}),
    ):
        with pytest.raises((ValueError, FloatingPointError)):
            lc.train(model, X, random_state=7, **options)
        assert not hasattr(model, "n_features_in_")
        assert model.get_params() == parameters
        with pytest.raises(ValueError, match="this VAE has no weights yet"):
            model.parameters()
    lc.train(model, draw(50, 21), epochs=1)


def test_an_interrupt_before_the_first_step_changes_nothing() -> None:
    def rate(epoch: int) -> float:
        raise KeyboardInterrupt

    untrained, model, untouched = lc.VAE(3, (17,)), trained(), trained()
    for each in (untrained, model):
        with pytest.raises(KeyboardInterrupt):
            lc.train(each, draw(30, 20), learning_rate=rate)
    assert not hasattr(untrained, "n_features_in_")
    for each in (model, untouched):
        lc.train(each, draw(50, 20), epochs=1)
    assert_same(state(model), state(untouched))


def test_training_does_not_nest() -> None:
    X, model = draw(50, 20), trained()
    before = state(model)
    with pytest.raises(RuntimeError, match="this model is being trained already"):
        lc.train(model, X, epochs=1, callback=lambda epoch, record: lc.train(model, X, epochs=1))
    assert_same(state(model), before)


def test_an_interrupt_keeps_whole_epochs() -> None:
    """One raised in a callback leaves the epoch that it follows, its history included."""
    X, model, whole = draw(50, 20), trained(), trained()

    def interrupt(epoch: int, record: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lc.train(model, X, epochs=10, callback=interrupt)
    lc.train(whole, X, epochs=2)
    assert_same(state(model), state(whole))
    lc.train(model, X, epochs=1)


def interrupt_after(seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.25])
def test_ctrl_c_keeps_whole_steps(backend: str, seconds: float) -> None:
    """Wherever a signal comes, weights and moments are those of the steps that are counted, and training goes on from
    there."""
    X = draw(4000, 20)
    make: Callable[[], Any] = lambda: lc.VAE(3, (17,), random_state=0, batch_size=4, backend=backend)  # noqa: E731
    model, whole = make().initialize(20), make()
    timer = interrupt_after(seconds)
    with pytest.raises(KeyboardInterrupt):
        lc.train(model, X, epochs=10**6)
    timer.join()
    steps = int(model._progress[0])
    assert model._progress.tolist() == [steps, steps // 1000, 4 * (steps % 1000)]
    Trainer(whole, X).run(steps)
    assert_same(state(model, history=False), state(whole))
    for each in (model, whole):
        trainer = Trainer(each, X)
        trainer.run(min(50, trainer.left))
    assert_same(state(model, history=False), state(whole))


def test_ctrl_c_between_two_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the reference backend, which runs in Python, a signal may come when half of the weights have moved."""
    X, op = draw(50, 20), OPS["linear_backward_update"]
    model, whole = trained(backend="reference"), trained(backend="reference")
    calls, reference = iter(range(100)), op.reference

    def interrupted(*arguments: Any, clock: Clock, **options: Any) -> None:
        reference(*arguments, clock=clock, **options)
        if next(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(op, "reference", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lc.train(model, X, epochs=1)
    Trainer(whole, X).run(1)  # of the four layers of a second step two had moved
    assert_same(state(model), state(whole))


PROGRAM = """
import sys
import numpy as np
import latentcore as lc

X = np.random.default_rng(0).random((5000, 20), np.float32)
model = lc.VAE(3, (17,), random_state=0)

def tell(epoch, record):
    sys.stdout.write(f"epoch {epoch}\\n")  # print writes in parts, and the signal may come between two of them
    sys.stdout.flush()

try:
    lc.train(model, X, epochs=10**6, callback=tell)
except KeyboardInterrupt:
    done = len(model.history_["loss"])
    lc.save(model, sys.argv[1])
    print("kept", done, *model._progress.tolist(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_a_program(tmp_path: Any) -> None:
    """A program that is interrupted from outside can save what it has."""
    path = tmp_path / "model.safetensors"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "epoch 0\n"
        process.send_signal(signal.SIGINT)
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        out = process.stdout.read()
        watchdog.cancel()
    assert process.returncode == 0
    *epochs, last = out.splitlines()
    kept, done, step, epoch, offset = last.split()
    assert kept == "kept"
    assert int(done) in (int(epoch), int(epoch) - 1)  # an epoch that is interrupted at its very end leaves no record
    assert len(epochs) + 1 in (int(done), int(done) - 1)
    assert epochs == [f"epoch {i + 1}" for i in range(len(epochs))]
    model = lc.load(path)
    assert model._progress.tolist() == [int(step), int(epoch), int(offset)]
    whole = lc.VAE(3, (17,), random_state=0)
    Trainer(whole, np.random.default_rng(0).random((5000, 20), np.float32)).run(int(step))
    assert_same(state(model, history=False), state(whole))
