"""Which cases `make test` leaves to `make test-all`."""

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(values: Iterable[Any], fast: int = 1) -> list[Any]:
    """Cases of a parameter, of which all but the first `fast` are marked slow."""
    return [value if n < fast else pytest.param(value, marks=pytest.mark.slow) for n, value in enumerate(values)]
