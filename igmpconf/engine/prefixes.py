"""Sets of address prefixes over packed addresses, for the questions that reports ask all the time."""

from __future__ import annotations

from collections.abc import Iterable

from igmpconf.model.leaf import Prefix


class PrefixSet:
    """Prefixes of one address size; `in` tells whether an address lies in any of them.

    Cost of a test: one dictionary look-up for each distinct prefix length.
    """

    __slots__ = ("_bits", "_by_shift", "prefixes")

    def __init__(self, prefixes: Iterable[tuple[bytes, int]], address_bytes: int) -> None:
        self._bits = address_bytes * 8
        self.prefixes = tuple((address, length) for address, length in prefixes if len(address) == address_bytes)
        shifts: dict[int, set[int]] = {}
        for address, length in self.prefixes:
            shifts.setdefault(self._bits - length, set()).add(int.from_bytes(address) >> (self._bits - length))
        self._by_shift = sorted(shifts.items())  # longest prefixes first

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address)
        for shift, networks in self._by_shift:  # noqa: SIM110 - a generator is a call more, for each report
            if number >> shift in networks:
                return True
        return False

    def __bool__(self) -> bool:
        return bool(self.prefixes)

    def longest(self, address: bytes) -> int | None:
        """Length of the longest prefix that holds `address`, or None."""
        number = int.from_bytes(address)
        for shift, networks in self._by_shift:
            if number >> shift in networks:
                return self._bits - shift
        return None

    def hosts(self) -> tuple[bytes, ...]:
        """The prefixes that are a single address."""
        return tuple(address for address, length in self.prefixes if length == self._bits)


def packed_prefixes(prefixes: Iterable[Prefix]) -> tuple[tuple[bytes, int], ...]:
    """The model's prefixes as pairs of packed network and length."""
    return tuple((prefix.network_address.packed, prefix.prefixlen) for prefix in prefixes)
