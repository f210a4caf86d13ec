"""Models, decompositions and training on the GPU backend: what is promised is the same as on the CPU, and arrays come back
where they came from. Without a GPU its kernels are interpreted, over arrays that are none of NumPy's."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import models
import numpy as np
import pytest
from kernels import ON_GPU
from numerics import assert_same_bits

import latentcore as lc
from latentcore import backends, linalg
from latentcore.backends.cuda import CudaBackend
from latentcore.ops import Clock
from latentcore.training import Trainer

ROWS, FEATURES = 12, 6
X = models.draw(ROWS, FEATURES)
Z = np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)


class Place:
    """The device, and what the tests do on it."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.kind: type[Any] = type(device.zeros((1,), "float32"))

    def put(self, array: np.ndarray) -> Any:
        return self.device.xp.asarray(array)

    def read(self, array: Any) -> np.ndarray:
        """An array of the device or of NumPy's as NumPy's."""
        return self.device.read(array) if type(array) is self.kind else array


class Foreign:
    """Another library's array on the device, which speaks DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


@pytest.fixture(scope="module", autouse=True)
def place(backend: CudaBackend) -> Iterator[Place]:
    """On a GPU its own arrays, else such as behave like them."""
    if not ON_GPU:
        from strict import StrictDevice

        backend = CudaBackend(StrictDevice())
    before = dict(backends._BACKENDS)
    backends._BACKENDS["cuda"] = backend
    yield Place(backend.device)
    backends._BACKENDS.clear()
    backends._BACKENDS.update(before)
    linalg._solver.cache_clear()


@pytest.fixture(autouse=True)
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments are bound for few rows: the interpreter goes through all that a plan is bound for."""
    monkeypatch.setattr("latentcore.models.moments._MOST", 8)


def vae(**parameters: Any) -> lc.VAE:
    return lc.VAE(**{"latent_dim": 2, "hidden": (5,), "epochs": 1, "batch_size": 8, "random_state": 0, **parameters})


def autoencoder(**parameters: Any) -> lc.Autoencoder:
    return lc.Autoencoder(2, (5,), epochs=1, batch_size=8, random_state=0, **parameters)


def near(got: Any, want: Any, tolerance: float = 2e-4) -> None:
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---- there and back --------------------------------------------------------------------------------------------------

FITTED: dict[str, Callable[[], Any]] = {
    "VAE": lambda: vae().fit(X),
    "learned variance": lambda: vae(likelihood="gaussian", variance="learned", dtype="float64").fit(X),
    "Autoencoder": lambda: autoencoder().fit(X),
    "PCA": lambda: lc.PCA(2, whiten=True).fit(X),
    "IncrementalPCA": lambda: lc.IncrementalPCA(2).fit(X),
    "rows to come": lambda: lc.IncrementalPCA(2).partial_fit(X[:1]),
    "BatchedPCA": lambda: lc.BatchedPCA(2).fit([X[:7], X[7:]]),
}


def described(model: Any) -> dict[str, Any]:
    """All that a model holds beside its backend."""
    if isinstance(model, lc.BatchedPCA):
        arrays, rest = {k: a for k, a in vars(model).items() if isinstance(a, np.ndarray)}, {}
    elif isinstance(model, lc.IncrementalPCA) and model._stale:
        arrays, rest = dict(zip("cmg", map(np.asarray, model._moments.get()))), {"rows": model.n_samples_seen_}
    else:
        rest, arrays = model._describe()
    return {**rest, **{name: models.bits(array) for name, array in arrays.items()}}


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


