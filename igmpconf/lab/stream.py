"""What a test stream looks like on the wire, and the tally of what arrived of it.

A datagram is a magic word, the sender's sequence number and the time it was sent; the tally turns a series of
sequence numbers into received, lost and duplicated.  No socket here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

PORT = 5004  # the usual port of RTP; every stream of the lab uses it
GROUPS = ("239.1.1.1", "239.1.1.2")  # what the head end sends by default
TTL = 8

_LAYOUT = struct.Struct("!4sQQ")
_MAGIC = b"igmp"
DATAGRAM_BYTES = 200  # so that a stream has some weight, yet a laptop sends thousands a second


def datagram(sequence: int, sent_ns: int) -> bytes:
    """Payload number `sequence` of a stream, sent at `sent_ns` of CLOCK_MONOTONIC."""
    return _LAYOUT.pack(_MAGIC, sequence, sent_ns).ljust(DATAGRAM_BYTES, b"\0")


def parsed(payload: bytes) -> tuple[int, int] | None:
    """Sequence number and sending time of a payload, or None when it is not ours."""
    if len(payload) < _LAYOUT.size:
        return None
    magic, sequence, sent_ns = _LAYOUT.unpack_from(payload)
    return (sequence, sent_ns) if magic == _MAGIC else None


@dataclass(slots=True)
class Tally:
    """What one receiver saw of one stream since it joined.

    `lost` counts the numbers missing between the first and the highest one seen, so what was sent before the join
    or after the leave is nobody's loss.
    """

    received: int = 0
    duplicates: int = 0
    first: int | None = None
    highest: int | None = None
    last_ns: int = 0
    _missing: set[int] | None = None

    def add(self, sequence: int, now_ns: int) -> None:
        """Count one datagram that arrived at `now_ns` of CLOCK_MONOTONIC."""
        self.last_ns = now_ns
        if self._missing is None or self.highest is None:
            self._missing, self.first, self.highest = set(), sequence, sequence
            self.received = 1
        elif sequence > self.highest:
            self._missing.update(range(self.highest + 1, sequence))
            self.highest = sequence
            self.received += 1
        elif sequence in self._missing:  # late, not lost
            self._missing.discard(sequence)
            self.received += 1
        else:
            self.duplicates += 1

    @property
    def lost(self) -> int:
        """Datagrams between the first and the highest that never came."""
        return len(self._missing or ())
