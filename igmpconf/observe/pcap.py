"""Packets to a pcapng file (draft-ietf-opsawg-pcapng), as Wireshark and tshark read it, directions included."""

from __future__ import annotations

import struct
from typing import BinaryIO

_LINKTYPE_LINUX_SLL = 113
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_IF_NAME, _SHB_APPLICATION, _EPB_FLAGS = 2, 4, 2
_INBOUND, _OUTBOUND = 1, 2
_SNAP_BYTES = 65_535


class PcapWriter:
    """Writes one section with one interface; every `packet` is on the file when the call returns."""

    def __init__(self, file: BinaryIO, interface: str) -> None:
        self._file = file
        self._block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((_SHB_APPLICATION, b"igmpconf")))
        self._block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_LINUX_SLL, 0, _SNAP_BYTES) + _options((_IF_NAME, interface.encode())))

    def packet(self, time_us: int, frame: bytes, length: int, *, is_outgoing: bool) -> None:
        """`frame` is the cooked header and the packet, `length` their octets before it was cut."""
        head = struct.pack("<IIIII", 0, time_us >> 32, time_us & 0xFFFFFFFF, len(frame), length)
        flags = struct.pack("<I", _OUTBOUND if is_outgoing else _INBOUND)
        self._block(_PACKET, head + _padded(frame) + _options((_EPB_FLAGS, flags)))

    def _block(self, kind: int, body: bytes) -> None:
        total = struct.pack("<I", 12 + len(body))
        self._file.write(struct.pack("<I", kind) + total + body + total)
        self._file.flush()


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in options) + bytes(4)
