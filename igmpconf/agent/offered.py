"""What the agent offered when it last ran, so that an upgrade is told: `netconf-capability-change` of RFC 6470.

No session lives through a restart; who subscribes with a start time before it, though, hears of the change.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from igmpconf.agent.announcements import capabilities_changed
from igmpconf.agent.files import write_durably

FILE = "capabilities.json"

_log = logging.getLogger("igmpconf.agent.service")


def change_since_last_run(state_dir: Path, offered: Sequence[str]) -> Element | None:
    """The notification of what is different, or None; from here on `offered` is what was offered last."""
    path = state_dir / FILE
    before = _read(path)
    if before == list(offered):
        return None
    try:
        write_durably(path, json.dumps(list(offered), indent=1).encode() + b"\n")
    except OSError as error:  # told again at the next start, which harms nobody
        _log.warning("capabilities not-written reason=%s", error.strerror)
    return capabilities_changed(before, offered) if before is not None else None


def _read(path: Path) -> list[str] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None  # the first run, or nothing that can be compared
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None
