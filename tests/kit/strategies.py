"""Hypothesis strategies for what the engine hears: sources, records, queries, and whole afternoons of events."""

from __future__ import annotations

from hypothesis import strategies as st

from igmpconf.engine.family import IGMP, MLD, Family
from igmpconf.engine.messages import Query, Record, RecordKind
from igmpconf.engine.sources import SourceSet

UNIVERSE = tuple(bytes((192, 0, 2, n)) for n in range(1, 5))
GROUPS = (bytes((239, 1, 1, 1)), bytes((239, 1, 1, 2)), bytes((232, 1, 1, 1)))

source_sets = st.builds(SourceSet, st.frozensets(st.sampled_from(UNIVERSE)), st.booleans())
records = st.builds(Record, st.sampled_from(RecordKind), st.sampled_from(GROUPS), st.frozensets(st.sampled_from(UNIVERSE), max_size=3))


def addresses(family: Family, *, group: bool) -> st.SearchStrategy[bytes]:
    size = family.address_bytes
    octets = st.binary(min_size=size, max_size=size)
    if size == 4:
        return octets.map(lambda b: bytes((0xE0 | b[0] & 0x0F,)) + b[1:]) if group else octets.map(lambda b: bytes((b[0] % 223 + 1,)) + b[1:])
    return octets.map(lambda b: b"\xff" + b[1:]) if group else octets.map(lambda b: b"\x20" + b[1:])


def wire_records(family: Family) -> st.SearchStrategy[Record]:
    return st.builds(Record, st.sampled_from(RecordKind), addresses(family, group=True), st.frozensets(addresses(family, group=False), max_size=6))


def sender(family: Family) -> bytes:
    return bytes((10, 0, 0, 1)) if family.address_bytes == 4 else b"\xfe\x80" + bytes(13) + b"\1"


def latest_queries(family: Family) -> st.SearchStrategy[Query]:
    """Queries whose times have codes of their own, so that decoding gives them back."""
    unit_ms = 100 if family.address_bytes == 4 else 1
    general = st.just((None, ()))
    specific = st.tuples(addresses(family, group=True), st.lists(addresses(family, group=False), max_size=5, unique=True).map(tuple))
    return st.builds(
        lambda asked, response, robustness, interval, suppress: Query(
            sender(family), family.latest_version, asked[0], asked[1], response * unit_ms, robustness, interval * 1000 if interval else None, suppress
        ),
        general | specific,
        st.integers(0, 127),
        st.none() | st.integers(1, 7),
        st.none() | st.integers(1, 127),
        st.booleans(),
    )


families = st.sampled_from((IGMP, MLD))

# (what happens, milliseconds until then)
steps = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.just("report"), st.sampled_from(("lan0", "lan1")), st.lists(records, min_size=1, max_size=3), st.integers(100, 103)),
            st.tuples(st.just("older"), st.sampled_from(("lan0", "lan1")), st.sampled_from((1, 2)), st.sampled_from(GROUPS), st.booleans()),
            st.tuples(
                st.just("query"), st.sampled_from(("wan", "lan0")), st.sampled_from((1, 2, 3)), st.none() | st.sampled_from(GROUPS), st.sampled_from((0, 200))
            ),
            st.tuples(st.just("link"), st.sampled_from(("wan", "lan0", "lan1")), st.booleans()),
        ),
        st.integers(0, 3_000) | st.integers(0, 300_000),
    ),
    max_size=12,
)