# ---- arrays ----------------------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[str, np.ndarray, Callable[[Any, Any], Any]]] = {
    "encode": ("VAE", X, lambda m, x: m.encode(x)[1]),
    "transform": ("VAE", X, lambda m, x: m.transform(x)),
    "decode": ("VAE", Z, lambda m, z: m.decode(z)),
    "reconstruct": ("Autoencoder", X, lambda m, x: m.reconstruct(x)),
    "score_samples": ("VAE", X, lambda m, x: m.score_samples(x, 2)),
    "log_likelihood": ("VAE", X[:3], lambda m, x: m.log_likelihood(x, 3)),
    "interpolate": ("VAE", X[:3], lambda m, x: lc.interpolate(m, x[0], x[1:], steps=3)),
    "interpolate codes": ("VAE", Z, lambda m, z: lc.interpolate(m, z, steps=2, method="linear", space="latent")),
    "PCA transform": ("PCA", X, lambda m, x: m.transform(x)),
    "PCA inverse_transform": ("PCA", Z, lambda m, z: m.inverse_transform(z)),
    "PCA score_samples": ("PCA", X, lambda m, x: m.score_samples(x)),
    "BatchedPCA transform": ("BatchedPCA", X, lambda m, x: m.transform([x[:7], x[7:]])[1]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_arrays_come_back_where_they_came_from(name, place):
    kind, given, call = CALLS[name]
    model = FITTED[kind]()
    want = call(model, given)
    model.to("cuda")
    home, there = call(model, given), call(model, place.put(given))
    assert (type(home), type(there)) == (np.ndarray, place.kind)
    near(home, want)
    assert_same_bits(place.read(there), home)


MADE: dict[str, Callable[[Place], Any]] = {
    "DLPack": lambda p: Foreign(p.put(X)),
    "Fortran": lambda p: p.put(X.T.copy()).T,
    "strided": lambda p: p.put(np.repeat(X, 2, 1))[:, ::2],
    "float64": lambda p: p.put(X.astype(np.float64)),
    "unaligned": lambda p: p.put(np.vstack([X[:1], X]))[1:],
}


@pytest.mark.parametrize("name", MADE)
def test_anything_on_the_device_is_taken(name, place):
    model = FITTED["VAE"]().to("cuda")
    found = model.transform(MADE[name](place))
    assert type(found) is place.kind
    assert_same_bits(place.read(found), model.transform(X))


def test_what_is_wrong_on_the_device_is_said(place):
    model = FITTED["VAE"]().to("cuda")
    for wrong, says in (
        (X * np.nan, "finite numbers in float32, got NaN"),
        (X * 9, r"data in \[0, 1\]"),
        (X[:, 1:], "6 features, got 5"),
    ):
        with pytest.raises(ValueError, match=f"X: expected {says}"):
            model.encode(place.put(wrong))


def test_gradients_are_those_of_the_cpu(place):
    model = vae(importance_samples=2).fit(X)
    noise = np.random.default_rng(0).standard_normal((2 * ROWS, 2)).astype(np.float32)
    want_loss, want = model.loss_and_gradients(X, noise)
    loss, got = model.to("cuda").loss_and_gradients(place.put(X), place.put(noise))
    near(loss, want_loss)
    for name in want:
        near(got[name], want[name])


def test_samples_are_those_of_the_cpu():
    model = FITTED["VAE"]()
    want = lc.sample(model, 5, random_state=3)
    near(lc.sample(model.to("cuda"), 5, random_state=3), want)


def test_arrays_that_take_turns_are_recorded_once(place, monkeypatch):
    model, recorded, written = FITTED["VAE"]().to("cuda"), [], []
    record, write = place.device.record, place.device.write
    monkeypatch.setattr(place.device, "record", lambda *given, **how: (recorded.append(1), record(*given, **how))[1])
    monkeypatch.setattr(place.device, "write", lambda *given: (written.append(1), write(*given))[1])
    plan, z, outputs = model._plan("decode"), place.put(Z), [place.put(np.zeros_like(X[:4])) for _ in range(2)]
    written.clear()
    bound = model._backend.bind(plan, 4, model._storage)
    for turn in range(6):
        bound.run({"z": z, "x_mean": outputs[turn % 2]}, Clock(rows=4))
    assert (len(recorded), len(written)) == (2, 1)
    for output in outputs:
        assert_same_bits(place.read(output), model.decode(Z))


# ---- training --------------------------------------------------------------------------------------------------------


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


def test_data_goes_to_the_device_once(place, monkeypatch):
    data = models.draw(400, FEATURES)
    trainer = Trainer(vae(backend="cuda"), data)
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


# ---- files and snapshots ---------------------------------------------------------------------------------------------


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


# ---- decompositions --------------------------------------------------------------------------------------------------

SHAPES = [(2, 3, 2), (2, 1, 2, 2), (2, 3), (0, 3, 3), (2, 0, 3), (2, 3, 0)]


@pytest.fixture(params=["kernels", "cuSOLVER"])
def solver(request, monkeypatch):
    """By kernels, and by what stands for cuSOLVER."""
    if request.param == "cuSOLVER":
        monkeypatch.setattr(CudaBackend, "serves", lambda *_: False)
    linalg._solver.cache_clear()
    yield request.param
    linalg._solver.cache_clear()


def assert_orthonormal(columns: np.ndarray, bound: float) -> None:
    near(
        columns.swapaxes(-2, -1) @ columns,
        np.broadcast_to(np.eye(columns.shape[-1]), columns.shape[:-2] + columns.shape[-1:] * 2),
        bound,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_svd(shape, dtype, solver, place):
    A = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    S, bound = lc.svd(A, compute_uv=False), 200 * float(np.finfo(dtype).eps)
    for given, kind in ((A, np.ndarray), (place.put(A), place.kind)):
        found = lc.svd(given, backend="cuda")
        values = lc.svd(given, backend="cuda", compute_uv=False)
        assert [type(each) for each in (*found, values)] == [kind] * 4
        u, s, vt = map(place.read, found)
        assert s.dtype == u.dtype == vt.dtype == dtype
        near(s, S, bound)
        near(place.read(values), S, bound)
        near((u * s[..., None, :]) @ vt, A, bound)
        assert_orthonormal(u, bound)
        assert_orthonormal(vt.swapaxes(-2, -1), bound)
        assert not vt.size or (np.take_along_axis(vt, np.abs(vt).argmax(-1)[..., None], -1) > 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 2), (0, 2, 2)], ids=str)
