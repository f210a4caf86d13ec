"""What all neural models share: their parameters, their networks' plans, and the calls that need no training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from .. import training
from ..backends import Backend, get_backend
from ..checks import check_array, check_int, check_option, check_real, check_seed
from ..layers import MOMENTS, Linear, Sink, Store, Update, apply_stored, forward
from ..ops import Clock, Dim
from ..ops.random import philox_uniform
from ..plan import Plan, rows
from . import record
from .base import LatentModel
from .network import Network, check_network, check_size
from .parameters import ParametricModel


class NeuralModel(ParametricModel, LatentModel):
    """Base of the neural models; not for direct use."""

    code_width = 1  # outputs of the latent layer for each latent dimension
    _golden = "reconstruct"

    latent_dim: int
    hidden: Any
    activation: str
    likelihood: str
    variance: float | str
    dtype: str
    epochs: int
    batch_size: int
    learning_rate: Any
    weight_decay: float
    max_grad_norm: float | None
    backend: str
    random_state: Any

    # ---- weights ---------------------------------------------------------------------------------------------------

    def initialize(self, n_features: int) -> Any:
        """Gives the model fresh weights for data of `n_features` features, drawn as PyTorch draws them: uniform in
        +-1 / sqrt(inputs). Forgets all training. Returns self. Raises TypeError or ValueError for wrong parameters."""
        return self._initialize(n_features, get_backend(self.backend))

    def _initialize(self, n_features: int, backend: Backend) -> Any:
        network = check_network(self.get_params(), n_features)
        check_size((network.n_features, *network.hidden, network.latent_dim), "hidden")
        self._adopt(network, backend, check_seed(self.random_state))
        return self._draw()

    def _adopt(self, network: Network, backend: Backend, seed: int) -> None:
        """Takes on zeroed storage for the weights of a network; Adam's moments are zeros."""
        self._network, self.seed_ = network, seed
        self.history_: dict[str, np.ndarray] = {}
        self._progress = np.zeros(3, np.int64)  # step, epoch, offset
        self._moments: dict[str, dict[str, np.ndarray]] | None = {}
        storage = self._allocate(backend, network.dtype)
        self._hold(backend, storage, network.dtype, network.n_features, network.latent_dim)
        self._minibatches: tuple[int, int] | None = None

    def _encoder(self) -> list[Linear]:
        n = self._network
        widths = (n.n_features, *n.hidden)
        layers = [Linear(f"encoder.{i}", a, b, n.activation) for i, (a, b) in enumerate(pairwise(widths))]
        return [*layers, Linear("latent", widths[-1], self.code_width * n.latent_dim)]

    def _decoder(self, mean: bool = False) -> list[Linear]:
        n = self._network
        widths = (n.latent_dim, *reversed(n.hidden))
        layers = [Linear(f"decoder.{i}", a, b, n.activation) for i, (a, b) in enumerate(pairwise(widths))]
        last = "sigmoid" if mean and n.likelihood == "bernoulli" else "identity"
        return [*layers, Linear(f"decoder.{len(layers)}", widths[-1], n.n_features, last)]

    def _layers(self) -> list[Linear]:
        return self._encoder() + self._decoder()

    def _weights(self) -> list[tuple[str, int, int]]:
        weights = super()._weights()
        return [*weights, ("decoder.log_variance", 1, 0)] if self._network.learned_variance else weights

    # ---- plans -----------------------------------------------------------------------------------------------------

    def plan(self, function: str = "train", **options: Any) -> Plan:
        """The plan of a function: "encode", "posterior", "decode", "reconstruct", "sample", "score_samples",
        "gradients" or "train"; print it to see every call. Raises ValueError for another name."""
        return super().plan(function, **options)

    @property
    def _unit_interval(self) -> bool:
        return self._network.likelihood == "bernoulli"

    # ---- the likelihood --------------------------------------------------------------------------------------------

    def _loss(self, plan: Plan, out: str, x: str, *, samples: int = 1, loss: str, gradient: str | None = None) -> str | None:
        """Appends the reconstruction loss of the decoder's output `out`; returns the buffer of the rows' gradient with
        respect to a learned log-variance. The gradients are those of the mean over rows, of each row alone where
        samples > 1."""
        n, name = self._network, None
        options: dict[str, Any] = {"samples": samples, "mean_over_rows": samples == 1}
        if n.likelihood == "bernoulli":
            plan.call("bernoulli_forward", loss=loss, dlogits=gradient, logits=out, x=x, **options)
            return None
        if n.learned_variance:
            plan.weight("decoder.log_variance", 1, 0)
            options["log_variance"] = "decoder.log_variance"
            if gradient:
                name = plan.temporary("dlog_variance", rows(samples), dtype="float64")
        else:
            options["variance"] = n.variance
        plan.call("gaussian_forward", loss=loss, dmean=gradient, dlog_variance=name, mean=out, x=x, **options)
        return name

    def _build_loss(self, plan: Plan) -> None:
        """The reconstruction loss of each row from its mean code."""
        x = plan.input("x", "rows", self._network.n_features)
        plan.output("loss", "rows", dtype="float64")
        out = forward(plan, self._decoder(), self._code(plan, x), train=False)[-1].y
        self._loss(plan, out, x, loss="loss")

    # ---- functions -------------------------------------------------------------------------------------------------

    def _code(self, plan: Plan, x: str, mu: str | None = None) -> str:
        raise TypeError(f"{type(self).__name__} builds no code")

    def _build_encode(self, plan: Plan) -> None:
        plan.input("x", "rows", self._network.n_features)
        plan.output("mu", "rows", self._network.latent_dim)
        self._code(plan, "x", "mu")

    def _build_decode(self, plan: Plan) -> None:
        plan.input("z", "rows", self._network.latent_dim)
        self._append_decoder(plan, "z")

    def _build_reconstruct(self, plan: Plan) -> None:
        plan.input("x", "rows", self._network.n_features)
        self._append_decoder(plan, self._code(plan, "x"))

    def _append_decoder(self, plan: Plan, z: str, row_dim: Dim = "rows") -> None:
        plan.output("x_mean", row_dim, self._network.n_features)
        forward(plan, self._decoder(mean=True), z, row_dim, output="x_mean", train=False)

    def decode(self, z: Any, validate: bool = True) -> np.ndarray:
        """The mean of the data at codes z (rows, latent_dim): (rows, n_features), for a Bernoulli likelihood
        probabilities. Raises NotFittedError, TypeError, ValueError."""
        z = self._check_codes(z, validate=validate)
        return self._run(self._plan("decode"), {"z": z}, len(z), Clock())["x_mean"]

    def reconstruct(self, X: Any, validate: bool = True) -> np.ndarray:
        """X (rows, n_features) through its mean code and back. Raises NotFittedError, TypeError, ValueError."""
        X = self._check_data(X, validate=validate)
        return self._run(self._plan("reconstruct"), {"x": X}, len(X), Clock())["x_mean"]

    def transform(self, X: Any) -> np.ndarray:
        """The mean code of each row of X (rows, n_features): (rows, latent_dim)."""
        X = self._check_data(X)
        return self._run(self._plan("encode"), {"x": X}, len(X), Clock())["mu"]

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """The same as ``decode``."""
        return self.decode(Z)

    def fit(self, X: Any, y: Any = None) -> Any:
        """Trains afresh with the constructor's settings on X (rows, n_features); y is ignored. Returns self."""
        engine = get_backend(self.backend, X)
        data = check_array(X, "X", check_option(self.dtype, "dtype", ("float32", "float64")), device=engine.device)
        before = dict(vars(self))
        try:
            self._initialize(data.shape[1], engine)
            training.train(self, data)
        except Exception:
            vars(self).clear()
            vars(self).update(before)
            raise
        return self

    def score_samples(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """A lower bound of each row's log-likelihood in nats, (rows,) float64."""
        X = self._check_data(X)
        samples = check_int(n_samples, "n_samples", 1, 65536)
        clock = Clock(seed=check_seed(random_state))
        return self._run(self._plan("score_samples", samples=samples), {"x": X}, len(X), clock)["score"]

    def _minibatch(self, plan: Plan, data_rows: int) -> tuple[str, str]:
        """Appends the drawing of a minibatch; returns its buffer and that of its row numbers."""
        plan.input("data", data_rows, self._network.n_features)
        row = plan.temporary("row", "rows", dtype="uint32")
        x = plan.temporary("x", "rows", self._network.n_features)
        plan.call("shuffle_forward", row=row, n=data_rows)
        plan.call("gather_forward", y=x, x="data", row=row)
        return x, row

    @contextmanager
    def _update(
        self, plan: Plan, fused: bool = True, max_norm: float | None = None, weight_decay: float = 0.0
    ) -> Iterator[Sink]:
        """Gives the sink of a training step; on leaving, appends Adam for the gradients that were stored: all where they
        are clipped to max_norm or not `fused`, else those of what is no layer."""
        plan.input("learning_rate", "steps", dtype="float64")
        fused = fused and max_norm is None
        yield Update(weight_decay) if fused else Store()
        apply_stored(plan, [w for w in self._weights() if not fused or w[2] == 0], max_norm, weight_decay)

    # ---- training --------------------------------------------------------------------------------------------------

    def _store_moments(self) -> None:
        """Gives Adam's moments storage, which a model has from its first training on. Until then ``_moments`` holds them as
        they came, by kind, or nothing, where they are zeros; afterwards it is None."""
        if self._moments is not None:
            for kind in MOMENTS:
                self._storage |= self._allocate(self._backend, self._dtype, kind)
                self._write(kind, self._moments.get(kind, {}))
            self._moments = None

    def _read(self, kind: str, source: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        moments = self._moments  # another thread may begin to train meanwhile
        if kind not in MOMENTS or moments is None:
            return super()._read(kind, source)
        kept = moments.get(kind, {})
        return {
            name: np.array(kept[name]) if kept else np.zeros(shape, self._dtype) for name, shape in self._shapes().items()
        }

    def _check_training(self) -> dict[str, float]:
        """Adam's options, checked."""
        return {"weight_decay": check_real(self.weight_decay, "weight_decay", 0)}

    def _max_norm(self) -> float | None:
        return None if self.max_grad_norm is None else check_real(self.max_grad_norm, "max_grad_norm", 0, above=True)

    def _gradients(self, plan: Plan, inputs: dict[str, Any], clock: Clock) -> tuple[float, dict[str, np.ndarray]]:
        """Runs a plan whose outputs are "metrics" and a gradient for each weight."""
        outputs = {
            b.name: self._backend.allocate(b) if b.layout == "weight" else np.empty(b.array_shape(0), b.dtype)
            for b in plan.of_role("output")
        }
        self._backend.bind(plan, clock.rows, self._storage).run({**inputs, **outputs}, clock)
        return float(outputs["metrics"][0, 0]), self._read(":gradient", outputs)

    # ---- copies, pickles and files ---------------------------------------------------------------------------------

    def _describe(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return record.describe(self)

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], backend: Backend) -> None:
        record.restore(self, header, arrays, backend)

    def _golden_input(self) -> np.ndarray:
        return np.ascontiguousarray(philox_uniform(0, np.arange(2), self.n_features_in_, 0, 0), self._dtype)
