"""The autoencoder: encoder and decoder with a plain code between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers import Sink, Store, backward, forward
from ..ops import Clock
from ..plan import Plan
from .neural import NeuralModel


class Autoencoder(NeuralModel):
    """An autoencoder of fully connected layers: ``n_features - hidden - latent_dim - reversed hidden - n_features``, the
    code itself linear. Losses are in nats an example; with ``likelihood="gaussian"`` and variance 1 the loss is half the
    squared error, and without hidden layers the code spans the principal components (Baldi and Hornik 1989).

    Parameters as for VAE.
    """

    def __init__(
        self,
        latent_dim: int = 20,
        hidden: Any = (400,),
        *,
        activation: str = "relu",
        likelihood: str = "gaussian",
        variance: float | str = 1.0,
        dtype: str = "float32",
        epochs: int = 10,
        batch_size: int = 128,
        learning_rate: Any = 1e-3,
        weight_decay: float = 0.0,
        max_grad_norm: float | None = None,
        backend: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.activation = activation
        self.likelihood = likelihood
        self.variance = variance
        self.dtype = dtype
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.backend = backend
        self.random_state = random_state

    def _code(self, plan: Plan, x: str, mu: str | None = None) -> str:
        return forward(plan, self._encoder(), x, output=mu, train=False)[-1].y

    def _build_score_samples(self, plan: Plan, samples: int = 1) -> None:
        x = plan.input("x", "rows", self._network.n_features)
        plan.output("score", "rows", dtype="float64")
        recon = plan.temporary("recon", "rows", dtype="float64")
        layers = self._encoder() + self._decoder()
        self._loss(plan, forward(plan, layers, x, train=False)[-1].y, x, loss=recon)
        plan.call("score_forward", score="score", recon=recon)

    def _step(self, plan: Plan, x: str, sink: Sink) -> None:
        beta = plan.input("beta", "steps", dtype="float64")
        plan.output("metrics", "steps", 3, dtype="float64")
        recon = plan.temporary("recon", "rows", dtype="float64")
        layers = self._encoder() + self._decoder()
        kept = forward(plan, layers, x)
        out = kept[-1].y
        dvariance = self._loss(plan, out, x, loss=recon, gradient=out)
        plan.call("objective_forward", metrics="metrics", recon=recon, beta=beta)
        backward(plan, layers, kept, out, sink)
        if dvariance:
            dw = plan.weight("decoder.log_variance:gradient", 1, 0, sink.role)
            plan.call("gaussian_backward_variance", dw=dw, dlog_variance=dvariance)

    def _build_gradients(self, plan: Plan) -> None:
        self._step(plan, plan.input("x", "rows", self._network.n_features), Store("output"))

    def _build_train(self, plan: Plan, data_rows: int, **update: Any) -> None:
        x, _ = self._minibatch(plan, data_rows)
        with self._update(plan, **update) as sink:
            self._step(plan, x, sink)

    def _beta_at(self, epochs: np.ndarray) -> np.ndarray:
        return np.zeros(len(epochs))

    def _validation(self, X: np.ndarray, seed: int) -> dict[str, float]:
        recon = -float(self.score_samples(X).mean())
        return {"loss": recon, "recon": recon, "kl": 0.0}

    def encode(self, X: Any, validate: bool = True) -> np.ndarray:
        """The code of each row of X (rows, n_features): (rows, latent_dim). Raises NotFittedError, TypeError, ValueError."""
        X = self._check_data(X, validate=validate)
        return self._run(self._plan("encode"), {"x": X}, len(X), Clock())["mu"]

    def score_samples(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """The log-likelihood in nats of each row given its own code, (rows,) float64; nothing is drawn."""
        return super().score_samples(X, 1, random_state)

    def loss_and_gradients(self, X: Any) -> tuple[float, dict[str, np.ndarray]]:
        """The mean loss of the rows of X in nats, and its gradient with respect to every parameter, by the names of
        ``parameters()``. Raises FloatingPointError if the loss is not finite."""
        X = self._check_data(X)
        return self._gradients(self._plan("gradients"), {"x": X, "beta": np.zeros(1)}, Clock(rows=len(X)))
