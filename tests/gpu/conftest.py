from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # cases, numerics, and the cases of each op

from kernels import the_backend  # noqa: E402


@pytest.fixture(scope="session")
def backend():
    return the_backend()
