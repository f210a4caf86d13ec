"""scikit-learn's conventions, without scikit-learn."""

from __future__ import annotations

from typing import Any

from ..backends import Backend, get_backend


class Estimator:
    """Constructor arguments are stored as given; they are the parameters."""

    backend: str

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        init = cls.__init__
        code = init.__code__
        positional = code.co_varnames[1 : code.co_argcount]
        return {**dict(zip(positional, init.__defaults__ or ())), **(init.__kwdefaults__ or {})}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Any:
        """Sets constructor arguments; those that shape the network count from the next ``fit`` or ``initialize`` on.
        Raises ValueError for an unknown one."""
        known = self._defaults()
        for name in params:
            if name not in known:
                raise ValueError(f"{name}: expected a parameter of {type(self).__name__} ({', '.join(known)})")
        vars(self).update(params)
        return self

    def to(self, backend: str) -> Any:
        """Moves the model, with all that it holds, to where it computes from then on: "cuda", or back to "cpu", exact both
        ways. Returns self; what goes wrong leaves the model as it was: ValueError for an unknown backend, ImportError or
        RuntimeError where there is no GPU to work on."""
        engine, before = get_backend(backend), dict(vars(self))
        try:
            self._move(engine)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        self.backend = backend
        return self

    def _move(self, backend: Backend) -> None:
        """Moves what was fitted."""

    def __repr__(self) -> str:
        given = {k: v for k, v in self.get_params().items() if repr(v) != repr(self._defaults()[k])}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        dtype = getattr(self, "dtype", "float64")
        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[dtype]),
            input_tags=InputTags(),
            non_deterministic=False,
        )
