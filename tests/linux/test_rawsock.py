"""What the routing socket of IPv6 hands over, as the engine is told it; a real kernel's messages are in tests/topology."""

from __future__ import annotations

import socket
import struct

import pytest

from igmpconf.engine.events import CacheMissed, PacketReceived
from igmpconf.ids import IfIndex, VifIndex
from igmpconf.linux.rawsock import _MOST_SENDERS, MldPackets

LAN, WAN, ELSEWHERE = IfIndex(3), IfIndex(2), IfIndex(9)
VIFS = {WAN: VifIndex(0), LAN: VifIndex(1)}
INTERFACES = {vif: ifindex for ifindex, vif in VIFS.items()}
GROUP = b"\xff\x0e" + bytes(13) + b"\x07"
REPORT = bytes((131, 0, 0, 0, 0, 0, 0, 0)) + GROUP
ALERT = bytes((58, 0, 5, 2, 0, 0, 1, 0))


def told(ifindex: int, *, hops: int | None = 1, options: bytes | None = ALERT) -> list[tuple[int, int, bytes]]:
    """Ancillary data as Linux orders it."""
    data = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, GROUP + struct.pack("=i", ifindex))]
    if hops is not None:
        data.append((socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", hops)))
    if options is not None:
        data.append((socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, options))
    return data


class Waiting:
    """A socket in which messages wait: (data, ancillary, sender)."""

    def __init__(self, *messages: tuple[bytes, list[tuple[int, int, bytes]], str]) -> None:
        self._messages = list(messages)

    def recvmsg(self, size: int, ancillary_size: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int, int, int]]:
        if not self._messages:
            raise BlockingIOError
        data, ancillary, sender = self._messages.pop(0)
        assert len(data) <= size
        assert sum(socket.CMSG_SPACE(len(value)) for _, _, value in ancillary) <= ancillary_size
        return data, ancillary, 0, (sender, 0, 0, 3)


def received(*messages: tuple[bytes, list[tuple[int, int, bytes]], str], limit: int = 100) -> list[object]:
    return list(MldPackets(Waiting(*messages)).receive(limit, VIFS, INTERFACES))  # type: ignore[arg-type]


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


@pytest.mark.parametrize("order", [1, -1])
def test_a_message_comes_with_all_that_is_judged(order: int) -> None:
    expected = PacketReceived(LAN, packed("fe80::9"), GROUP, REPORT, 1, router_alert=True)
    assert received((REPORT, told(LAN)[::order], "fe80::9"), (REPORT, told(LAN)[::order], "fe80::9%lan0")) == [expected, expected]


def test_what_is_missing_is_told_as_missing() -> None:
    (far,) = received((REPORT, told(LAN, hops=64, options=None), "fe80::9"))
    assert (far.ttl, far.router_alert) == (64, False)  # type: ignore[attr-defined]
    (bare,) = received((REPORT, told(LAN, hops=None, options=bytes((58, 0, 1, 4, 0, 0, 0, 0))), "fe80::9"))
    assert (bare.ttl, bare.router_alert) == (0, False)  # type: ignore[attr-defined]


def test_messages_of_interfaces_that_take_no_part_are_passed_over() -> None:
    assert received((REPORT, told(ELSEWHERE), "fe80::9"), (REPORT, [], "fe80::9"), (b"\x83", told(LAN), "fe80::9")) == []


def test_the_kernels_own_questions_are_told_apart() -> None:
    source = packed("2001:db8::1")
    upcall = bytes((0, 1)) + struct.pack("=H", VIFS[WAN]) + bytes(4) + source + GROUP
    assert received((upcall, [], "::"), (upcall[:-1], [], "::")) == [CacheMissed(WAN, source, GROUP)]


def test_a_batch_ends_with_the_limit_or_with_its_size() -> None:
    assert len(received(*[(REPORT, told(LAN), "fe80::9")] * 5, limit=3)) == 3
    assert len(received(*[(bytes((143, 0, 0, 0)) * 1_500, told(LAN), "fe80::9")] * 5)) == 2


def test_more_senders_than_are_remembered_are_told_all_the_same() -> None:
    hosts = [f"fe80::{number:x}" for number in range(1, _MOST_SENDERS + 10)] * 2
    packets = MldPackets(Waiting(*[(REPORT, told(LAN), host) for host in hosts]))  # type: ignore[arg-type]
    heard: list[bytes] = []
    while arrivals := packets.receive(len(hosts), VIFS, INTERFACES):
        heard += [one.sender for one in arrivals if isinstance(one, PacketReceived)]
    assert heard == [packed(host) for host in hosts]
