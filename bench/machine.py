"""The machine that figures are of, in words for a page."""

from __future__ import annotations

import datetime as dt
import os
import platform

# As it was before anything was measured: what is measured loads it, too.
_LOAD_BEFORE = os.getloadavg()[0]


def described(*more: str) -> str:
    """Cores, load of the minute before, kernel, interpreter and day; `more` follows."""
    kernel = ".".join(platform.release().split(".")[:2])
    day = dt.datetime.now(dt.UTC).date()
    facts = (f"{os.cpu_count()} cores", f"load {_LOAD_BEFORE:.1f} before", f"kernel {kernel}", f"CPython {platform.python_version()}", str(day))
    return ", ".join((*facts, *more)) + "."
