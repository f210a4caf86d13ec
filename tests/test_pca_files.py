"""PCA in files, pickles, copies and compiled functions: the same bits, and nothing believed unchecked."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import Header, Tensors, change, tensor
from test_hostile import resealed

import latentcore as lc
from latentcore import _core
from latentcore.backends.cpu import CpuBackend

X = np.random.default_rng(0).random((37, 7), np.float32)
ARRAYS = ("components_", "mean_", "explained_variance_", "explained_variance_ratio_", "singular_values_")
NUMBERS = ("noise_variance_", "n_components_", "n_samples_", "n_features_in_", "seed_")

MODELS: dict[str, Callable[[], lc.PCA]] = {
    "all": lambda: lc.PCA().fit(X),
    "some": lambda: lc.PCA(np.int64(3)).fit(X),
    "whitened": lambda: lc.PCA(0.5, whiten=True).fit(X),
    "float64": lambda: lc.PCA("mle", whiten=True).fit(X.astype("f8")),
    "random": lambda: lc.PCA(2, svd_solver="randomized", random_state=2**64 - 1).fit(X),
    "offset": lambda: lc.PCA(2).fit(X + np.float32(1e6)),
    "wide": lambda: lc.PCA(whiten=True).fit(X[:4]),
    "reference": lambda: lc.PCA(2, backend="reference").fit(X),
}


def everything(model: Any) -> dict[str, Any]:
    held: dict[str, Any] = {name: (getattr(model, name).dtype.str, getattr(model, name).tobytes()) for name in ARRAYS}
    parameters = {name: value for name, value in model.get_params().items() if name != "backend"}
    return held | {name: getattr(model, name) for name in NUMBERS} | {"parameters": parameters, "whiten": model._whiten}


def assert_same_results(got: Any, want: Any) -> None:
    z = want.transform(X)
    assert got.transform(X).tobytes() == z.tobytes()
    assert got.inverse_transform(z).tobytes() == want.inverse_transform(z).tobytes()
    assert lc.sample(got, 3, 0).tobytes() == lc.sample(want, 3, 0).tobytes()
    if want.noise_variance_ > 0:
        assert got.score_samples(X).tobytes() == want.score_samples(X).tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_a_file(name: str, tmp_path: Path) -> None:
    model, path = MODELS[name](), tmp_path / "m"
    before = everything(model)
    lc.save(model, path)
    assert everything(model) == before
    loaded: Any = lc.load(path, backend=model.backend)
    assert type(loaded) is lc.PCA
    assert everything(loaded) == before
    assert_same_results(loaded, model)
    lc.save(loaded, tmp_path / "again")
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    assert not loaded.mean_.flags.writeable
    with pytest.raises(TypeError, match=r"model: expected a VAE or Autoencoder, got PCA\("):
        lc.train(loaded, X)


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_a_copy(way: str, name: str) -> None:
    model = MODELS[name]()
    twin = WAYS[way](model)
    assert everything(twin) == everything(model)
    assert twin.backend == model.backend
    assert_same_results(twin, model)
    before = everything(model)
    twin.set_params(whiten=not model.whiten).fit(X[:9])
    assert everything(model) == before
    with pytest.raises(ValueError, match="this PCA has no components yet: call fit first"):
        WAYS[way](lc.PCA()).transform(X)


@pytest.mark.parametrize("instructions", _core.instruction_sets())
@pytest.mark.parametrize("name", MODELS)
def test_every_machine_accepts_the_golden_output(
    name: str, instructions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS[name]()
    lc.save(model, tmp_path / "m")
    monkeypatch.setattr(CpuBackend, "bind", functools.partialmethod(CpuBackend.bind, instruction_set=instructions))
    assert everything(lc.load(tmp_path / "m")) == everything(model)
    assert everything(lc.load(tmp_path / "m", backend="reference")) == everything(model)


# ---- compiled --------------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "transform": lambda model, x: model.transform(x),
    "inverse_transform": lambda model, z: model.inverse_transform(z),
    "score_samples": lambda model, x: model.score_samples(x),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["some", "whitened", "float64", "offset", "random"])
def test_the_bits_of_the_method(name: str, function: str) -> None:
    model, method = MODELS[name](), FUNCTIONS[function]
    data = (X + np.float32(1e6 if name == "offset" else 0)).astype(model.components_.dtype)
    given = model.transform(data) if function == "inverse_transform" else data
    for batch, threads in ((1, 1), (5, 2), (37, 3)):
        call = lc.compile(model, function, batch=batch, threads=threads)
        for rows in {1, batch}:
            want = method(model, given[:rows])
            got = call(given[:rows])
            assert (got.dtype, got.tobytes()) == (want.dtype, want.tobytes())
            out = np.full_like(want, np.nan)
            assert call(given[:rows], out=out) is out
            assert out.tobytes() == want.tobytes()


def test_compiled_is_a_snapshot_in_a_dtype_of_its_own() -> None:
    model = lc.PCA(3, whiten=True).fit(X)
    calls = {f: lc.compile(model, f, batch=37, weights="float64") for f in FUNCTIONS}
    z = model.transform(X)
    want = {f: method(model, z if f == "inverse_transform" else X) for f, method in FUNCTIONS.items()}
    model.set_params(n_components=2, whiten=False).fit(X[:9])
    for f, call in calls.items():
        got = call((z if f == "inverse_transform" else X).astype("f8"))
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want[f], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="function: expected one of 'transform', 'inverse_transform', 'score_samples', got"):
        lc.compile(model, "encode")


def test_a_plan_can_be_read() -> None:
    model = lc.PCA(3).fit(X)
    text = str(model.plan("score_samples"))
    for part in ("shift_forward", "components{3, 7}", "components.T{7, 3}", "probabilistic_pca_forward", "mean(7)"):
        assert part in text
    with pytest.raises(ValueError, match=r"function: expected one of .*'transform', got 'fit'"):
        model.plan("fit")


# ---- files that lie --------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[Header, Tensors], None], str]] = {
    "other model": (change("model", "VAE"), "config: 'latent_dim' is missing"),
    "unknown key": (change("extra", 1), "header: 'extra' is unknown"),
    "unknown parameter": (change("config/copy", True), "config: 'copy' is unknown"),
    "rows": (change("n_samples", 1), "n_samples: expected an integer at least 2, got 1"),
    "rows real": (change("n_samples", 2.5), "n_samples: expected an integer, got 2.5"),
    "noise": (change("noise_variance", -1e-9), "noise_variance: expected a finite number at least 0, got -1e-09"),
    "seed": (change("seed", -1), "seed: expected an integer from 0 .*, got -1"),
    "whiten": (change("whiten", 1), "whiten: expected True or False, got 1"),
    "not whitened": (change("whiten", False), "plans: transform: it differs from the plan of this version"),
    "operation": (change("plans/transform/calls", []), "plan 'transform': no call writes the output 'z'"),
    "plan missing": (change("plans", {}), "golden: expected the name of a plan of one output, got 'transform'"),
    "missing": (tensor("mean", None), "plan 'transform': buffer 'mean': there is no tensor 'mean'"),
    "extra": (tensor("gram", np.ones_like), "tensors: 'gram' is unknown"),
    "flat": (tensor("components", np.ravel), r"components': expected float32 \(2, 7\), .*, got float32 \(14\)"),
    "none": (tensor("components", lambda a: a[:0]), r"components': expected float32 \(2, 7\), .*, got float32 \(0, 7\)"),
    "transposed": (tensor("components", np.transpose), r"components': expected float32 \(2, 7\), .*, got float32 \(7, 2\)"),
    "half": (tensor("components", lambda a: a.astype("f2")), "components': expected the dtype F32, .*, got 'F16'"),
    "integers": (tensor("components", lambda a: a.astype("i4")), "components': expected the dtype F32, .*, got 'I32'"),
    "double": (tensor("components", lambda a: a.astype("f8")), r"components': expected float32 .*, got float64 \(2, 7\)"),
    "fewer": (tensor("components", lambda a: a[:1]), r"components': expected .*, got float32 \(1, 7\)"),
    "narrow": (tensor("mean", lambda a: a.astype("f4")), r"tensor 'mean': expected float64 \(7\), .*, got float32 \(7\)"),
    "NaN": (tensor("components", lambda a: a * np.nan), "components': expected finite numbers in float32"),
    "infinity": (tensor("mean", lambda a: a + np.inf), "tensor 'mean': expected finite numbers in float64"),
    "negative": (tensor("explained_variance", lambda a: a - 1), "explained_variance: expected finite .* of at least 0"),
    "other components": (tensor("components", lambda a: a[::-1]), "whiten: it differs from what the other tensors make"),
    "other mean": (tensor("mean", lambda a: a + 0.01), "golden:output: the weights miss it by"),
    "huge mean": (tensor("mean", lambda a: a + 1e300), "golden:output: the weights miss it by"),
    "golden": (tensor("golden:input", lambda a: a[:1]), "golden:output': expected rows that fit 'z' of plan 'transform'"),
    "golden NaN": (tensor("golden:input", lambda a: a * np.nan), "golden:input': expected finite numbers in float32"),
    "golden output": (tensor("golden:output", lambda a: a[:, :1]), "golden:output': expected rows that fit 'z'"),
    "other golden": (change("golden", "inverse_transform"), "golden: expected 'transform', got 'inverse_transform'|fit 'z'"),
    "other whiten": (tensor("whiten", lambda a: a * 2), "whiten: it differs from what the other tensors make"),
    "unwhiten": (tensor("unwhiten", lambda a: a * 2), "whiten: it differs from what the other tensors make"),
    "variance": (tensor("variance", lambda a: a + 1e-9), "variance: it differs from what the other tensors make"),
    "other noise": (tensor("noise", lambda a: -a), "noise: it differs from what the other tensors make"),
    "golden missing": (tensor("golden:output", None), "there is no tensor 'golden:output'"),
}  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES)
def test_sealed_changes(changed: str, tmp_path: Path) -> None:
    lc.save(lc.PCA(2, whiten=True).fit(X), tmp_path / "m")
    resealed(*CHANGES[changed], (tmp_path / "m").read_bytes(), tmp_path / "m")
