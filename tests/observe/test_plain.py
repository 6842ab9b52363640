"""Dataclasses as plain data: every event and effect of the engine survives the way there and back."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.agent.replay import ENGINE
from igmpconf.engine.effects import Effect, Note, SendPacket, SetRoute
from igmpconf.engine.events import ConfigReplaced, EffectFailed, Event, LinkChanged, PacketReceived, RouteFound, RoutesFound
from igmpconf.ids import IfIndex
from igmpconf.observe.plain import form_of, octets_read, octets_written
from tests.kit.desired import configs

OCTETS = st.binary(max_size=20) | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


def values(hint):
    """A strategy for a type hint of an event or effect."""
    if isinstance(hint, typing.NewType):
        return st.integers(0, 2**31)
    if hint is bytes:
        return OCTETS
    if hint is EffectFailed:
        return st.builds(EffectFailed, effect=values(Effect), errno=st.integers(1, 130))
    if hint is ConfigReplaced:
        return st.builds(ConfigReplaced, config=st.none() | configs().flatmap(lambda config: st.sampled_from(config.proxies or (None,))))
    if hint is Note:
        fields = st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers() | st.none() | st.booleans(), max_size=3)
        return st.builds(Note, level=st.sampled_from(["debug", "info"]), event=st.text(max_size=8), fields=fields)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple) if arguments[-1] is Ellipsis else st.tuples(*map(values, arguments))
    if typing.get_origin(hint) is frozenset:
        return st.frozensets(values(arguments[0]), max_size=3)
    if arguments:
        return st.one_of([st.none() if one is type(None) else values(one) for one in arguments])
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{field.name: values(hints[field.name]) for field in dataclasses.fields(hint)})
    return {int: st.integers(0, 2**40), bool: st.booleans(), str: st.text(max_size=8)}[hint]


@given(values(Event))
def test_every_event_comes_back(event):
    assert ENGINE.event.read(json.loads(json.dumps(ENGINE.event.written(event)))) == event


@given(values(Effect))
def test_every_effect_comes_back(effect):
    assert ENGINE.effect.read(json.loads(json.dumps(ENGINE.effect.written(effect)))) == effect


@given(OCTETS)
def test_octets_come_back(octets):
    assert octets_read(octets_written(octets)) == octets


def test_what_is_written_can_be_read_by_people():
    lan0 = IfIndex(3)
    packet = PacketReceived(lan0, bytes((10, 2, 0, 11)), None, b"\x16\x00\xfa\xfd\xef\x01\x01\x01", 1, router_alert=True)
    assert ENGINE.event.written(packet) == {
        "PacketReceived": {"ifindex": 3, "sender": "10.2.0.11", "destination": None, "payload": "1600fafdef010101", "ttl": 1, "router_alert": True}
    }
    assert ENGINE.effect.written(SetRoute(None, bytes((239, 1, 1, 1)), lan0, ((lan0, 1),))) == {
        "SetRoute": {"source": None, "group": "239.1.1.1", "iif": 3, "oifs": [[3, 1]]}
    }
    assert ENGINE.effect.written(SendPacket(lan0, bytes(4), bytes(16))) == {"SendPacket": {"ifindex": 3, "destination": "0.0.0.0", "payload": "00" * 16}}
    assert ENGINE.event.written(LinkChanged(lan0, "lan0", True, 1500)) == {"LinkChanged": {"ifindex": 3, "name": "lan0", "is_up": True, "mtu": 1500}}
    found = RoutesFound((RouteFound(None, None, lan0, frozenset({IfIndex(9), lan0})),))
    assert ENGINE.event.written(found)["RoutesFound"]["routes"][0]["oifs"] == [3, 9]


@pytest.mark.parametrize("plain", [{"PacketReceived": {"ifindex": 1}}, {"LinkRemoved": {"ifindex": 1, "more": 2}}, {"A": {}, "B": {}}, {}])
def test_what_does_not_fit_is_refused(plain):
    with pytest.raises((ValueError, TypeError)):
        ENGINE.event.read(plain)


def test_a_type_without_a_form_is_named():
    with pytest.raises(TypeError, match="complex"):
        form_of(complex)
