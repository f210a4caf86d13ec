"""Models moved to the GPU backend and back, copied, saved, loaded and compiled: exact both ways."""

from __future__ import annotations

import copy
import pickle

import models
import pytest
from numerics import assert_same_bits
from place import FEATURES, FITTED, X, Z, described, near, vae

import latentcore as lc
from latentcore import backends

pytestmark = pytest.mark.usefixtures("place", "few_rows_at_a_time")


@pytest.mark.parametrize("name", FITTED)
def test_there_and_back_exactly(name):
    model = FITTED[name]()
    before = described(model)
    for backend in ("cuda", "cpu"):
        assert model.to(backend) is model
        assert model.backend == backend
        assert getattr(model, "_backend", None) in (None, backends.get_backend(backend))
        assert described(model) == before


def test_a_model_on_the_gpu_is_copied_and_pickled_there():
    model = vae().fit(X).to("cuda")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again._backend is model._backend
        models.assert_same(models.state(again), models.state(model))


def test_an_unfitted_model_only_notes_where_to():
    model = vae().to("cuda")
    assert model.backend == "cuda"
    assert model.initialize(FEATURES)._backend.name == "cuda"


def test_a_model_that_cannot_move_stays_as_it_was(place, monkeypatch):
    model = vae().fit(X)
    before, backend = models.state(model), model._backend
    monkeypatch.setattr(place.device, "write", lambda *_: (_ for _ in ()).throw(MemoryError("full")))
    with pytest.raises(MemoryError, match="full"):
        model.to("cuda")
    assert (model.backend, model._backend) == ("auto", backend)
    models.assert_same(models.state(model), before)


def test_fresh_weights_are_those_of_the_cpu():
    got, want = (vae(backend=backend).initialize(FEATURES).parameters() for backend in ("cuda", "cpu"))
    for name in want:
        assert_same_bits(got[name], want[name])


@pytest.mark.parametrize("name", ["VAE", "PCA", "IncrementalPCA"])
def test_files_know_no_backend(name, tmp_path):
    model = FITTED[name]()
    before, codes = described(model), model.transform(X)
    lc.save(model, tmp_path / "model")
    there = lc.load(tmp_path / "model", backend="cuda")
    assert there._backend.name == there.backend == "cuda"
    assert described(there) == before
    near(there.transform(X), codes)
    lc.save(there, tmp_path / "again")
    back = lc.load(tmp_path / "again")
    assert described(back) == before
    assert_same_bits(back.transform(X), codes)


def test_a_compiled_function_runs_on_the_cpu():
    model = FITTED["VAE"]()
    want = lc.compile(model, "decode", batch=4)(Z)
    assert_same_bits(lc.compile(model.to("cuda"), "decode", batch=4)(Z), want)


def test_config_tells_of_the_gpu(place, capsys):
    assert str(place.device) in lc.show_config()
