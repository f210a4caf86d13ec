"""The variational autoencoder (Kingma and Welling 2014), importance-weighted too (Burda et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import check_array, check_int, check_real, check_seed
from ..layers import Kept, Sink, Store, backward, forward
from ..ops import Clock
from ..ops.random import STREAMS
from ..plan import Plan, rows
from .neural import NeuralModel

_LIKELIHOOD_SAMPLES = 50  # importance samples that one pass of log_likelihood takes


class VAE(NeuralModel):
    """A variational autoencoder of fully connected layers: encoder ``n_features - hidden - (mu, logvar)``, decoder
    ``latent_dim - reversed hidden - n_features``. Losses are in nats an example.

    latent_dim: width of the code. hidden: widths of the encoder's hidden layers; the decoder mirrors them.
    activation: identity, relu, leaky_relu, tanh, sigmoid, softplus, gelu or silu. likelihood: "bernoulli" (data in [0, 1])
    or "gaussian" of a fixed variance or of one that is "learned". beta: weight of the KL (Higgins et al. 2017);
    kl_warmup: epochs over which it rises from 0. free_bits: nats that each dimension may use uncharged (Kingma et al. 2016).
    importance_samples: k of the importance-weighted objective; 1 is the usual bound. dtype: "float32" or "float64".
    epochs, batch_size, learning_rate (a number, or a function of the epoch), weight_decay (decoupled) and max_grad_norm
    (global norm) are for training with Adam. backend: "cpu", "cuda", "cuda:tf32" (products of float32
    matrices in that precision), "reference", or "auto": where the data lies. random_state: a seed, or None to draw one, kept
    as ``seed_``.
    """

    code_width = 2

    def __init__(
        self,
        latent_dim: int = 20,
        hidden: Any = (400,),
        *,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        variance: float | str = 1.0,
        beta: float = 1.0,
        kl_warmup: float = 0,
        free_bits: float = 0.0,
        importance_samples: int = 1,
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
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.importance_samples = importance_samples
        self.dtype = dtype
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm
        self.backend = backend
        self.random_state = random_state

    # ---- plans -----------------------------------------------------------------------------------------------------

    def _code(self, plan: Plan, x: str, mu: str | None = None, logvar: str | None = None) -> str:
        """Appends the encoder; returns the buffer of the mean code."""
        h = forward(plan, self._encoder(), x, train=False)[-1].y
        mu = mu or plan.temporary("mu", "rows", self._network.latent_dim)
        plan.call("posterior_forward", mu=mu, logvar=logvar, h=h)
        return mu

    def _build_posterior(self, plan: Plan) -> None:
        plan.input("x", "rows", self._network.n_features)
        plan.output("mu", "rows", self._network.latent_dim)
        plan.output("logvar", "rows", self._network.latent_dim)
        self._code(plan, "x", "mu", "logvar")

    def _build_sample(self, plan: Plan) -> None:
        z = plan.temporary("z", "rows", self._network.latent_dim)
        plan.call("normal_forward", z=z, stream=STREAMS["sample"])
        self._append_decoder(plan, z)

    def _build_score_samples(self, plan: Plan, samples: int = 1) -> None:
        x = plan.input("x", "rows", self._network.n_features)
        plan.output("score", "rows", dtype="float64")
        plan.temporary("recon", rows(samples), dtype="float64")
        plan.temporary("kl", "rows", dtype="float64")
        self._elbo(plan, x, samples, {"kl": "kl"}, STREAMS["evaluation"], train=False)
        plan.call("score_forward", score="score", recon="recon", kl="kl", samples=samples)

    def _build_evaluate(self, plan: Plan, samples: int = 1, rowwise: bool = True) -> None:
        """recon and kl of each row and log_ratio of each sample; rowwise: a noise of its own for each row."""
        x = plan.input("x", "rows", self._network.n_features)
        outputs = {"log_ratio": plan.output("log_ratio", rows(samples), dtype="float64")}
        outputs["kl"] = plan.output("kl", "rows", dtype="float64")
        plan.output("recon", rows(samples), dtype="float64")
        if rowwise:
            outputs["row"] = plan.input("row", "rows", dtype="uint32")
        self._elbo(plan, x, samples, outputs, STREAMS["evaluation"], train=False)

    def _elbo(
        self, plan: Plan, x: str, samples: int, latent: Mapping[str, str | None], stream: int, train: bool = True
    ) -> tuple[list[Kept], list[Kept], str | None]:
        """Appends encoder, latent layer, decoder and loss (into "recon"; its gradient takes the place of what the decoder
        put out); latent: further arguments of the latent layer."""
        n, many = self._network, rows(samples)
        encoder = forward(plan, self._encoder(), x, train=train)
        z = plan.temporary("z", many, n.latent_dim)
        plan.call("latent_forward", z=z, h=encoder[-1].y, samples=samples, stream=stream, **latent)
        decoder = forward(plan, self._decoder(), z, many, train=train)
        out = decoder[-1].y
        dvariance = self._loss(plan, out, x, samples=samples, loss="recon", gradient=out if train else None)
        return encoder, decoder, dvariance

    def _step(
        self, plan: Plan, x: str, sink: Sink, samples: int, free_bits: float, row: str | None, noise: str | None
    ) -> None:
        """Appends one step: the objective of the rows x into "metrics", and all gradients into the sink."""
        n, many, importance = self._network, rows(samples), samples > 1
        beta = plan.input("beta", "steps", dtype="float64")
        plan.output("metrics", "steps", 3 + n.latent_dim, dtype="float64")
        recon = plan.temporary("recon", many, dtype="float64")
        kl_dim = plan.temporary("kl_dim", n.latent_dim, dtype="float64")
        ratio = plan.temporary("log_ratio", many, dtype="float64") if importance else None
        draw: dict[str, Any] = {"noise": noise, "row": row}
        stream = STREAMS["latent"]
        encoder, decoder, dvariance = self._elbo(plan, x, samples, {"kl_dim": kl_dim, "log_ratio": ratio, **draw}, stream)
        bound = weight = None
        if importance:
            bound, weight = (
                plan.temporary("bound", "rows", dtype="float64"),
                plan.temporary("weight", many, dtype="float64"),
            )
            plan.call(
                "importance_forward",
                bound=bound,
                weight=weight,
                loss=recon,
                log_ratio=ratio,
                beta=beta,
                samples=samples,
            )
            plan.call("importance_backward", d=decoder[-1].y, weight=weight)
        plan.call(
            "objective_forward",
            metrics="metrics",
            recon=recon,
            kl_dim=kl_dim,
            bound=bound,
            beta=beta,
            free_bits=free_bits,
        )
        dz = plan.temporary("dz", many, n.latent_dim)
        backward(plan, self._decoder(), decoder, decoder[-1].y, sink, many, dx=dz)
        dh = plan.temporary("dh", "rows", 2 * n.latent_dim)
        plan.call(
            "latent_backward",
            dh=dh, dz=dz, h=encoder[-1].y, beta=beta, kl_dim=kl_dim, weight=weight, samples=samples, stream=stream,
            free_bits=free_bits, **draw,
        )  # fmt: skip
        backward(plan, self._encoder(), encoder, dh, sink)
        if dvariance:
            dw = plan.weight("decoder.log_variance:gradient", 1, 0, sink.role)
            plan.call("gaussian_backward_variance", dw=dw, dlog_variance=dvariance, weight=weight, samples=samples)

    def _build_gradients(self, plan: Plan, samples: int = 1, free_bits: float = 0.0, given: bool = False) -> None:
        """One step's metrics and gradients as outputs; given: with noise that the caller brings."""
        n = self._network
        x = plan.input("x", "rows", n.n_features)
        noise = plan.input("noise", rows(samples), n.latent_dim) if given else None
        row = None if given else plan.input("row", "rows", dtype="uint32")
        self._step(plan, x, Store("output"), samples, free_bits, row, noise)

    def _build_train(self, plan: Plan, data_rows: int, samples: int = 1, free_bits: float = 0.0, **update: Any) -> None:
        x, row = self._minibatch(plan, data_rows)
        with self._update(plan, **update) as sink:
            self._step(plan, x, sink, samples, free_bits, row, None)

    # ---- training --------------------------------------------------------------------------------------------------

    def _check_training(self) -> dict[str, Any]:
        samples = check_int(self.importance_samples, "importance_samples", 1, 65536)
        free_bits = check_real(self.free_bits, "free_bits", 0)
        if samples > 1 and free_bits:
            raise ValueError(f"free_bits: expected 0 with importance_samples={samples}, got {free_bits:g}")
        return {**super()._check_training(), "samples": samples, "free_bits": free_bits}

    def _beta_at(self, epochs: np.ndarray) -> np.ndarray:
        """The weight of the KL at (fractional) epochs."""
        beta, warmup = check_real(self.beta, "beta", 0), check_real(self.kl_warmup, "kl_warmup", 0)
        with np.errstate(over="ignore"):
            return np.full(len(epochs), beta) if warmup == 0 else beta * np.minimum(1.0, epochs / warmup)

    def _validation(self, X: np.ndarray, seed: int) -> dict[str, float]:
        """Mean loss, recon and kl of the rows of X, each row with a noise of its own."""
        samples = check_int(self.importance_samples, "importance_samples", 1)
        out = self._evaluate(X, samples, Clock(seed=seed), np.arange(len(X), dtype=np.uint32))
        recon, kl, beta = out["recon"].mean(), out["kl"].mean(), float(self.beta)
        loss = recon + beta * kl
        if samples > 1:
            log_w = (beta * out["log_ratio"] - out["recon"]).reshape(len(X), samples)
            loss = math.log(samples) - np.logaddexp.reduce(log_w, 1).mean()
        return {"loss": float(loss), "recon": float(recon), "kl": float(kl)}

    def _evaluate(self, X: np.ndarray, samples: int, clock: Clock, row: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The outputs of "evaluate" for rows X, in main memory."""
        plan = self._plan("evaluate", samples=samples, rowwise=row is not None)
        inputs = {"x": X} if row is None else {"x": X, "row": row}
        return {name: self._backend.home(array) for name, array in self._run(plan, inputs, len(X), clock).items()}

    # ---- functions -------------------------------------------------------------------------------------------------

    def encode(self, X: Any, validate: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log-variance of the code of each row of X (rows, n_features): two (rows, latent_dim) arrays, the
        log-variance within [-30, 20]. Raises NotFittedError, TypeError, ValueError."""
        X = self._check_data(X, validate=validate)
        out = self._run(self._plan("posterior"), {"x": X}, len(X), Clock())
        return out["mu"], out["logvar"]

    def score_samples(self, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
        """The evidence lower bound of each row in nats, (rows,) float64, from n_samples codes. All rows use the same
        noise, so that a row's score does not depend on its place."""
        return super().score_samples(X, n_samples, random_state)

    def log_likelihood(self, X: Any, n_samples: int = 5000, random_state: Any = 0) -> np.ndarray:
        """The importance-weighted bound of each row's log-likelihood in nats (Burda et al. 2016, eq. 8), (rows,) float64.
        It grows with n_samples towards log p(x). All rows use the same noise."""
        X = self._check_data(X)
        total = check_int(n_samples, "n_samples", 1)
        seed = check_seed(random_state)
        bound = np.full(len(X), -np.inf)
        for first in range(0, total, _LIKELIHOOD_SAMPLES):
            samples = min(_LIKELIHOOD_SAMPLES, total - first)
            out = self._evaluate(X, samples, Clock(seed=seed, sample=first))
            log_w = (out["log_ratio"] - out["recon"]).reshape(len(X), samples)
            bound = np.logaddexp(bound, np.logaddexp.reduce(log_w, 1))
        bound -= math.log(total)
        return bound if type(X) is np.ndarray else self._backend.keep(bound)

    def loss_and_gradients(self, X: Any, noise: Any = None, random_state: Any = 0) -> tuple[float, dict[str, np.ndarray]]:
        """The training objective on the rows of X, a mean in nats, and its gradient with respect to every parameter, by
        the names of ``parameters()``. noise: (rows * importance_samples, latent_dim) standard normals, the samples of a
        row side by side, or None to draw them. beta is the full one. Raises FloatingPointError if the loss is not finite."""
        X = self._check_data(X)
        options = self._check_training()
        samples = options["samples"]
        plan = self._plan("gradients", samples=samples, free_bits=options["free_bits"], given=noise is not None)
        inputs: dict[str, Any] = {"x": X, "beta": np.array([check_real(self.beta, "beta", 0)])}
        if noise is None:
            inputs["row"] = np.arange(len(X), dtype=np.uint32)
        else:
            width, dtype = self._network.latent_dim, self._network.dtype
            inputs["noise"] = check_array(noise, "noise", dtype, features=width, device=self._device)
            if len(inputs["noise"]) != len(X) * samples:
                raise ValueError(f"noise: expected {len(X) * samples} rows, got {len(inputs['noise'])}")
        return self._gradients(plan, inputs, Clock(rows=len(X), seed=check_seed(random_state)))
