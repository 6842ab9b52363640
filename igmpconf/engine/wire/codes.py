"""The floating-point codes in which queries say times.

IGMP: 8 bits, `1 exp(3) mant(4)`, value (mant | 0x10) << (exp + 3) (RFC 3376 4.1.1, 4.1.7).
MLD: 16 bits, `1 exp(3) mant(12)`, value (mant | 0x1000) << (exp + 3) (RFC 3810 5.1.3); its QQIC is the 8-bit form.
A value that has no code is written as the next lower one that has (RFC 3376 8.8).
"""

from __future__ import annotations

MAX_CODE8 = 31_744  # 0xFF
MAX_CODE16 = 8_387_584  # 0xFFFF


def decode8(code: int) -> int:
    """The value of an 8-bit code.  Range: 0..31 744."""
    return code if code < 128 else ((code & 0x0F) | 0x10) << ((code >> 4 & 7) + 3)


def encode8(value: int) -> int:
    """The code of the largest representable value that is at most `value`; above the range, the largest code."""
    return _encode(value, linear_limit=128, mantissa_bits=4, largest=MAX_CODE8)


def decode16(code: int) -> int:
    """The value of a 16-bit code.  Range: 0..8 387 584."""
    return code if code < 32_768 else ((code & 0x0FFF) | 0x1000) << ((code >> 12 & 7) + 3)


def encode16(value: int) -> int:
    """The code of the largest representable value that is at most `value`; above the range, the largest code."""
    return _encode(value, linear_limit=32_768, mantissa_bits=12, largest=MAX_CODE16)


def _encode(value: int, *, linear_limit: int, mantissa_bits: int, largest: int) -> int:
    if value < linear_limit:
        return value
    value = min(value, largest)
    exponent = value.bit_length() - (mantissa_bits + 1)  # so that exactly the implied bit and the mantissa stay
    mantissa = (value >> exponent) & ((1 << mantissa_bits) - 1)
    return linear_limit | (exponent - 3) << mantissa_bits | mantissa
