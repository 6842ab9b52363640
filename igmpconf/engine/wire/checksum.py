"""The Internet checksum (RFC 1071), computed on one big integer.

65536 is 1 modulo 65535, so the one's complement sum of all 16-bit words is the whole message, read as one
number, modulo 65535.  CPython does that division in C, which beats any loop over words.
"""

from __future__ import annotations


def internet_checksum(data: bytes) -> int:
    """The value of the checksum field for `data`, whose own checksum field must be zero.  Range: 0..0xFFFF."""
    number = int.from_bytes(data + b"\0" if len(data) % 2 else data)
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF  # one's complement has two zeros; only no bits at all sum to the positive one
    return 0xFFFF - total


def is_intact(data: bytes) -> bool:
    """True if `data`, its checksum field included, sums to what RFC 1071 wants."""
    number = int.from_bytes(data + b"\0" if len(data) % 2 else data)
    return number != 0 and number % 0xFFFF == 0
