"""Which requirement a test speaks for: `pytest -k UP-05` finds it; docs/reference/conformance.md and manual.md list it.

Ids are those of tests/conformance/requirements.py (`UP-05`) and of tests/docs/manual_lines.py (`R059`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

F = TypeVar("F", bound=Callable[..., object])
Aspect = Literal["desired", "plan", "apply", "live", "rollback", "drift"]


def covers(*ids: str, aspects: tuple[Aspect, ...] = ()) -> Callable[[F], F]:
    """Mark a test with the ids of the requirements that it would notice the loss of.

    `aspects` says which sides of an R line the test shows: its desired state, plan (with impact), apply, live state, rollback,
    drift (and repair); without it the folder of the test says it (tests/docs/claims.py).  Without ids it speaks for those that
    the table of a parametrised test begins its strings with.
    """

    def marked(function: F) -> F:
        function.__dict__["covers"] = ids
        for one in ids:
            function.__dict__[one] = True  # pytest matches -k against function attributes
        return function

    return marked
