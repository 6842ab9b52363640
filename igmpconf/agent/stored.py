"""A configuration as the files of the state directory have it: the names of YAML, and beside them the access rules."""

from __future__ import annotations

import dataclasses
from typing import Any

from igmpconf.model.access import Access
from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.config import DeviceConfig

_ACCESS = "nacm"


def stored(config: DeviceConfig) -> dict[str, Any]:
    """Mappings, lists and scalars; `restored` gives the configuration back."""
    plain = to_plain(config)
    return plain if config.access is None else {**plain, _ACCESS: to_plain(config.access)}


def restored(plain: Any) -> DeviceConfig:
    """What `stored` was given.  Raises PlainError."""
    if not isinstance(plain, dict) or _ACCESS not in plain:
        return from_plain(DeviceConfig, plain)
    config = from_plain(DeviceConfig, {name: value for name, value in plain.items() if name != _ACCESS})
    return dataclasses.replace(config, access=from_plain(Access, plain[_ACCESS]))
