"""Which requirement a test speaks for: `pytest -k UP-05` finds it, and docs/reference/conformance.md lists it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def covers(*ids: str) -> Callable[[F], F]:
    """Mark a test with the ids of the requirements that it would notice the loss of."""

    def marked(function: F) -> F:
        function.__dict__["covers"] = ids
        for one in ids:
            function.__dict__[one] = True  # pytest matches -k against function attributes
        return function

    return marked
