from __future__ import annotations

import json
import socket

from igmpconf.lab.node import OTHER_GROUPS, Node
from igmpconf.lab.stream import GROUPS, PORT


def test_a_leave_overtakes_a_datagram_that_was_ready_in_the_same_turn() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        node = Node("h1", theirs)
        node._address = "127.0.0.1"
        node._join(GROUPS[0])
        receiver = node._receivers[GROUPS[0]]
        node._leave(GROUPS[0])
        node._receive(receiver)  # what the selector had announced before
        assert node._counts()["joined"] == {}


def test_ten_thousand_groups_on_the_wire_fit_into_an_answer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        node = Node("h1", theirs)
        header = bytes([0x45, *bytes(8), socket.IPPROTO_UDP, *bytes(6)])
        arrived = [header + bytes([239, 1, n >> 8, n & 0xFF]) + bytes(2) + PORT.to_bytes(2, "big") + bytes(4) for n in range(10_000)] * 2

        class Tap:
            def recvfrom(self, _octets: int) -> tuple[bytes, tuple[str, int, int]]:
                if not arrived:
                    raise BlockingIOError
                return arrived.pop(0), ("eth0", 0x0800, 0)

        while arrived:
            node._watch_wire(Tap())  # type: ignore[arg-type]
        told = node._counts()["on_wire"]
        assert sum(told.values()) == 20_000
        assert told["239.1.0.1"] == 2
        assert told[OTHER_GROUPS] > 18_000
        ours.send(json.dumps({"op": "counts"}).encode())
        node._serve()
        assert json.loads(ours.recv(65_536))["result"]["on_wire"] == told
