"""Wrong calls over the whole public face: each gets an error of the right type that names the argument, says what was
expected and what came, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latentcore as lc

X = np.random.default_rng(0).random((20, 6), np.float32)
Z = np.zeros((3, 2), np.float32)
NAN, INF = float("nan"), float("inf")


class Sparse:
    """What a sparse matrix of SciPy shows of itself."""

    shape = (20, 6)

    def toarray(self) -> np.ndarray:
        return X


class OnDevice:
    """A tensor that NumPy cannot read."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("can't convert device tensor to numpy")


def vae(**parameters: Any) -> lc.VAE:
    return lc.VAE(**{"latent_dim": 2, "hidden": (4,), "epochs": 1, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted() -> tuple[lc.VAE, lc.Autoencoder]:
    return vae().fit(X), lc.Autoencoder(2, (4,), likelihood="bernoulli", epochs=1, random_state=0).fit(X)


def everything(model: Any) -> dict[str, bytes]:
    """All that a model holds, in bytes."""
    arrays = {name + kind: a for kind in ("", ":m", ":v") for name, a in model._read(kind).items()}
    arrays |= {"progress": model._progress, **model.history_}
    return {name: a.tobytes() for name, a in arrays.items()} | {"parameters": repr(model).encode()}


Call = Callable[[Any], Any]


def fit(**parameters: Any) -> Call:
    return lambda m: vae(**parameters).fit(X)


def train(**arguments: Any) -> Call:
    return lambda m: lc.train(m, **{"X": X, **arguments})


def encode(data: Any) -> Call:
    return lambda m: m.encode(data)


def interpolate(*points: Any, **arguments: Any) -> Call:
    return lambda m: lc.interpolate(m, *points, **arguments)


def compiled(function: Any = "decode", **arguments: Any) -> Call:
    return lambda m: lc.compile(m, function, **arguments)


def put(name: Any, value: Any) -> Call:
    return lambda m: m.set_parameters({"decoder.0.bias": np.ones(4), name: value})


def pca(data: Any = X, sample_weight: Any = None, **parameters: Any) -> Call:
    return lambda m: lc.PCA(**parameters).fit(data, sample_weight=sample_weight)


def autoencoder(**parameters: Any) -> lc.Autoencoder:
    return lc.Autoencoder(2, (4,), **parameters).initialize(6)


SEED = "an integer from 0 to 18446744073709551615"
FEATURES = "a 2-D array \\(rows, features\\)"
RESHAPE = r"Reshape your data: X\.reshape"
DENSE = "a dense array of real numbers"
MATRICES = r"matrices \(\.\.\., rows, columns\)"
REALS = "float32, float64, integers or bools"

# What is wrong -> the call, the error, what it says.
CALLS: dict[str, tuple[Call, type[Exception], str]] = {
    # ---- constructors -----------------------------------------------------------------------------------------------
    "latent_dim zero": (fit(latent_dim=0), ValueError, "latent_dim: expected an integer from 1 .*, got 0"),
    "latent_dim negative": (fit(latent_dim=-3), ValueError, "latent_dim: expected an integer from 1 .*, got -3"),
    "latent_dim bool": (fit(latent_dim=True), TypeError, "latent_dim: expected an integer, got True"),
    "latent_dim text": (fit(latent_dim="2"), TypeError, "latent_dim: expected an integer, got '2'"),
    "latent_dim real": (fit(latent_dim=2.5), TypeError, "latent_dim: expected an integer, got 2.5"),
    "hidden text": (fit(hidden="400"), TypeError, "hidden: expected a sequence of layer widths, got '400'"),
    "hidden None": (fit(hidden=None), TypeError, "hidden: expected a sequence of layer widths, got None"),
    "hidden zero": (fit(hidden=(4, 0)), ValueError, "hidden: expected an integer from 1 .*, got 0"),
    "hidden real": (fit(hidden=(4.0,)), TypeError, "hidden: expected an integer, got 4.0"),
    "hidden huge": (fit(hidden=2**40), ValueError, "hidden: expected an integer .* to 2147483647, got 1099511627776"),
    "hidden beyond memory": (fit(hidden=(2**31 - 1,) * 2), MemoryError, "hidden: a layer of 2147483647 .* memory.*"),
    "activation": (fit(activation="swish"), ValueError, "activation: expected one of .*'silu', got 'swish'"),
    "likelihood": (fit(likelihood="poisson"), ValueError, "likelihood: expected .*'gaussian', got 'poisson'"),
    "variance zero": (fit(variance=0), ValueError, "variance: expected a finite number above 0, got 0"),
    "variance text": (fit(variance="fit"), ValueError, "variance: expected a number above 0 or 'learned', got 'fit'"),
    "variance list": (fit(variance=[1]), TypeError, r"variance: expected a number, got \[1\]"),
    "beta negative": (fit(beta=-1), ValueError, "beta: expected a finite number at least 0, got -1"),
    "beta NaN": (fit(beta=NAN), ValueError, "beta: expected a finite number at least 0, got nan"),
    "beta text": (fit(beta="1"), TypeError, "beta: expected a number, got '1'"),
    "beta huge": (fit(beta=10**5000), ValueError, "beta: expected a finite number .*, got an integer of 16610 bits"),
    "kl_warmup": (fit(kl_warmup=-1), ValueError, "kl_warmup: expected a finite number at least 0, got -1"),
    "free_bits": (fit(free_bits=-0.5), ValueError, "free_bits: expected a finite number at least 0, got -0.5"),
    "free_bits and samples": (
        fit(free_bits=0.5, importance_samples=2), ValueError, "free_bits: expected 0 with importance_samples=2, got 0.5"
    ),
    "importance_samples": (fit(importance_samples=0), ValueError, "importance_samples: expected an integer .*, got 0"),
    "dtype": (fit(dtype="float16"), ValueError, "dtype: expected one of 'float32', 'float64', got 'float16'"),
    "dtype class": (fit(dtype=np.float32), ValueError, "dtype: .*'float64', got <class 'numpy.float32'>"),
    "epochs negative": (fit(epochs=-1), ValueError, "epochs: expected an integer at least 0, got -1"),
    "epochs bool": (fit(epochs=True), TypeError, "epochs: expected an integer, got True"),
    "batch_size zero": (fit(batch_size=0), ValueError, "batch_size: expected an integer at least 1, got 0"),
    "batch_size real": (fit(batch_size=16.0), TypeError, "batch_size: expected an integer, got 16.0"),
    "learning_rate negative": (fit(learning_rate=-1), ValueError, "learning_rate: expected a .* at least 0, got -1"),
    "weight_decay": (fit(weight_decay=-1), ValueError, "weight_decay: expected a finite number at least 0, got -1"),
    "max_grad_norm": (fit(max_grad_norm=0), ValueError, "max_grad_norm: expected a finite number above 0, got 0"),
    "backend gpu": (fit(backend="gpu"), ValueError, "backend: expected one of auto, cpu, .*reference, got 'gpu'"),
    "backend list": (fit(backend=["cpu"]), ValueError, r"backend: expected one of .*, got \['cpu'\]"),
    "random_state negative": (fit(random_state=-1), ValueError, f"random_state: expected {SEED}, got -1"),
    "random_state wide": (fit(random_state=2**64), ValueError, f"random_state: expected {SEED}, got {2**64}"),
    "random_state text": (fit(random_state="0"), TypeError, "random_state: expected an integer, got '0'"),
    "set_params": (lambda m: m.set_params(beta=2.0, latent=3), ValueError, r"latent: expected a parameter of VAE \(.*"),
    "n_features zero": (lambda m: vae().initialize(0), ValueError, "n_features: expected an integer from 1 .*, got 0"),
    "n_features text": (lambda m: vae().initialize("6"), TypeError, "n_features: expected an integer, got '6'"),
    # ---- principal components ---------------------------------------------------------------------------------------
    "pca components zero": (pca(n_components=0), ValueError, "n_components: expected an integer from 1 to 6, got 0"),
    "pca components many": (pca(n_components=7), ValueError, "n_components: expected an integer from 1 to 6, got 7"),
    "pca components bool": (pca(n_components=True), TypeError, "n_components: expected an integer, got True"),
    "pca components list": (pca(n_components=[2]), TypeError, r"n_components: expected an integer, got \[2\]"),
    "pca components text": (pca(n_components="all"), ValueError, "n_components: expected one of 'mle', got 'all'"),
    "pca components one": (pca(n_components=1.0), ValueError, "n_components: expected an integer, or a fr.*, got 1.0"),
    "pca components NaN": (pca(n_components=NAN), ValueError, "n_components: expected an integer, or a fr.*, got nan"),
    "pca mle wide": (pca(X[:3], n_components="mle"), ValueError, "n_components: expected at least as many rows as .*"),
    "pca fraction": (
        pca(n_components=0.5, svd_solver="randomized"), ValueError, "n_components: .* svd_solver='randomized', got 0.5"
    ),
    "pca solver": (pca(svd_solver="arpack"), ValueError, "svd_solver: expected one of .*'randomized', got 'arpack'"),
    "pca whiten": (pca(whiten="yes"), TypeError, "whiten: expected True or False, got 'yes'"),
    "pca power": (pca(iterated_power=-1), ValueError, "iterated_power: expected an integer at least 0, got -1"),
    "pca power text": (pca(iterated_power="many"), TypeError, "iterated_power: expected an integer, got 'many'"),
    "pca oversamples": (pca(n_oversamples=0), ValueError, "n_oversamples: expected an integer at least 1, got 0"),
    "pca backend": (pca(backend="gpu"), ValueError, "backend: expected one of auto, cpu, .*reference, got 'gpu'"),
    "pca seed": (
        pca(random_state="0", n_components=2, svd_solver="randomized"), TypeError, "random_state: expected .*, got '0'"
    ),
    "pca one row": (pca(X[:1]), ValueError, "X: expected two rows or more, got 1 sample"),
    "pca NaN": (pca(X * NAN), ValueError, "X: expected finite numbers in float32, got NaN"),
    "pca too large": (pca(X.astype("f8") * 1e200), ValueError, "X: expected .* finite.*"),
    "pca weight length": (pca(sample_weight=[1, 2]), ValueError, r"sample_weight: expected shape \(20,\), got \(2,\)"),
    "pca weight below": (pca(sample_weight=[-1] * 20), ValueError, "sample_weight: expected finite .* 0, got -1"),
    "pca weight NaN": (pca(sample_weight=[NAN] * 20), ValueError, "sample_weight: expected finite numbers .*"),
    "pca weight none": (pca(sample_weight=np.zeros(20)), ValueError, "sample_weight: .* zero, .* above 1, got a sum of 0"),
    "pca weight text": (pca(sample_weight=["a"] * 20), TypeError, "sample_weight: expected a dense array .*"),
    "pca codes": (
        lambda m: lc.PCA(3).fit(X).inverse_transform(Z), ValueError, "Z: expected 3 features, got 2 .*"
    ),
    "pca features": (lambda m: lc.PCA(3).fit(X).transform(Z), ValueError, "X: expected 6 features, got 2 .*"),
    "pca singular": (
        lambda m: lc.PCA(2).fit(X[[0, 0, 0]]).score(X), np.linalg.LinAlgError, "the covariance of the model is zero: .*"
    ),
    # ---- arrays -----------------------------------------------------------------------------------------------------
    "one row": (encode(X[0]), ValueError, rf"X: expected {FEATURES}, got shape \(6,\)\. {RESHAPE}\(1, -1\) makes .*"),
    "a number": (encode(3.0), ValueError, rf"X: expected {FEATURES}, got shape \(\)\. {RESHAPE}\(1, -1\) .*"),
    "images": (encode(X.reshape(20, 2, 3)), ValueError, rf"X: expected .*, got shape \(20, 2, 3\)\. {RESHAPE}\(len.*"),
    "features": (
        encode(X[:, :5]), ValueError,
        r"X: expected 6 features, got 5 \(shape \(20, 5\)\); X has 5 features, but VAE is expecting 6 features as input",
    ),
    "no rows": (encode(X[:0]), ValueError, r"X: .* one row and .*, got 0 sample\(s\) \(shape=\(0, 6\)\).*"),
    "no features": (encode(X[:, :0]), ValueError, r"X: .*, got 0 feature\(s\) \(shape=\(20, 0\)\) while a minimum of 1 .*"),
    "NaN": (encode(X * NAN), ValueError, "X: expected finite numbers in float32, got NaN"),
    "infinity": (encode(X + INF), ValueError, "X: expected finite numbers in float32, got infinity"),
    "beyond float32": (encode(np.full((1, 6), 1e300)), ValueError, "X: expected .* in float32, got infinity"),
    "0 to 255": (encode(np.full((2, 6), 255)), ValueError, r"X: expected data in \[0, 1\].*, got 255 .* by 255"),
    "below zero": (encode(X - 2), ValueError, r"X: expected data in \[0, 1\] for .*, got -1.9\d+ to -1.0\d+"),
    "sparse": (encode(Sparse()), TypeError, f"X: expected {DENSE}, got a sparse Sparse"),
    "masked": (encode(np.ma.masked_less(X, 0.5)), TypeError, f"X: expected {DENSE}, got a MaskedArray"),
    "on a device": (encode(OnDevice()), TypeError, r"X: expected an array .*, got a OnDevice \(can't convert .*\)"),
    "text": (encode("X"), TypeError, f"X: expected {DENSE}, got str"),
    "strings": (encode([["a"] * 6]), TypeError, f"X: expected {DENSE}, got dtype <U1"),
    "objects": (encode([[None] * 6]), TypeError, f"X: expected {DENSE}, got dtype object: .* not 'NoneType'"),
    "texts": (encode(np.full((2, 6), "1", object)), TypeError, f"X: expected {DENSE}, got dtype object: '1' is text"),
    "huge": (encode([[-(10**400)] * 6]), ValueError, "X: expected finite numbers in float32, got infinity"),
    "complex": (encode(X + 1j), ValueError, r"X: .* real numbers, got dtype complex64\. Complex data not supported"),
    "dates": (encode(np.zeros((2, 6), "M8[s]")), TypeError, rf"X: expected {DENSE}, got dtype datetime64\[s\]"),
    "ragged": (encode([[1, 0], [0]]), ValueError, "X: expected an array .*, got rows of different lengths"),
    "None": (encode(None), TypeError, f"X: expected {DENSE}, got NoneType"),
    "fit 0 to 255": (lambda m: m.fit(X * 255), ValueError, r"X: expected data in \[0, 1\].*; .* dividing by 255"),
    "fit NaN": (lambda m: m.fit(X * NAN), ValueError, "X: expected finite numbers in float32, got NaN"),
    "transform": (lambda m: m.transform(X[0]), ValueError, r"X: expected .*, got shape \(6,\)\. .*"),
    "reconstruct": (lambda m: m.reconstruct(X * NAN), ValueError, "X: expected finite numbers .*, got NaN"),
    "decode": (lambda m: m.decode(X), ValueError, r"z: expected 2 features, got 6 \(shape \(20, 6\)\)"),
    "decode NaN": (lambda m: m.decode(Z * NAN), ValueError, "z: expected finite numbers in float32, got NaN"),
    "inverse_transform": (lambda m: m.inverse_transform(Z[0]), ValueError, r"z: expected .*, got shape \(2,\)\. .*"),
    "score": (lambda m: m.score(X[:, :1]), ValueError, r"X: expected 6 features, got 1 \(shape \(20, 1\)\); X has .*"),
    "n_samples": (lambda m: m.score_samples(X, 0), ValueError, "n_samples: expected an integer from 1 .*, got 0"),
    "n_samples real": (lambda m: m.log_likelihood(X, 5e3), TypeError, "n_samples: expected an integer, got 5000.0"),
    "seed": (lambda m: m.log_likelihood(X, 5, random_state=-1), ValueError, f"random_state: expected {SEED}, got -1"),
    "noise rows": (lambda m: m.loss_and_gradients(X, noise=Z), ValueError, "noise: expected 20 rows, got 3"),
    "noise width": (lambda m: m.loss_and_gradients(X, noise=X), ValueError, "noise: expected 2 features, got 6 .*"),
    "noise NaN": (lambda m: m.loss_and_gradients(X[:3], Z * NAN), ValueError, "noise: expected finite .*, got NaN"),
    "plan": (lambda m: m.plan("fit"), ValueError, "function: expected one of 'decode', .*'train', got 'fit'"),
    # ---- parameters -------------------------------------------------------------------------------------------------
    "parameters list": (lambda m: m.set_parameters([1]), TypeError, "parameters: expected a mapping .*, got list"),
    "parameter unknown": (put("weight", Z), KeyError, "parameters: expected names from encoder.*.*, got 'weight'"),
    "parameter shape": (put("latent.bias", Z), ValueError, r"parameters: latent.bias: .* \(4,\), got \(3, 2\)"),
    "parameter NaN": (put("latent.bias", [NAN] * 4), ValueError, "parameters: latent.bias: expected finite numbers .*"),
    "parameter wide": (put("latent.bias", [1e39] * 4), ValueError, "parameters: latent.bias: .* in float32.*"),
    "parameter text": (put("latent.bias", ["a"] * 4), TypeError, "parameters: latent.bias: .*, got dtype <U1"),
    # ---- train ------------------------------------------------------------------------------------------------------
    "train what": (lambda m: lc.train("m", X), TypeError, "model: expected a VAE or Autoencoder, got 'm'"),
    "train a class": (lambda m: lc.train(lc.VAE, X), TypeError, "model: expected a VAE or Auto.*, got <class .*>"),
    "train features": (train(X=X[:, :5]), ValueError, "X: expected 6 features, got 5 .*"),
    "train epochs": (train(epochs=1.5), TypeError, "epochs: expected an integer, got 1.5"),
    "train batch_size": (train(batch_size=-1), ValueError, "batch_size: expected an integer at least 1, got -1"),
    "train rate text": (train(learning_rate="fast"), TypeError, "learning_rate: expected a number, got 'fast'"),
    "train rate NaN": (train(learning_rate=NAN), ValueError, "learning_rate: expected a finite number .*, got nan"),
    "train rate function": (train(learning_rate=str), TypeError, "learning_rate: expected a number, got '0'"),
    "train rate late": (
        train(learning_rate=lambda e: 1e-3 if e < 3 else -e, epochs=5), ValueError, "learning_rate: .* least 0, got -3"
    ),
    "train patience": (train(patience=2), ValueError, "validation: expected rows to evaluate, .*; got None"),
    "train patience zero": (train(patience=0, validation=X), ValueError, "patience: expected .* at least 1, got 0"),
    "train validation": (train(validation=X[:, 1:]), ValueError, "validation: expected 6 features, got 5 .*"),
    "train validation NaN": (train(validation=X * NAN), ValueError, "validation: expected finite .*, got NaN"),
    "train callback": (train(callback=3), TypeError, "callback: expected a function, got 3"),
    "train checkpoint": (train(checkpoint=3), TypeError, "checkpoint: expected a str, bytes or os.PathLike, got 3"),
    "train diverges": (train(learning_rate=1e38, epochs=9), FloatingPointError, ".*finite.* as it was before.*"),
    # ---- functions --------------------------------------------------------------------------------------------------
    "sample what": (lambda m: lc.sample(None, 2), TypeError, "model: expected a VAE.* or .*PCA, got None"),
    "sample prior": (lambda m: lc.sample(autoencoder(), 2), TypeError, r"model: .* or .*PCA, got Autoencoder\(.*"),
    "sample negative": (lambda m: lc.sample(m, -1), ValueError, "n: expected an integer at least 0, got -1"),
    "sample real": (lambda m: lc.sample(m, 2.0), TypeError, "n: expected an integer, got 2.0"),
    "sample seed": (lambda m: lc.sample(m, 2, "a"), TypeError, "random_state: expected an integer, got 'a'"),
    "no points": (interpolate(), ValueError, "points: expected at least two, got 0"),
    "one point": (interpolate(X[0]), ValueError, "points: expected at least two, got 1"),
    "point features": (interpolate(X[0], Z[0]), ValueError, r"points\[1\]: expected 6 features, got 2 .*"),
    "point NaN": (interpolate(X[0], X[1] * NAN), ValueError, r"points\[1\]: expected finite numbers .*, got NaN"),
    "point range": (interpolate(X[0] * 200, X[1]), ValueError, r"points\[0\]: expected data in \[0, 1\] .*; .*255"),
    "point code": (interpolate(Z, X[0], space="latent"), ValueError, r"points\[1\]: expected 2 features, got 6 .*"),
    "steps": (interpolate(X[0], X[1], steps=1), ValueError, "steps: expected an integer at least 2, got 1"),
    "method": (interpolate(X[0], X[1], method="cubic"), ValueError, "method: expected .*'linear', got 'cubic'"),
    "space": (interpolate(X[0], X[1], space="code"), ValueError, "space: expected .*'latent', got 'code'"),
    "compile what": (lambda m: lc.compile(X, "decode"), TypeError, "model: expected a VAE, .*PCA, got array.*"),
    "compile function": (compiled("sample"), ValueError, "function: expected one of 'encode', .*, got 'sample'"),
    "compile posterior": (
        lambda m: lc.compile(autoencoder(), "posterior"), ValueError, "function: expected .*, got 'posterior'"
    ),
    "compile batch": (compiled(batch=0), ValueError, "batch: expected an integer from 1 .*, got 0"),
    "compile batch wide": (compiled(batch=2**70), ValueError, f"batch: expected an integer .*, got {2**70}"),
    "compile weights": (compiled(weights="int4"), ValueError, "weights: expected .*'int8_dynamic', got 'int4'"),
    "compile threads": (compiled(threads=0), ValueError, "threads: expected an integer from 1 to 256, got 0"),
    "compile release_gil": (compiled(release_gil="no"), TypeError, "release_gil: expected True or False, got 'no'"),
    "save what": (lambda m: lc.save("m", "m"), TypeError, "model: expected a VAE, .*PCA, got 'm'"),
    "save path": (lambda m: lc.save(m, 3), TypeError, "path: expected a str, bytes or os.PathLike, got 3"),
    "save nothing": (lambda m: lc.save(m, ""), ValueError, "path: expected the name of a file, got ''"),
    "load path": (lambda m: lc.load(None), TypeError, "path: expected a str, bytes or os.PathLike, got None"),
    "load backend": (lambda m: lc.load("m", "gpu"), ValueError, "backend: expected one of .*, got 'gpu'"),
    # ---- decompositions ---------------------------------------------------------------------------------------------
    "svd row": (lambda m: lc.svd(X[0]), ValueError, rf"A: expected {MATRICES}, got shape \(6,\)"),
    "svd number": (lambda m: lc.svd(3.0), ValueError, rf"A: expected {MATRICES}, got shape \(\)"),
    "svd text": (lambda m: lc.svd("A"), TypeError, f"A: expected {DENSE}, got str"),
    "svd None": (lambda m: lc.svd(None), TypeError, f"A: expected {DENSE}, got NoneType"),
    "svd ragged": (lambda m: lc.svd([[1, 0], [0]]), ValueError, "A: expected .*, got rows of different lengths"),
    "svd sparse": (lambda m: lc.svd(Sparse()), TypeError, f"A: expected {DENSE}, got a sparse Sparse"),
    "svd complex": (lambda m: lc.svd(X + 1j), ValueError, "A: expected real numbers, got dtype complex64.*"),
    "svd half": (lambda m: lc.svd(X.astype("f2")), TypeError, f"A: expected {REALS}, got dtype float16"),
    "svd NaN": (lambda m: lc.svd(X * NAN, backend="reference"), ValueError, "A: expected finite numbers, got NaN or inf.*"),
    "svd compute_uv": (lambda m: lc.svd(X, compute_uv=1), TypeError, "compute_uv: expected True or False, got 1"),
    "svd validate": (lambda m: lc.svd(X, validate=None), TypeError, "validate: expected True or False, got None"),
    "svd backend": (lambda m: lc.svd(X, backend="gpu"), ValueError, "backend: expected one of .*, got 'gpu'"),
    "svd backend list": (lambda m: lc.svd(X, backend=["cpu"]), ValueError, r"backend: expected .*, got \['cpu'\]"),
    "eigh row": (lambda m: lc.eigh(X[0]), ValueError, rf"C: expected {MATRICES}, got shape \(6,\)"),
    "eigh wide": (lambda m: lc.eigh(X), ValueError, r"C: expected square .*, n, n\), got shape \(\.\.\., 20, 6\)"),
    "eigh half": (lambda m: lc.eigh(np.eye(2, dtype="f2")), TypeError, f"C: expected {REALS}, got dtype float16"),
    "eigh eigenvectors": (lambda m: lc.eigh(X, eigenvectors="no"), TypeError, "eigenvectors: expected True .*'no'"),
    "eigh NaN": (
        lambda m: lc.eigh(np.full((4, 3, 3), NAN), backend="reference"), ValueError, "C: expected finite .* in matrix 0"
    ),
    # ---- threads ----------------------------------------------------------------------------------------------------
    "threads zero": (lambda m: lc.set_num_threads(0), ValueError, "threads: expected an integer from 1 to 256, got 0"),
    "threads many": (lambda m: lc.set_num_threads(257), ValueError, "threads: expected .* to 256, got 257"),
    "threads bool": (lambda m: lc.set_num_threads(True), ValueError, "threads: expected an integer .*, got True"),
    "threads text": (lambda m: lc.set_num_threads("2"), ValueError, "threads: expected an integer .*, got '2'"),
}  # fmt: skip


def spoken(error: BaseException) -> str:
    return error.args[0] if isinstance(error, KeyError) else str(error)


@pytest.mark.parametrize("wrong", CALLS)
def test_wrong_call(wrong: str, fitted: tuple[lc.VAE, lc.Autoencoder]) -> None:
    call, kind, says = CALLS[wrong]
    model, threads = fitted[0], lc.get_num_threads()
    before = everything(model)
    with pytest.raises(kind) as caught:
        call(model)
    text = spoken(caught.value)
    assert re.fullmatch(says, text), text
    assert len(text) < 300
    assert text.isprintable()
    assert everything(model) == before
    assert lc.get_num_threads() == threads


def test_table_is_large() -> None:
    assert len(CALLS) >= 100


def test_a_callback_that_fails_changes_nothing(fitted: tuple[lc.VAE, lc.Autoencoder]) -> None:
    model = fitted[1]
    before = everything(model)
    with pytest.raises(ZeroDivisionError):
        lc.train(model, X, epochs=3, callback=lambda epoch, record: 1 // (epoch - 2))
    assert everything(model) == before


def test_what_cannot_be_a_checkpoint_is_told_before_training(tmp_path: Path) -> None:
    begun: list[int] = []
    model = vae()
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*missing/m'"):
        lc.train(model, X, checkpoint=tmp_path / "missing" / "m", callback=lambda epoch, record: begun.append(epoch))
    scheduled = vae(learning_rate=lambda epoch: 1e-3)
    with pytest.raises(TypeError, match=r"learning_rate: expected a number or a text.*got <function.*lc\.train"):
        lc.train(scheduled, X, checkpoint=tmp_path / "m", callback=lambda epoch, record: begun.append(epoch))
    assert begun == []
    assert list(tmp_path.iterdir()) == []


def test_a_run_beyond_memory(fitted: tuple[lc.VAE, lc.Autoencoder]) -> None:
    model = fitted[0]
    with pytest.raises(MemoryError, match=r"decode: a run of 1125899906842624 rows takes more memory than there is"):
        model._backend.bind(model._plan("decode"), 2**50, model._storage)


@pytest.mark.parametrize(
    ("parameters", "kind", "says"),
    [
        ({"random_state": np.random.default_rng(0)}, TypeError, r"random_state: .*got Generator\(.*; give it to .*"),
        ({"learning_rate": lambda epoch: 1e-3}, TypeError, "learning_rate: .*got <function .*; give it to lc.train"),
        ({"beta": INF}, ValueError, "beta: expected a finite number, which a file can hold, got inf"),
    ],
    ids=["generator", "function", "infinity"],
)  # fmt: skip
def test_what_no_file_can_hold(parameters: dict[str, Any], kind: type[Exception], says: str, tmp_path: Path) -> None:
    model = vae(**parameters).initialize(6)
    with pytest.raises(kind, match=says):
        lc.save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