def test_eigh(shape, dtype, solver, place):
    C = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    whole = np.tril(C) + np.tril(C, -1).swapaxes(-2, -1)
    W, bound = lc.eigh(C, eigenvectors=False), 200 * float(np.finfo(dtype).eps)
    for given, kind in ((C, np.ndarray), (place.put(C), place.kind)):
        found, values = lc.eigh(given, backend="cuda"), lc.eigh(given, backend="cuda", eigenvectors=False)
        assert [type(each) for each in (*found, values)] == [kind] * 3
        w, v = map(place.read, found)
        near(w, W, bound)
        near(place.read(values), W, bound)
        near(whole @ v, v * w[..., None, :], bound)
        assert_orthonormal(v, bound)


def test_a_matrix_that_is_not_finite(solver, place):
    A = np.random.default_rng(0).standard_normal((3, 3, 2))
    A[1, 2, 0] = np.inf
    for given in (A, place.put(A)):
        with pytest.raises(ValueError, match="A: expected finite numbers, got NaN or infinity in matrix 1"):
            lc.svd(given, backend="cuda")
        u, s, _ = map(place.read, lc.svd(given, backend="cuda", validate=False))
        assert np.isnan(u[1]).all()
        assert np.isnan(s[1]).all()
        assert np.isfinite(s[[0, 2]]).all()


def test_what_lies_on_the_gpu_is_worked_on_there(place):
    assert type(lc.svd(place.put(X), compute_uv=False)) is place.kind
    assert type(lc.svd(Foreign(place.put(X)), compute_uv=False)) is place.kind
    assert lc.PCA(2).fit(place.put(X))._backend.name == "cuda"
    assert lc.PCA(2).fit(X)._backend.name == "cpu"


