"""Training on the GPU backend: what is promised is the same as on the CPU."""

from __future__ import annotations

import models
import numpy as np
import pytest
from numerics import assert_same_bits
from place import FEATURES, X, Z, autoencoder, near, vae

import latentcore as lc
from latentcore import backends
from latentcore.training import Trainer

pytestmark = pytest.mark.usefixtures("place", "few_rows_at_a_time")


@pytest.mark.parametrize("make", [vae, autoencoder])
def test_training_is_that_of_the_cpu(make, place):
    want, there, follows = make(backend="cpu"), make(backend="cuda"), make()
    histories = [lc.train(want, X, validation=X[:5]), lc.train(there, X, validation=X[:5])]
    histories.append(lc.train(follows, place.put(X), validation=place.put(X[:5])))
    assert there._backend is follows._backend is backends.get_backend("cuda")
    for history in histories[1:]:
        for name in ("loss", "recon", "kl", "val_loss"):
            near(history[name], histories[0][name])
    for name, array in want.parameters().items():
        near(there.parameters()[name], array, 2e-3)
        assert_same_bits(follows.parameters()[name], there.parameters()[name])


@pytest.mark.parametrize("where", ["at home", "at an odd address"])
def test_data_goes_to_the_device_once(where, place, monkeypatch):
    data = models.draw(400, FEATURES)
    given = data if where == "at home" else place.put(np.vstack([data[:1], data]))[1:]
    trainer = Trainer(vae(backend="cuda"), given)
    sizes, write = [], place.device.write
    monkeypatch.setattr(place.device, "write", lambda array, source: (sizes.append(source.nbytes), write(array, source)))
    trainer.run(2)
    assert 0 < sum(sizes) < data.nbytes / 4


def test_what_was_saved_goes_on_to_the_same_bits(tmp_path):
    whole, part = vae(backend="cuda"), vae(backend="cuda")
    lc.train(whole, X, epochs=2)
    lc.train(part, X, epochs=1)
    lc.save(part, tmp_path / "model")
    again = lc.load(tmp_path / "model", backend="cuda")
    lc.train(again, X, epochs=1)
    models.assert_same(models.state(again), models.state(whole))


def test_a_loss_that_is_not_finite_restores(place):
    model = vae(backend="cuda").fit(X)
    before = models.state(model)
    with pytest.raises(FloatingPointError, match="as it was before this call"):
        lc.train(model, X, epochs=3, learning_rate=1e38)
    models.assert_same(models.state(model), before)


# ---- what fails ------------------------------------------------------------------------------------------------------


def failing(error):
    def fail(*given, **how):
        raise error

    return fail


@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt()], ids=["memory", "Ctrl-C"])
@pytest.mark.parametrize("what", ["zeros", "record"])
def test_what_fails_before_the_first_step_loses_none(what, error, place, monkeypatch):
    """Memory that cannot be had, and kernels whose compilation is interrupted, in a model that has been trained before."""
    model = vae(backend="cuda").fit(X)
    trainer = Trainer(model, X)
    before, progress = models.state(model), model._progress.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(place.device, what, failing(error))
        with pytest.raises(type(error)):
            trainer.run(2)
        with pytest.raises(type(error)):
            lc.train(model, X)
    assert model._progress.tolist() == progress
    models.assert_same(models.state(model), before)
    lc.train(model, X)
    assert model._progress[1] == progress[1] + 1


def test_a_model_whose_weights_cannot_be_copied_is_free_again(monkeypatch):
    model = vae(backend="cuda").fit(X)
    with monkeypatch.context() as patch:
        patch.setattr("latentcore.training._Session._copy", failing(MemoryError("full")))
        with pytest.raises(MemoryError, match="full"):
            lc.train(model, X)
    lc.train(model, X)


def test_what_outlives_a_run_is_changed_by_runs_that_no_signal_parts(place, monkeypatch):
    parted, record = [], place.device.record
    monkeypatch.setattr(place.device, "record", lambda *given: (parted.append(not given[2]), record(*given))[1])
    model = vae(backend="cuda").fit(X)
    assert not parted[-1]
    lc.IncrementalPCA(2, backend="cuda").partial_fit(X)
    assert not parted[-1]
    model.decode(Z)
    assert parted[-1]
