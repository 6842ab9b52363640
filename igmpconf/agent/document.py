"""The files of the state directory as documents: their format, its versions, and how an older one becomes today's.

Every file is `{"format", "version", "sha256", "content"}`.  The digest is taken over `igmpconf-journal VERSION`, a newline and
the canonical JSON of the content, so that a version which a flipped bit made up is seen for what it is.

    version 1   rows of the history carry the diff; a commit file has number and configuration; the digest is of the content alone
    version 2   the diff is in the commit file, so that a commit does not write the diffs of fifty others again
    version 3   a configuration may have the access rules of the device (`nacm`), which an agent of before would drop

A reader takes every version up to its own and brings it up to date step by step (`_STEPS`); it writes only its own.  A newer
one is refused, because what it means cannot be known.  docs/reference/state-directory.md is the reference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from igmpconf.errors import IgmpconfError

FORMAT = "igmpconf-journal"
VERSION = 3
ROW_FIELDS = ("number", "time", "user", "plan", "comment", "event", "digest")

Kind = Literal["journal", "commit"]
Content = dict[str, Any]


class StateDirectoryError(IgmpconfError):
    """The agent cannot work with this state directory; the message says why."""


class DamagedError(ValueError):
    """A file is not what was once written there."""


_CONTENT, _END = b',\n "content": ', b"\n}\n"


def document(content: Content, version: int = VERSION) -> bytes:
    """The octets of a file."""
    canonical = _canonical(content)
    head = json.dumps({"format": FORMAT, "version": version, "sha256": _digest(canonical, version)}, indent=1)
    return head.removesuffix("\n}").encode() + _CONTENT + canonical + _END


def _digest(canonical: bytes, version: int) -> str:
    return hashlib.sha256(canonical if version == 1 else f"{FORMAT} {version}\n".encode() + canonical).hexdigest()


def _canonical(content: Content) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _parts(data: bytes, content: Content) -> Iterator[bytes]:
    """The content as it may stand in the file: as `document` writes it, which costs nothing to cut out, or as somebody set it."""
    yield data.partition(_CONTENT)[2].removesuffix(_END)
    yield _canonical(content)


def checked(data: bytes, path: Path, kind: Kind) -> tuple[Content, int]:
    """The content as today's version has it, and the version it was written in; whether it fits the model is for the reader to see.

    Raises DamagedError; StateDirectoryError when a newer program wrote it.
    """
    try:
        envelope = json.loads(data)
    except ValueError as error:
        raise DamagedError(f"not JSON: {error}") from None
    if not isinstance(envelope, dict) or envelope.get("format") != FORMAT or not isinstance(envelope.get("content"), dict):
        raise DamagedError("not a journal")
    content: Content = envelope["content"]
    version = envelope.get("version")
    if not isinstance(version, int) or all(_digest(part, version) != envelope.get("sha256") for part in _parts(data, content)):
        raise DamagedError("its digest does not match")
    if version > VERSION:
        raise StateDirectoryError(
            f"{path} has version {version}, this agent knows versions 1 to {VERSION}",
            hint="a newer agent wrote it: run that one, or move the state directory away to begin anew",
        )
    for step in range(version, VERSION):
        content = _STEPS[step](content, kind)
    return content, version


# versions


def _from_1(content: Content, kind: Kind) -> Content:
    """A row may keep its `diff`: the journal hands it to the commit's file, which had none, with the next write."""
    return {"diff": None} | content if kind == "commit" else content


def _same(content: Content, _: Kind) -> Content:
    return content


_STEPS: dict[int, Callable[[Content, Kind], Content]] = {1: _from_1, 2: _same}
