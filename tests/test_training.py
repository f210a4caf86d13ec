"""Training: the same bits however it is cut, and what its options do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import State, assert_same, bits, draw, state

import latentcore as lc
from latentcore.training import Trainer

# ---- the same bits ---------------------------------------------------------------------------------------------------

MODELS: dict[str, tuple[Callable[[], Any], float]] = {
    "vae": (lambda: lc.VAE(9, (129, 33), random_state=0), 0),
    "sparse": (lambda: lc.VAE(9, (200,), random_state=0), 0.85),
    "float64": (lambda: lc.VAE(9, (129,), random_state=0, dtype="float64", activation="gelu"), 0.85),
    "importance": (lambda: lc.VAE(9, (129,), random_state=0, importance_samples=3, activation="silu"), 0.85),
    "learned": (lambda: lc.VAE(9, (129,), random_state=0, likelihood="gaussian", variance="learned"), 0.5),
    "decay": (lambda: lc.Autoencoder(9, (129, 65), random_state=0, weight_decay=0.1, activation="tanh"), 0.5),
}


@pytest.mark.parametrize("name", MODELS)
def test_same_bits_however_it_runs(name: str, threads: Callable[[int], None]) -> None:
    """Two epochs: with 1, 2 and 3 threads, the update fused or not, in slices of any length, and on a rerun."""
    make, zeros = MODELS[name]
    X = draw(290, 300, zeros)

    def trained(count: int, fused: bool, slices: list[int]) -> State:
        threads(count)
        model = make()
        trainer = Trainer(model, X, batch_size=128, fused=fused)
        for steps in slices:
            trainer.run(steps)
        return state(model)

    want = trained(1, True, [6])
    assert_same(trained(1, True, [6]), want)
    assert_same(trained(2, True, [6]), want)
    assert_same(trained(3, True, [1, 2, 3]), want)
    assert_same(trained(1, False, [5, 1]), want)
    assert_same(trained(2, False, [1] * 6), want)
    model = make()
    lc.train(model, X, epochs=2, batch_size=128)
    assert_same(state(model, history=False), want)
    assert want["progress"] == bits(np.array([6, 2, 0]))
    untrained = state(make().initialize(300))
    assert all(untrained[k] != want[k] for k in want)


def through_file(model: Any, path: Path) -> Any:
    lc.save(model, path)
    return lc.load(path)


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "the model itself": lambda model, path: model,
    "a file": through_file,
    "a pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "a copy": lambda model, path: copy.deepcopy(model),
}


def scheduled() -> Any:
    return lc.VAE(3, (17,), random_state=0, kl_warmup=3, beta=0.7, max_grad_norm=5.0, batch_size=16)


def schedule(epoch: int) -> float:
    return 3e-3 / (1 + epoch)


@pytest.mark.parametrize("way", WAYS)
def test_training_in_parts_is_training_at_once(way: str, tmp_path: Path) -> None:
    """Learning rate and KL warm-up go on where they stood, and so does the history."""
    X, held_out = draw(50, 20), draw(11, 20, seed=1)
    options = {"learning_rate": schedule, "validation": held_out}
    whole, parts = scheduled(), scheduled()
    lc.train(whole, X, epochs=4, **options)
    lc.train(parts, X, epochs=2, **options)
    parts = WAYS[way](parts, tmp_path / "model.safetensors")
    lc.train(parts, X, epochs=2, **options)
    assert_same(state(parts), state(whole))
    assert whole.history_["loss"].shape == (4,)


def test_a_checkpoint_resumes(tmp_path: Path) -> None:
    """A file is written after each epoch; a model loaded from one trains on to the bits of the uninterrupted run."""
    X, path = draw(50, 20), tmp_path / "checkpoint.safetensors"
    kept: list[bytes] = []
    whole = scheduled()
    lc.train(
        whole,
        X,
        epochs=4,
        learning_rate=schedule,
        checkpoint=path,
        callback=lambda e, r: kept.append(path.read_bytes()),
    )
    assert len(set(kept)) == 4
    for epoch, data in enumerate(kept):
        path.write_bytes(data)
        model = lc.load(path)
        assert model._progress.tolist() == [4 * (epoch + 1), epoch + 1, 0]
        lc.train(model, X, epochs=3 - epoch, learning_rate=schedule)
        assert_same(state(model), state(whole))


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_epoch_goes_on(way: str, tmp_path: Path) -> None:
    """A model left in the middle of an epoch finishes it over the rows that were left."""
    X = draw(50, 20)
    whole, parts = scheduled(), scheduled()
    lc.train(whole, X, epochs=2)
    Trainer(parts, X).run(6)
    assert parts._progress.tolist() == [6, 1, 32]
    parts = WAYS[way](parts, tmp_path / "model.safetensors")
    lc.train(parts, X, epochs=1)
    assert_same(state(parts, history=False), state(whole, history=False))


def test_other_minibatches_begin_an_epoch() -> None:
    """What was left of an epoch means nothing for other data or another batch size."""
    for X, batch in ((draw(50, 20), 8), (draw(51, 20), 16)):
        model = scheduled()
        Trainer(model, draw(50, 20)).run(6)
        lc.train(model, X, epochs=1, batch_size=batch)
        assert model._progress.tolist() == [6 + -(-len(X) // batch), 3, 0]


def test_a_drawn_seed_repeats() -> None:
    X = draw(30, 8)
    first = lc.VAE(2, (9,), random_state=None)
    lc.train(first, X, epochs=2)
    again, other = lc.VAE(2, (9,), random_state=first.seed_), lc.VAE(2, (9,), random_state=None)
    for model in (again, other):
        lc.train(model, X, epochs=2)
    assert_same(state(again), state(first))
    assert state(other) != state(first)
    given = lc.VAE(2, (9,))
    lc.train(given, X, epochs=2, random_state=first.seed_)
    assert_same(state(given), state(first))


# ---- minibatches -----------------------------------------------------------------------------------------------------


def test_every_row_once_an_epoch() -> None:
    """With weights of zero the loss of row i is 2^i and a constant: a minibatch's loss says which rows it held."""
    rows = 23
    X = np.sqrt(2.0 ** np.arange(1, rows + 1))[:, None]
    model = lc.Autoencoder(1, (), dtype="float64", random_state=0).initialize(1)
    model.set_parameters({name: np.zeros_like(a) for name, a in model.parameters().items()})
    trainer = Trainer(model, X, batch_size=5, learning_rate=0.0)
    sizes = np.array([5, 5, 5, 5, 3])
    epochs = []
    for _ in range(3):
        total = (trainer.run(5)[:, 1] - 0.5 * np.log(2 * np.pi)) * sizes
        held = np.rint(total).astype(int)
        assert total == pytest.approx(held, rel=1e-12)
        assert [h.bit_count() for h in held.tolist()] == sizes.tolist()
        assert sum(held) == 2**rows - 1
        epochs.append(tuple(held))
    assert len(set(epochs)) == 3