# ---- principal components --------------------------------------------------------------------------------------------

WIDE = np.random.default_rng(5).standard_normal((5, 8)) @ np.diag(2.0 ** -np.arange(8)) + 3
FITS: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
    "full": (X, {"svd_solver": "full"}, {}),
    "full wide": (WIDE, {"svd_solver": "full"}, {}),
    "covariance": (X, {"svd_solver": "covariance_eigh"}, {}),
    "covariance wide": (WIDE, {"svd_solver": "covariance_eigh"}, {}),
    "randomized": (X, {"svd_solver": "randomized", "n_oversamples": 4}, {}),
    "weights": (X, {"svd_solver": "covariance_eigh"}, {"sample_weight": np.arange(ROWS) % 3}),
    "weights full": (X, {"svd_solver": "full"}, {"sample_weight": np.arange(ROWS) % 3}),
}


@pytest.mark.parametrize("name", FITS)
def test_components_are_those_of_the_cpu(name, place):
    data, parameters, arguments = FITS[name]
    want = lc.PCA(2, random_state=0, **parameters).fit(data, **arguments)
    for given in (data, place.put(data)):
        pca = lc.PCA(2, random_state=0, backend="cuda", **parameters).fit(given, **arguments)
        for attribute in ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
            assert type(getattr(pca, attribute)) is np.ndarray
            near(getattr(pca, attribute), getattr(want, attribute))
        near(pca.noise_variance_, want.noise_variance_)


def test_pieces_on_the_device(place):
    want = lc.IncrementalPCA(2).fit(X)
    for pieces in ([X[:5], X[5:]], [place.put(X[:5]), place.put(X[5:])]):
        pca = lc.IncrementalPCA(2, backend="auto" if type(pieces[0]) is place.kind else "cuda")
        for piece in pieces:
            pca.partial_fit(piece)
        assert pca._moments.backend.name == "cuda"
        near(pca.components_, want.components_)
        assert lc.IncrementalPCA(2, backend=pca.backend).fit(iter(pieces)).n_samples_seen_ == ROWS


@pytest.mark.parametrize("solver_name", ["covariance_eigh", "full"])
def test_groups_on_the_device(solver_name, place):
    groups = np.random.default_rng(2).standard_normal((2, 4, 3)) * 2.0 ** -np.arange(3)
    want = lc.BatchedPCA(2, svd_solver=solver_name).fit(groups)
    ragged = [place.put(each) for each in groups]
    for given in (groups, place.put(groups), ragged):
        pca = lc.BatchedPCA(2, svd_solver=solver_name, backend="cuda").fit(given)
        for attribute in ("mean_", "components_", "explained_variance_"):
            near(getattr(pca, attribute), getattr(want, attribute))
        codes = pca.transform(given)
        assert type(codes[0]) is (np.ndarray if given is groups else place.kind)
        near(np.stack([place.read(each) for each in codes]), want.transform(groups))


# ---- CuPy ------------------------------------------------------------------------------------------------------------

if not ON_GPU:

    def test_cupy_has_all_that_is_asked_of_it(place, monkeypatch):
        import cupy

        monkeypatch.setattr(CudaBackend, "serves", lambda *_: False)
        linalg._solver.cache_clear()
        place.device.used.clear()
        for vectors in (True, False):
            lc.svd(X, compute_uv=vectors, backend="cuda")
        for data, parameters, arguments in FITS.values():
            lc.PCA(2, random_state=0, backend="cuda", **parameters).fit(data, **arguments)
        linalg._solver.cache_clear()
        assert {"asarray", "sort", "tril", "linalg.eigh", "linalg.qr", "linalg.svd"} <= place.device.used
        for name in place.device.used:
            assert callable(functools.reduce(getattr, name.split("."), cupy))
