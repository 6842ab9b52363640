"""Our counters as the statistics of RFC 8652: received, sent and error, each by kind of message.

Our own names say more (version, reason of a rejection, see engine/vocabulary.py); these are the sums that every
vendor's device has, so that one dashboard reads all.
"""

from __future__ import annotations

from collections.abc import Mapping

_KINDS = ("query", "report", "leave")
# What is wrong with the octets; refusals by policy, limits or role are no errors of a message.
_MALFORMED = frozenset(
    {"bad-group", "checksum", "hop-limit", "query-length", "records-truncated", "router-alert", "sources-truncated", "too-short", "unknown-type"}
)


def statistics(counters: Mapping[str, int]) -> dict[str, int]:
    """`statistics/received/query` and so on (RFC 8652, grouping global-state-attributes), all of them, zeros included.

    `received` are messages that were understood, `error` those that were not; a malformed message has no kind, so
    `error` has a total and the two reasons that the RFC names.
    """
    found: dict[str, int] = {}
    for way in ("received", "sent"):
        kinds = {kind: sum(value for name, value in counters.items() if name.startswith(f"{way}-{kind}-v")) for kind in _KINDS}
        found[f"statistics/{way}/total"] = sum(kinds.values())
        found |= {f"statistics/{way}/{kind}": value for kind, value in kinds.items()}
    found["statistics/error/total"] = sum(counters.get(f"rejected-{reason}", 0) for reason in _MALFORMED)
    for reason in ("checksum", "too-short"):
        found[f"statistics/error/{reason}"] = counters.get(f"rejected-{reason}", 0)
    return found