@pytest.mark.parametrize(("rows", "batch"), [(50, 16), (48, 16), (7, 1), (5, 1000), (1, 1), (1, 128)])
def test_batches_of_any_size(rows: int, batch: int) -> None:
    """An epoch's loss is the mean over its rows, whatever the last minibatch holds."""
    X = draw(rows, 9)
    model = lc.Autoencoder(2, (7,), random_state=0, dtype="float64").initialize(9)
    history = lc.train(model, X, epochs=2, batch_size=batch, learning_rate=0.0)
    assert history["loss"] == pytest.approx(-model.score_samples(X).mean(), rel=1e-12)
    history = lc.train(model, X, epochs=20, batch_size=batch, learning_rate=1e-2)
    assert history["loss"][-1] < history["loss"][2]
    assert model._progress.tolist() == [22 * -(-rows // batch), 22, 0]
    vae = lc.VAE(2, (7,), random_state=0)
    assert np.isfinite(lc.train(vae, X, epochs=3, batch_size=batch)["loss"]).all()


def test_a_batch_is_at_most_the_data() -> None:
    found = []
    for batch in (5, 6, 10**9):
        model = lc.VAE(2, (7,), random_state=0)
        lc.train(model, draw(5, 9), epochs=3, batch_size=batch)
        found.append(state(model))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lc.VAE, lc.Autoencoder])
def test_history(kind: Any) -> None:
    X = draw(50, 20)
    model = kind(3, (17,), random_state=0)
    history = lc.train(model, X, epochs=2, batch_size=16, validation=X[:9])
    assert history is model.history_
    dims = 3 if kind is lc.VAE else 0
    assert {name: (a.dtype.kind, a.shape) for name, a in history.items()} == {
        **dict.fromkeys(["loss", "recon", "kl", "learning_rate", "beta", "seconds"], ("f", (2,))),
        **dict.fromkeys(["val_loss", "val_recon", "val_kl"], ("f", (2,))),
        "kl_per_dim": ("f", (2, dims)),
        "active_units": ("i", (2,)),
    }
    assert (history["seconds"] > 0).all()
    assert history["kl_per_dim"].sum(1) == pytest.approx(history["kl"])
    assert (history["active_units"] == (history["kl_per_dim"] > 0.01).sum(1)).all()
    if kind is lc.VAE:
        assert history["loss"] == pytest.approx(history["recon"] + history["kl"])
        assert history["val_loss"] == pytest.approx(history["val_recon"] + history["val_kl"])
        assert (history["kl"] > 0).all()
    more = lc.train(model, X, epochs=1, batch_size=16)
    assert all(len(a) == 3 for a in more.values())
    assert np.isnan(more["val_loss"][2])
    assert more["active_units"].dtype.kind == "i"


