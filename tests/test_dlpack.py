"""Arrays of other libraries: what lies in main memory is used in place or copied once, and goes back without a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import latentcore as lc

FEATURES, LATENT = 7, 3
X = np.random.default_rng(0).random((9, FEATURES), np.float32)
Z = np.random.default_rng(1).standard_normal((9, LATENT), np.float32)


class Speaker:
    """An array of another library that speaks DLPack and nothing else."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the package torch")


@pytest.fixture(scope="module")
def vae() -> lc.VAE:
    return lc.VAE(LATENT, (5,), random_state=0).initialize(FEATURES)


METHODS: dict[str, Callable[[lc.VAE, Any, Any], Any]] = {
    "encode": lambda vae, x, z: vae.encode(x)[1],
    "transform": lambda vae, x, z: vae.transform(x),
    "decode": lambda vae, x, z: vae.decode(z),
    "reconstruct": lambda vae, x, z: vae.reconstruct(x),
    "score_samples": lambda vae, x, z: vae.score_samples(x),
    "interpolate": lambda vae, x, z: lc.interpolate(vae, x[0], x[1]),
    "loss": lambda vae, x, z: vae.loss_and_gradients(x, noise=z)[1]["latent.weight"],
    "parameters": lambda vae, x, z: vae.set_parameters({"decoder.0.weight": z[:5]}).decode(z),
    "fit": lambda vae, x, z: lc.VAE(2, (3,), epochs=1, random_state=0).fit(x).transform(x),
    "pca": lambda vae, x, z: lc.PCA(2).fit(x, sample_weight=x[:, 0]).transform(x),
    "svd": lambda vae, x, z: lc.svd(x)[1],
}


@pytest.mark.parametrize("method", METHODS)
def test_tensors_of_pytorch(method: str, vae: lc.VAE, torch: Any) -> None:
    want = METHODS[method](vae, X, Z)
    tensors = {
        "as it is": (torch.from_numpy(X), torch.from_numpy(Z)),
        "strided": (torch.from_numpy(np.repeat(X, 2, 1))[:, ::2], torch.from_numpy(np.repeat(Z, 2, 0))[::2]),
        "transposed": (torch.from_numpy(X.T.copy()).T, torch.from_numpy(Z.T.copy()).T),
    }
    for x, z in tensors.values():
        got = METHODS[method](vae, x, z)
        assert type(got) is np.ndarray
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("wrap", ["torch", "speaker", "torch behind a speaker"])
def test_nothing_is_copied_that_fits(wrap: str, vae: lc.VAE, torch: Any) -> None:
    given = {"torch": torch.from_numpy(X), "speaker": Speaker(X), "torch behind a speaker": Speaker(torch.from_numpy(X))}
    assert vae._check_data(given[wrap]).ctypes.data == X.ctypes.data


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8", "bool"])
def test_other_dtypes(dtype: str, vae: lc.VAE, torch: Any) -> None:
    array = (X > 0.5).astype(dtype)
    want = vae.transform(array)
    for tensor in (torch.from_numpy(array), Speaker(array)):
        assert vae.transform(tensor).tobytes() == want.tobytes()


def test_read_only_memory(vae: lc.VAE) -> None:
    locked = X.copy()
    locked.flags.writeable = False
    assert vae.transform(Speaker(locked)).tobytes() == vae.transform(X).tobytes()


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "gradients": (lambda t: t.clone().requires_grad_(), r"X: expected an array .*requires? grad.*detach\(\)"),
    "bfloat16": (lambda t: t.bfloat16(), "X: expected an array of real numbers, got a .*"),
    "sparse": (lambda t: t.to_sparse(), r"X: expected an array .*to_dense\(\)"),
    "no memory": (lambda t: t.to("meta"), "X: expected an array .*meta"),
    "negative bit": (lambda t: t._neg_view(), r"X: expected an array .*resolve_neg\(\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_tensors_that_are_refused(kind: str, vae: lc.VAE, torch: Any) -> None:
    change, says = REFUSED[kind]
    with pytest.raises(TypeError, match=says):
        vae.transform(change(torch.from_numpy(X)))


def test_speakers_that_are_refused(vae: lc.VAE, torch: Any) -> None:
    for tensor in (torch.from_numpy(X).requires_grad_(), torch.from_numpy(X).bfloat16()):
        with pytest.raises(TypeError, match="X: expected an array of real numbers, got a Speaker"):
            vae.transform(Speaker(tensor))
    with pytest.raises(ValueError, match="X: expected real numbers, got dtype complex64"):
        vae.transform(Speaker(X + 1j))


def test_no_rows_and_no_features(vae: lc.VAE, torch: Any) -> None:
    for wrap in (torch.from_numpy, Speaker):
        with pytest.raises(ValueError, match=r"X: expected at least one row and one feature, got 0 sample\(s\)"):
            vae.transform(wrap(X[:0]))
        with pytest.raises(ValueError, match=r"X: expected at least one row and one feature, got 0 feature\(s\)"):
            vae.transform(wrap(X[:, :0]))
        with pytest.raises(ValueError, match=r"X: expected a 2-D array"):
            vae.transform(wrap(X[0]))


def test_outputs_go_back_without_a_copy(vae: lc.VAE, torch: Any) -> None:
    made = vae.decode(torch.from_numpy(Z))
    tensor = torch.from_dlpack(made)
    assert tensor.data_ptr() == made.ctypes.data
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (9, FEATURES))


def test_a_compiled_function_fills_a_tensor(vae: lc.VAE, torch: Any) -> None:
    call = lc.compile(vae, "decode", batch=9)
    out = torch.full((9, FEATURES), torch.nan)
    assert call(torch.from_numpy(Z), out=out) is out
    assert out.numpy().tobytes() == vae.decode(Z).tobytes()
    with pytest.raises(TypeError, match=r"out: .*DLPack.*detach"):
        call(torch.from_numpy(Z), out=torch.zeros(9, FEATURES, requires_grad=True))
    assert torch.from_dlpack(call(torch.from_numpy(Z))).numpy().tobytes() == out.numpy().tobytes()
