"""Files that an earlier version wrote: every later one reads them and computes what that version computed.

The files in tests/data are a record and are never regenerated: not when a format changes (a new one gets files of its own),
not when a test fails (then this version has forgotten how to read what people have on their disks).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc

FILES = sorted((Path(__file__).parent / "data").glob("*.safetensors"))
KINDS = {"vae": lc.VAE, "autoencoder": lc.Autoencoder, "pca": lc.PCA, "incremental": lc.IncrementalPCA, "mlp": lc.MLP}


def test_every_kind_of_model_is_there() -> None:
    assert {path.stem.partition("_")[0] for path in FILES} == KINDS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_computes_what_it_did(path: Path) -> None:
    model: Any = lc.load(path)
    assert type(model) is KINDS[path.stem.partition("_")[0]]
    with np.load(path.with_suffix(".npz")) as stored:
        arrays = dict(stored)
    functions = [name.removesuffix(".input") for name in arrays if name.endswith(".input")]
    assert functions
    for function in functions:
        x, wanted = arrays.pop(f"{function}.input"), []
        while f"{function}.{len(wanted)}" in arrays:
            wanted.append(arrays.pop(f"{function}.{len(wanted)}"))
        made = lc.compile(model, function, batch=len(x))(x)
        found = made if isinstance(made, tuple) else (made,)
        assert [a.dtype for a in found] == [a.dtype for a in wanted]
        for got, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e3 * np.finfo(x.dtype).eps, atol=1e2 * np.finfo(x.dtype).eps)
    assert not arrays


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_model_goes_on(path: Path, tmp_path: Path) -> None:
    model: Any = lc.load(path)
    X = np.random.default_rng(0).random((20, model.n_features_in_), np.float32)
    if isinstance(model, (lc.VAE, lc.Autoencoder)):
        epochs = len(model.history_["loss"])
        lc.train(model, X, epochs=1)
        assert len(model.history_["loss"]) == epochs + 1
    elif isinstance(model, lc.IncrementalPCA):
        seen = model.n_samples_seen_
        assert model.partial_fit(X).n_samples_seen_ == seen + 20
    lc.save(model, tmp_path / "m")
    assert type(lc.load(tmp_path / "m")) is type(model)