@pytest.mark.parametrize("samples", [1, 5])
def test_validation(samples: int) -> None:
    """It draws the same noise after every epoch, and leaves training as it is."""
    X, held_out = draw(50, 20), draw(2000, 20, seed=1)
    model = lc.VAE(3, (17,), random_state=0, importance_samples=samples).initialize(20)
    still = lc.train(model, X, epochs=2, learning_rate=0.0, validation=held_out)
    assert still["val_loss"][0] == still["val_loss"][1]
    bound = model.log_likelihood(held_out, samples) if samples > 1 else model.score_samples(held_out)
    assert -still["val_loss"][0] == pytest.approx(bound.mean(), rel=0.02)
    with_it, without = (lc.VAE(3, (17,), random_state=0, importance_samples=samples) for _ in range(2))
    lc.train(with_it, X, epochs=2, validation=held_out)
    lc.train(without, X, epochs=2)
    assert_same(state(with_it, history=False), state(without, history=False))


def test_patience_takes_the_best_weights_back() -> None:
    """A learning rate that jumps spoils the model: after two epochs without a better validation loss it stops."""
    X, held_out = draw(200, 20, 0.5), draw(50, 20, 0.5, seed=1)
    seen: list[tuple[float, State]] = []
    model = lc.VAE(3, (17,), random_state=0)
    lc.train(
        model, X, epochs=50, batch_size=16, learning_rate=lambda epoch: 3e-3 if epoch < 4 else 0.3, validation=held_out,
        patience=2, callback=lambda epoch, record: seen.append((record["val_loss"], state(model, history=False))),
    )  # fmt: skip
    losses = [loss for loss, _ in seen]
    best = int(np.argmin(losses))
    assert len(seen) == best + 3 < 50
    assert model.history_["val_loss"].tolist() == losses
    kept = state(model, history=False)
    assert kept.pop("progress") == seen[-1][1]["progress"]
    assert_same(kept, {name: bits for name, bits in seen[best][1].items() if name != "progress"})


def test_schedules() -> None:
    """The learning rate counts epochs, the warm-up of the KL counts steps."""
    X = draw(48, 20)
    model = lc.VAE(3, (17,), random_state=0, beta=0.8, kl_warmup=2)
    weights = [model.initialize(20).parameters()["latent.weight"]]
    rates = [0.0, 1e-3, 0.0, 1e-2]
    history = lc.train(
        model, X, epochs=4, batch_size=16, learning_rate=lambda epoch: rates[epoch],
        callback=lambda epoch, record: weights.append(model.parameters()["latent.weight"]),
    )  # fmt: skip
    assert history["learning_rate"].tolist() == rates
    assert history["beta"] == pytest.approx([0, 0.4, 0.8, 0.8])
    assert [np.array_equal(a, b) for a, b in pairwise(weights)] == [rate == 0 for rate in rates]
    metrics = Trainer(lc.VAE(3, (17,), random_state=0, beta=0.8, kl_warmup=2), X, batch_size=16).run(9)
    charged = (metrics[:, 0] - metrics[:, 1]) / metrics[:, 2]
    assert charged == pytest.approx(0.8 * np.minimum(1, np.arange(9) / 6), rel=1e-9, abs=1e-12)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.5},
    "decayed": {"weight_decay": 0.1},
    "both": {"max_grad_norm": 2.0, "weight_decay": 0.1, "importance_samples": 5},
    "free bits": {"free_bits": 0.1, "likelihood": "gaussian", "variance": "learned"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_float64_training_follows_the_reference(name: str) -> None:
    """Rounding apart, for a dozen steps; and the option makes a difference that is not rounding."""
    X, found = draw(50, 20), []
    for options in ({**OPTIONS[name], "backend": "reference"}, OPTIONS[name], {}):
        model = lc.VAE(3, (17, 9), activation="tanh", dtype="float64", random_state=0, batch_size=16, **options)
        lc.train(model, X, epochs=3)
        found.append(model)
    reference, cpu, plain = found
    for name_, want in reference.parameters().items():
        assert cpu.parameters()[name_] == pytest.approx(want, rel=1e-9, abs=1e-11)
    for key in ("loss", "recon", "kl", "kl_per_dim"):
        assert cpu.history_[key] == pytest.approx(reference.history_[key], rel=1e-11)
    moved = np.abs(cpu.parameters()["latent.weight"] - plain.parameters()["latent.weight"]).max()
    assert moved > 1e-6 if OPTIONS[name] else moved == 0


def test_clipping_bounds_the_first_moment() -> None:
    """After one step the first moment is a tenth of the gradient, and that has the norm it was clipped to."""
    X = draw(50, 20)
    for bound, clipped in ((0.25, True), (1e9, False)):
        model = lc.VAE(3, (17,), random_state=0, dtype="float64", max_grad_norm=bound)
        Trainer(model, X, batch_size=50).run(1)
        norm = 10 * np.sqrt(sum(np.square(m).sum() for m in model._read(":m").values()))
        assert norm == pytest.approx(bound, rel=1e-4) if clipped else 0.5 < norm < 5
