"""Training: the loop around a model's plan."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from .backends import NonFiniteError, get_backend
from .checks import check_array, check_int, check_real, shown
from .progress import progress_bar

SLICE_SECONDS = 0.1  # what one call of the backend aims at: signals, progress and checkpoints live between slices
ACTIVE_NATS = 0.01  # a latent dimension whose mean KL is above this is active

Schedule = float | Callable[[int], float]


class Trainer:
    """A model bound to data, step by step. ``run`` moves the model; what it has done stays with the model."""

    def __init__(
        self,
        model: Any,
        X: Any,
        *,
        batch_size: int | None = None,
        learning_rate: Schedule | None = None,
        random_state: Any = None,
        fused: bool = True,
        validate: bool = True,
    ) -> None:
        """X: (rows, features). The other arguments override the model's. fused: hand each gradient to Adam in cache
        instead of storing them all, with the same bits in the end. Raises TypeError or ValueError."""
        if not hasattr(model, "_storage"):
            if random_state is not None:
                model.set_params(random_state=random_state)
            engine = get_backend(model.backend, X)
            dtype = model.dtype if model.dtype in ("float32", "float64") else "float64"
            X = check_array(X, "X", dtype, device=engine.device)
            model._initialize(X.shape[1], engine)
        self.model = model
        self.X = model._backend.keep(model._check_data(X, validate=validate))
        if len(self.X) >= 2**32:
            raise ValueError(f"X: expected fewer than 2**32 rows, got {len(self.X)}")
        batch = check_int(model.batch_size if batch_size is None else batch_size, "batch_size", 1)
        self.batch = min(batch, len(self.X))
        self.learning_rate = model.learning_rate if learning_rate is None else learning_rate
        self.rate(0)
        options = model._check_training()
        model._beta_at(np.zeros(1))
        self.plan = model._plan("train", data_rows=len(self.X), fused=fused, max_norm=model._max_norm(), **options)
        model._store_moments()
        self.bound = model._backend.bind(self.plan, self.batch, model._storage)
        if model._progress[2] and model._minibatches != (len(self.X), self.batch):
            model._progress[1:] = model._progress[1] + 1, 0  # an interrupted epoch over other minibatches is over
        model._minibatches = (len(self.X), self.batch)
        self.slice = 1  # steps of the next call of the backend
        self.width = self.plan.buffers["metrics"].shape[1]

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        rate = self.learning_rate(epoch) if callable(self.learning_rate) else self.learning_rate
        return check_real(rate, "learning_rate", 0)

    @property
    def left(self) -> int:
        """The steps left in this epoch."""
        return -(-(len(self.X) - int(self.model._progress[2])) // self.batch)

    def run(self, steps: int) -> np.ndarray:
        """Runs so many steps; returns their metrics, (steps, ...): objective, recon, kl, kl of each dimension. Raises
        NonFiniteError at the first step whose objective is not finite; the steps before it have been done."""
        model = self.model
        _, epoch, offset = map(int, model._progress)
        per_epoch = -(-len(self.X) // self.batch)
        position = epoch * per_epoch + offset // self.batch + np.arange(steps)
        rates = {e: self.rate(e) for e in dict.fromkeys((position // per_epoch).tolist())}
        metrics = np.full((steps, self.width), np.nan)
        arrays = {
            "data": self.X,
            "learning_rate": np.array([rates[e] for e in (position // per_epoch).tolist()]),
            "beta": np.ascontiguousarray(model._beta_at(position / per_epoch), np.float64),
            "metrics": metrics,
        }
        self.bound.train(arrays, model._progress, model.seed_, len(self.X), self.batch, steps)
        return metrics


def train(
    model: Any,
    X: Any,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: Schedule | None = None,
    validation: Any = None,
    patience: int | None = None,
    progress: bool = False,
    checkpoint: Any = None,
    callback: Callable[[int, Mapping[str, Any]], Any] | None = None,
    random_state: Any = None,
    validate: bool = True,
) -> dict[str, np.ndarray]:
    """Trains a model on X (rows, features) for `epochs` more epochs and returns its history.

    A model without weights is initialized first (with `random_state`, if given); one that has been trained goes on from
    where it stands. On a GPU the data goes there once, if it does not lie there. batch_size and learning_rate (a number, or
    a function of the epoch, counted from the model's first) override the model's. validation: rows to evaluate after each
    epoch. patience: stop after so many epochs without a better validation loss, and take back the best weights. progress:
    show a bar. checkpoint: a path to save the model to after each epoch; a model loaded from it trains on to the same bits
    as if it had not been interrupted. callback(epoch, record) is called after each epoch. validate=False skips the check for
    NaN, infinity and the unit interval.

    The history maps names to arrays with an entry for each epoch: loss, recon, kl (nats an example, means over the epoch),
    kl_per_dim (latent_dim wide), active_units (dimensions of a mean KL above 0.01 nats), learning_rate, beta, seconds, and
    with validation val_loss, val_recon and val_kl. It is also the model's ``history_``, which goes on where it stood.

    Ctrl-C keeps the last whole step and raises KeyboardInterrupt. Any other error restores the model as it was before the
    call: FloatingPointError if a loss or a weight is not finite, TypeError and ValueError for wrong arguments.
    """
    if isinstance(model, type) or not hasattr(model, "_check_training"):
        raise TypeError(f"model: expected a VAE or Autoencoder, got {shown(model)}")
    with _Session(model) as session:
        trainer = Trainer(
            model, X, batch_size=batch_size, learning_rate=learning_rate, random_state=random_state, validate=validate
        )
        epochs = check_int(model.epochs if epochs is None else epochs, "epochs", 0)
        held_out = None
        if validation is not None:
            held_out = model._backend.keep(model._check_data(validation, "validation", validate))
        if patience is not None:
            check_int(patience, "patience", 1)
            if held_out is None:
                raise ValueError("validation: expected rows to evaluate, since patience is given; got None")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback: expected a function, got {shown(callback)}")
        if checkpoint is not None:
            model._check_save(checkpoint, "checkpoint")
        with progress_bar(progress, "train", epochs * len(trainer.X) - int(model._progress[2])) as bar:
            last = int(model._progress[1]) + epochs
            while model._progress[1] < last:
                epoch = int(model._progress[1])
                record = _epoch(trainer, bar)
                if held_out is not None:
                    record |= {f"val_{k}": v for k, v in model._validation(held_out, model.seed_).items()}
                model.history_ = _appended(model.history_, record)
                stop = patience is not None and session.is_stale(record["val_loss"], patience)
                if checkpoint is not None:
                    session.save(checkpoint)
                bar.tell(_news(epoch, record))
                if callback is not None:
                    callback(epoch, record)
                if stop:
                    break
            if patience is not None:
                session.take_best()
    history: dict[str, np.ndarray] = model.history_
    return history


def _epoch(trainer: Trainer, bar: Any) -> dict[str, Any]:
    """Runs to the end of the epoch, in slices of about a tenth of a second; returns its record."""
    model, rows = trainer.model, len(trainer.X)
    epoch = int(model._progress[1])
    begun, count, total = time.perf_counter(), 0, np.zeros(trainer.width)
    while model._progress[1] == epoch:
        offset, steps = int(model._progress[2]), min(trainer.slice, trainer.left)
        started = time.perf_counter()
        try:
            metrics = trainer.run(steps)
        except NonFiniteError:
            failed = int(model._progress[0]) + 1
            raise FloatingPointError(
                f"step {failed} (epoch {epoch + 1}): the loss is not finite; the model is as it was before this call. "
                "A smaller learning_rate or max_grad_norm may help"
            ) from None
        _check_finite(model)
        seconds = time.perf_counter() - started
        trainer.slice = max(1, min(4096, int(steps * SLICE_SECONDS / max(seconds, 1e-6))))
        done = (rows if model._progress[1] > epoch else int(model._progress[2])) - offset
        each = np.full(steps, trainer.batch)
        each[-1] -= trainer.batch * steps - done
        # step after step, so that the sum does not depend on the slices
        total = np.add.accumulate(np.vstack([total, each[:, None] * metrics]))[-1]
        count += done
        bar.advance(done)
    means = total / count
    return {
        "loss": means[0],
        "recon": means[1],
        "kl": means[2],
        "kl_per_dim": means[3:],
        "active_units": int((means[3:] > ACTIVE_NATS).sum()),
        "learning_rate": trainer.rate(epoch),
        "beta": float(model._beta_at(np.array([float(epoch)]))[0]),
        "seconds": time.perf_counter() - begun,
    }


def _news(epoch: int, record: Mapping[str, Any]) -> str:
    """What the progress bar tells of an epoch."""
    text = f"epoch {epoch + 1}  loss {record['loss']:.2f}"
    return text + (f"  val {record['val_loss']:.2f}" if "val_loss" in record else "")


def _check_finite(model: Any) -> None:
    for name, storage in model._storage.items():
        if not model._backend.xp.isfinite(storage).all():
            raise FloatingPointError(
                f"{name.partition(':')[0]}: a weight is not finite after step {int(model._progress[0])}; the model is as it "
                "was before this call. A smaller learning_rate or max_grad_norm may help"
            )


def _appended(history: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The history with one more epoch; what an epoch does not know is NaN."""
    new = {name: np.asarray(value)[None] for name, value in record.items()}
    if not history:
        return new
    length = len(next(iter(history.values())))
    appended = {}
    for name in {**history, **new}:
        old = history[name] if name in history else np.full((length, *new[name].shape[1:]), np.nan)
        appended[name] = np.concatenate([old, new[name] if name in new else np.full((1, *old.shape[1:]), np.nan)])
    return appended


class _Session:
    """One call of train: the model from before it, and the best weights seen."""

    def __init__(self, model: Any) -> None:
        self.model, self.best_loss, self.stale = model, np.inf, 0
        self.best: dict[str, Any] | None = None
        self.lock: threading.Lock = vars(model).setdefault("_training", threading.Lock())

    def __enter__(self) -> _Session:  # noqa: PYI034
        if not self.lock.acquire(blocking=False):
            raise RuntimeError("this model is being trained already")
        try:
            if hasattr(self.model, "_storage"):
                self.model._store_moments()
            self.attributes = dict(vars(self.model))
            self.before = (self._copy(), self.model._progress.copy()) if "_storage" in self.attributes else None
        except BaseException:  # no memory for the copy: the model is free again
            self.lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        model, first = self.model, self.before[1][0] if self.before else 0
        idle = "_storage" not in vars(model) or model._progress[0] == first  # Ctrl-C came before the first step
        if kind is not None and (issubclass(kind, Exception) or idle):
            for name in vars(model).keys() - self.attributes.keys():
                delattr(model, name)
            vars(model).update(self.attributes)
            if self.before is not None:
                self._restore(self.before[0])
                model._progress[:] = self.before[1]
        self.lock.release()

    def _copy(self) -> dict[str, Any]:
        return {name: storage.copy() for name, storage in self.model._storage.items()}

    def _restore(self, weights: Mapping[str, Any]) -> None:
        for name, storage in weights.items():
            self.model._storage[name][...] = storage

    def is_stale(self, loss: float, patience: int) -> bool:
        """Notes a validation loss; whether patience is at its end."""
        if loss < self.best_loss:
            self.best, self.best_loss, self.stale = self._copy(), loss, 0
        else:
            self.stale += 1
        return self.stale >= patience

    def take_best(self) -> None:
        """Gives the model the weights of its best epoch."""
        if self.best is not None:
            self._restore(self.best)

    def save(self, path: Any) -> None:
        """Writes a checkpoint."""
        self.model._save(path)
