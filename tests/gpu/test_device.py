"""What a GPU alone can show: sizes that the interpreter takes too long for, streams, graphs, threads, precisions, and the
libraries beneath. Without one these tests are counted among those that did not run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import pytest
import test_linear
from cases import each
from kernels import ON_GPU, assert_agrees
from numerics import assert_same_bits

import latentcore as lc
from latentcore import backends
from latentcore.ops import Clock
from latentcore.plan import Plan
from latentcore.training import Trainer

pytestmark = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")

FEATURES, LATENT = 784, 20
X = models.draw(700, FEATURES, zeros=0.8)
Z = np.random.default_rng(1).standard_normal((20000, LATENT)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def cupy(backend: Any) -> Iterator[Any]:
    """CuPy, and this backend as "cuda"."""
    before = dict(backends._BACKENDS)
    backends._BACKENDS["cuda"] = backend
    yield backend.xp
    backends._BACKENDS.clear()
    backends._BACKENDS.update(before)


def vae(backend: str = "cuda", **parameters: Any) -> lc.VAE:
    return lc.VAE(LATENT, (400,), backend=backend, random_state=0, **parameters)


# ---- sizes -----------------------------------------------------------------------------------------------------------

LARGE = [
    test_linear.forward(1000, FEATURES, 400, "relu"),
    test_linear.forward(1, LATENT, 400, "gelu"),
    test_linear.forward(257, 1030, 1100, "identity"),
    test_linear.backward_input(1000, 400, FEATURES, "relu"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each(LARGE)
def test_large_products_agree(case, dtype, backend):
    assert_agrees(case, dtype, backend)


@pytest.mark.parametrize("batch", [16, 128, 512])
def test_training_is_that_of_the_cpu(batch):
    here, there = vae("cpu", batch_size=batch), vae(batch_size=batch)
    want, got = lc.train(here, X, epochs=3, validation=X[:100]), lc.train(there, X, epochs=3, validation=X[:100])
    for name in ("loss", "recon", "kl", "val_loss"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-3)
    assert got["loss"][-1] < got["loss"][0]


def test_a_row_does_not_depend_on_the_others(cupy):
    model, whole = vae().initialize(FEATURES), cupy.asarray(Z)
    want = cupy.asnumpy(model.decode(whole))
    for rows in (1, 3, 17, 128, 129, 1025):
        assert_same_bits(cupy.asnumpy(model.decode(whole[:rows])), want[:rows])


@pytest.mark.parametrize(
    "shape", [(200, 3, 3), (50, 33, 33), (9, 70, 64), (3, 300, 100), (2, 150, 400), (1, 1100, 1040)], ids=str
)
def test_singular_values_of_all_sizes(shape, cupy):
    A = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    u, s, vt = (cupy.asnumpy(each) for each in lc.svd(cupy.asarray(A)))
    bound = 60 * np.finfo(np.float32).eps * max(shape[1:]) ** 0.5 * s.max()
    assert np.abs(s - np.linalg.svd(A.astype(np.float64), compute_uv=False)).max() <= bound
    assert np.abs((u * s[:, None]) @ vt - A).max() <= bound


@pytest.mark.parametrize("n", [3, 32, 33, 200, 600])
def test_eigenvalues_of_all_sizes(n, cupy):
    A = np.random.default_rng(0).standard_normal((3, n, n))
    C = A @ A.transpose(0, 2, 1) / n
    w, v = (cupy.asnumpy(each) for each in lc.eigh(cupy.asarray(C)))
    np.testing.assert_allclose(w, np.linalg.eigvalsh(C), atol=1e-12 * n)
    np.testing.assert_allclose(C @ v, v * w[:, None], atol=1e-12 * n)


def test_components_of_many_rows(cupy):
    rows = np.random.default_rng(0).standard_normal((70000, 100)).astype(np.float32) * np.linspace(
        3, 1, 100, dtype=np.float32
    )
    want, got = lc.PCA(10).fit(rows + 100), lc.PCA(10).fit(cupy.asarray(rows + 100))
    np.testing.assert_allclose(got.explained_variance_, want.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(got.components_, want.components_, atol=2e-4)


@pytest.mark.parametrize("rows", [2**21 + 3, 2**28 + 5], ids=["blocks", "offsets"])
def test_more_rows_than_other_dimensions_of_a_grid_and_int32_hold(rows, cupy, backend):
    inputs = 8
    if cupy.cuda.Device().mem_info[0] < 6 * rows * inputs:
        pytest.skip("needs a GPU of more memory")
    plan = Plan("wide")
    plan.input("x", "rows", inputs)
    plan.output("y", "rows", 1)
    weight = plan.weight("w", 1, inputs)
    plan.call("linear_forward", y="y", x="x", w=weight)
    state = {"w": backend.allocate(plan.buffers["w"])}
    backend.put(state["w"], np.arange(1.0, inputs + 2)[None])
    arrays = {"x": cupy.zeros((rows, inputs), "float32"), "y": cupy.full((rows, 1), cupy.nan, "float32")}
    arrays["x"][-1] = 1
    backend.bind(plan, rows, state).run(arrays, Clock(rows=rows))
    assert arrays["y"][[0, -2, -1], 0].get().tolist() == [inputs + 1, inputs + 1, sum(range(1, inputs + 2))]
    assert not cupy.isnan(arrays["y"]).any()


# ---- graphs and streams ----------------------------------------------------------------------------------------------


def test_many_steps_are_single_steps(cupy):
    """A replayed graph, launches one by one, and both again: the same bits."""
    states, found = [], []
    for slices in ([9], [1] * 9, [9], [4, 1, 4]):
        trainer = Trainer(vae(batch_size=100), cupy.asarray(X))
        found.append(np.concatenate([trainer.run(steps) for steps in slices]))
        states.append(models.state(trainer.model))
    for state, metrics in zip(states[1:], found[1:]):
        models.assert_same(state, states[0])
        assert_same_bits(metrics, found[0])


def test_work_goes_to_the_current_stream(cupy):
    model, want = vae().initialize(FEATURES), {}
    inputs = [cupy.asarray(Z[k : k + 500]) for k in range(0, 4000, 500)]
    for k, z in enumerate(inputs):
        want[k] = cupy.asnumpy(model.decode(z))
    streams, made = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)], []
    cupy.cuda.Device().synchronize()
    for turn in range(6):
        for k, z in enumerate(inputs):
            with streams[(turn + k) % 3]:
                made.append((k, model.decode(z, validate=False)))
    cupy.cuda.Device().synchronize()
    for k, x in made:
        assert_same_bits(cupy.asnumpy(x), want[k])


def test_several_threads(cupy):
    model, wrong = vae().initialize(FEATURES), []
    want = cupy.asnumpy(model.decode(cupy.asarray(Z[:300])))

    def repeat() -> None:
        with cupy.cuda.Stream(non_blocking=True) as stream:
            z = cupy.asarray(Z[:300])
            for _ in range(20):
                x = model.decode(z)
                stream.synchronize()
                wrong.extend([] if (cupy.asnumpy(x) == want).all() else ["other bits"])

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_calls_do_not_pile_up_memory(cupy):
    model, z, used = vae().initialize(FEATURES), cupy.asarray(Z), []
    for _ in range(30):
        model.decode(z)
        lc.svd(z[:300].reshape(20, 15, 20))
        cupy.cuda.Device().synchronize()
        used.append(cupy.get_default_memory_pool().used_bytes())
    assert used[-1] == used[5]


def test_a_model_keeps_to_its_gpu(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    model, z = vae().initialize(FEATURES), cupy.asarray(Z[:10])
    with cupy.cuda.Device(1):
        with pytest.raises(ValueError, match="lies on"):
            model.decode(Z[:10])
        with pytest.raises(ValueError, match="lies on"):
            lc.svd(z[None])
        assert lc.svd(cupy.asarray(Z[:10])[None])[0].device.id == 1
    assert model.decode(z).device.id == 0


# ---- precision -------------------------------------------------------------------------------------------------------


def test_named_precisions(cupy):
    model = vae("cpu").initialize(FEATURES)
    want = model.to("reference").decode(Z[:500])
    errors = {}
    for name in ("cuda", "cuda:tf32"):
        errors[name] = float(np.abs(model.to(name).decode(Z[:500]) - want).max())
    assert errors["cuda"] < 2e-6
    assert 2e-6 < errors["cuda:tf32"] < 2e-3
