"""A membership is a set of sources, finite or co-finite (house decision B).

INCLUDE{S} is the set S; EXCLUDE{S} is every source but S.  Merging (RFC 4605 4.1, RFC 3376 3.2) is `|`, the
forwarding test is `in`, and what has to be told upstream is a difference of two sets.  Addresses are packed octets.
"""

from __future__ import annotations

from dataclasses import dataclass

_NONE: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class SourceSet:
    """`listed` when not `inverted`, else everything but `listed`."""

    listed: frozenset[bytes] = _NONE
    inverted: bool = False  # True: EXCLUDE mode

    def __contains__(self, source: bytes) -> bool:
        return (source in self.listed) is not self.inverted

    def __bool__(self) -> bool:
        return self.inverted or bool(self.listed)

    def __or__(self, other: SourceSet) -> SourceSet:
        if self.inverted:
            return _all_but(self.listed & other.listed if other.inverted else self.listed - other.listed)
        if other.inverted:
            return _all_but(other.listed - self.listed)
        return SourceSet(self.listed | other.listed)

    def __invert__(self) -> SourceSet:
        return SourceSet(self.listed, not self.inverted)

    def __and__(self, other: SourceSet) -> SourceSet:
        return ~(~self | ~other)

    def __sub__(self, other: SourceSet) -> SourceSet:
        return self & ~other


def _all_but(listed: frozenset[bytes]) -> SourceSet:
    return SourceSet(listed, True) if listed else EVERYTHING  # nearly every group: one object serves them all


NOTHING = SourceSet()  # INCLUDE{}: no membership
EVERYTHING = SourceSet(inverted=True)  # EXCLUDE{}: any source
