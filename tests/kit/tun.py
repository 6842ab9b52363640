"""A point-to-point link between two namespaces, as PPP makes one: no link layer, no neighbours, gone when it is hung up.

Two TUN interfaces of the kernel and a thread that carries packets between them (linux/if_tun.h).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading

import pytest

from tests.kit.netns import Namespace, wait_until

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class PointToPoint:
    """`a` and `b` are the ends; both interfaces are up, without addresses."""

    def __init__(self, a: Namespace, a_name: str, b: Namespace, b_name: str) -> None:
        self._ends = (_tun(a, a_name), _tun(b, b_name))
        self._stop, self._stopped = os.pipe()
        self._carrier = threading.Thread(target=self._carry, name="point-to-point", daemon=True)
        self._carrier.start()
        for inside, name in ((a, a_name), (b, b_name)):
            inside.run(f"ip link set {name} up")
            wait_until(lambda inside=inside, name=name: "LOWER_UP" in inside.run(f"ip link show {name}"), f"{name} up")

    def _carry(self) -> None:
        one, other = self._ends
        while True:
            readable, _, _ = select.select([one, other, self._stop], [], [])
            if self._stop in readable:
                return
            for fd in readable:
                with contextlib.suppress(OSError):  # an end that is down takes nothing
                    os.write(other if fd == one else one, os.read(fd, 65_536))

    def hang_up(self) -> None:
        """Both interfaces vanish."""
        os.write(self._stopped, b"x")
        self._carrier.join(10)
        for fd in (*self._ends, self._stop, self._stopped):
            os.close(fd)


def _tun(inside: Namespace, name: str) -> int:
    reader, writer = socket.socketpair()

    def make() -> None:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        socket.send_fds(writer, [b"x"], [fd])

    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no TUN interfaces here: /dev/net/tun is missing or may not be opened")
    pid = inside._fork(make)
    writer.close()
    _, fds, _, _ = socket.recv_fds(reader, 1, 1)
    reader.close()
    os.waitpid(pid, 0)
    assert fds, f"{inside.name}: no TUN interface {name}"
    return fds[0]
