"""The reader of model files, which Python and the C library share: every claim that a file makes is checked."""

from __future__ import annotations

import json

from latentcore import _core
from latentcore.ops import OPS


def test_the_ops_of_files_are_those_of_plans() -> None:
    ops = _core.file_ops()
    assert {"linear_forward", "shift_forward"} < {name for name, _, _ in ops}
    for name, signature, options in ops:
        spec = OPS[name]
        wanted = {option: list(spec.codes.get(option, ())) or default for option, default in spec.options.items()}
        found = json.loads(options)
        assert (signature, found) == (spec.signature, wanted)
        assert all(spec.codes[option][0] == spec.options[option] for option in spec.codes)
        assert [type(value) for value in found.values()] == [type(value) for value in wanted.values()]
