"""What the kernel counts of streams on one multicast interface (linux/mroute.h SIOCGETVIFCNT, linux/mroute6.h SIOCGETMIFCNT_IN6)."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct

from igmpconf.ids import VifIndex

NAMES = ("stream-packets-in", "stream-packets-out", "stream-bytes-in", "stream-bytes-out")
_SIOCPROTOPRIVATE = 0x89E0  # both requests, and both have the same layout: number, then four unsigned long
_REQUEST = struct.Struct("@H4L")


def stream_counters(routing_socket: socket.socket, vif: VifIndex) -> dict[str, int] | None:
    """By name, since the vif was made; None if there is no such vif.  Raises OSError.  The kernel counts in machine words."""
    request = bytearray(_REQUEST.pack(vif, 0, 0, 0, 0))
    try:
        fcntl.ioctl(routing_socket, _SIOCPROTOPRIVATE, request)
    except OSError as error:
        if error.errno in {errno.EADDRNOTAVAIL, errno.EINVAL}:  # EINVAL: beyond the highest number in use
            return None
        raise
    return dict(zip(NAMES, _REQUEST.unpack(request)[1:], strict=True))
