from __future__ import annotations

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.plan.presence import absent
from tests.kit.conformance import covers

THERE = ("lo", "wan", "lan0", "ppp7")


def warnings(*interfaces, there=THERE, **device) -> list[str]:
    return list(absent(from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": list(interfaces)}], **device}), there))


@covers("R057")
def test_what_is_there_or_will_be_made_is_not_worth_a_word():
    assert warnings({"interface": "wan", "upstream": True}, "lan0", "ppp*", "tv", vlans=[{"name": "tv", "interface": "wan", "vlan-id": 4}]) == []
    assert warnings("lan9", there=()) == []  # an agent that does not tell what it has
    assert warnings({"interface": "lan9", "enabled": False}) == []


@covers("R057")
@pytest.mark.parametrize(
    ("interface", "words"),
    [
        ("lan9", ["igmp-proxy[default]/interfaces[lan9]", "followed when it appears", "did you mean lan0?"]),
        ("br-*", ["no interface there matches br-*"]),
        ({"interface": "dsl0", "upstream": True}, ["--allow-down dsl0"]),
    ],
)
def test_what_is_not_there_is_a_warning_with_the_nearest_name(interface, words):
    (said,) = warnings(interface)
    assert all(word in said for word in words), said


def test_a_bridge_that_is_not_there_is_named_as_well():
    bridged = {"mode": "bridged", "bridge": "br-lam", "interfaces": [{"interface": "wan", "upstream": True}]}
    (said,) = absent(from_plain(DeviceConfig, {"igmp-proxy": [bridged]}), (*THERE, "br-lan"))
    assert said == "igmp-proxy[default]/bridge: there is no interface br-lam now; it is followed when it appears (did you mean br-lan?)"
    assert list(absent(from_plain(DeviceConfig, {"igmp-proxy": [bridged | {"bridge": "br-lan"}]}), (*THERE, "br-lan"))) == []
    assert list(absent(from_plain(DeviceConfig, {"igmp-proxy": [bridged | {"enabled": False}]}), (*THERE, "br-lan"))) == []
