"""Desired states drawn from the model itself: every node of `nodes(cls)` may be absent or hold what its type allows."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from igmpconf.model.canon import canonical
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import Bool, Duration, Enum, GroupAddress, Integer, IpAddress, IpPrefix, LeafType, Node, SourceAddress, entry_key, nodes

_NAMES = st.sampled_from(["lan0", "lan1", "wan", "ppp*", "br-lan", "v100"])


def _leaf(type_: LeafType) -> st.SearchStrategy[Any]:
    match type_:
        case Bool():
            return st.booleans()
        case Integer():
            return st.integers(type_.low, min(type_.high, type_.low + 3))
        case Duration():
            return st.sampled_from([type_.low_ms, type_.low_ms + 250, type_.high_ms])
        case Enum():
            return st.sampled_from(type_.words)
        case GroupAddress():
            return st.sampled_from(["239.1.1.1", "239.1.1.2", "ff3e::1"]).map(ipaddress.ip_address)
        case SourceAddress():
            return st.sampled_from(["*", "192.0.2.1", "192.0.2.2"]).map(lambda text: text if text == "*" else ipaddress.ip_address(text))
        case IpAddress():
            return st.sampled_from(["192.0.2.7", "2001:db8::7"]).map(ipaddress.ip_address)
        case IpPrefix():
            texts = ["239.0.0.0/8", "232.0.0.0/8", "ff05::/16"] if type_.multicast else ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]
            return st.sampled_from(texts).map(ipaddress.ip_network)
        case _:
            return _NAMES


def _node(n: Node) -> st.SearchStrategy[Any]:
    if n.kind == "container":
        return st.none() | model(n.cls)
    if n.kind == "list":
        return st.lists(model(n.cls), max_size=3, unique_by=lambda entry: tuple(map(str, entry_key(n, entry)))).map(tuple)
    assert n.type is not None
    if n.kind == "leaf-list":
        return st.lists(_leaf(n.type), max_size=2).map(tuple)
    return _leaf(n.type) if n.required else st.none() | _leaf(n.type)


def model(cls: Any) -> st.SearchStrategy[Any]:
    return st.builds(cls, **{n.attr: _node(n) for n in nodes(cls)})


def device_configs() -> st.SearchStrategy[DeviceConfig]:
    return model(DeviceConfig).map(canonical)
