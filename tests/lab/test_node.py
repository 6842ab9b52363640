from __future__ import annotations

import socket

from igmpconf.lab.node import Node
from igmpconf.lab.stream import GROUPS


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
