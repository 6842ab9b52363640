"""Modules of others that the agent implements or imports: which they are, and where their texts are found.

The texts are the IETF's and not part of this repository.  They are read from where tools put them: beside this file in
the one-file agent (`apply/bundle.py` copies what is installed when it is built), or in the directory for YANG modules
of the Python environment or of the system, where pyang and Debian's packages have them.  Only the very revision that
is implemented counts.
"""

from __future__ import annotations

import importlib.resources
import re
import sys
from collections.abc import Iterator
from pathlib import Path

# name: (revision that is implemented, the RFC that has its text)
MODULES: dict[str, tuple[str, str]] = {
    "ietf-datastores": ("2018-02-14", "RFC 8342"),
    "ietf-inet-types": ("2013-07-15", "RFC 6991"),
    "ietf-netconf": ("2011-06-01", "RFC 6241"),
    "ietf-netconf-acm": ("2018-02-14", "RFC 8341"),
    "ietf-netconf-monitoring": ("2010-10-04", "RFC 6022"),
    "ietf-netconf-nmda": ("2019-01-07", "RFC 8526"),
    "ietf-netconf-notifications": ("2012-02-06", "RFC 6470"),
    "ietf-netconf-with-defaults": ("2011-06-01", "RFC 6243"),
    "ietf-origin": ("2018-02-14", "RFC 8342"),
    "ietf-yang-library": ("2019-01-04", "RFC 8525"),
    "ietf-yang-metadata": ("2016-08-05", "RFC 7952"),
    "ietf-yang-types": ("2013-07-15", "RFC 6991"),
}

BESIDE = "ietf"  # directory beside this file, in the one-file agent
_DIRECTORIES = tuple(Path(root) / "share" / "yang" / "modules" for root in (sys.prefix, "/usr/local", "/usr"))


def module_text(name: str) -> str | None:
    """The text of one of `MODULES`, or None where it is not installed."""
    revision = MODULES[name][0]
    for text in _candidates(name, revision):
        if re.search(rf'^\s*module\s+"?{name}"?\s*{{', text, re.MULTILINE) and re.search(rf'^\s*revision\s+"?{revision}"?', text, re.MULTILINE):
            return text
    return None


def _candidates(name: str, revision: str) -> Iterator[str]:
    beside = importlib.resources.files("igmpconf.schema") / BESIDE / f"{name}.yang"
    if beside.is_file():
        yield beside.read_text("utf-8")
    for directory in _DIRECTORIES:
        for path in (directory / "ietf" / f"{name}.yang", directory / "ietf" / f"{name}@{revision}.yang", directory / f"{name}@{revision}.yang"):
            try:
                yield path.read_text("utf-8")
            except (OSError, ValueError):
                continue
