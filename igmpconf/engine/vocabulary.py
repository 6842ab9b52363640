"""The names that leave the engine: counters of an interface and log events, each with its meaning.

The code says the names where things happen; tests hold this list against the code, and the reference is printed from it.
A `*` stands for a protocol version.
"""

from __future__ import annotations

import re

COUNTERS: dict[str, str] = {
    "received-query-v*": "queries of other routers",
    "received-report-v*": "membership reports of hosts; on the upstream, of other hosts there",
    "received-leave-v*": "leave and done messages of older hosts",
    "received-ttl-above-1": "messages with a TTL above 1, which no neighbour should send; they count all the same",
    "sent-query-v*": "our queries",
    "sent-report-v*": "our reports",
    "sent-leave-v*": "our leave and done messages",
    "send-failed": "messages that the kernel refused to send",
    "cache-missed": "datagrams for which the kernel had no forwarding entry at all",
    "wrong-interface": "datagrams that arrived elsewhere than their forwarding entry says",
    "stream-packets-in": "datagrams of streams that came in by this interface and were forwarded, as the kernel counts since it takes part",
    "stream-packets-out": "datagrams of streams that were forwarded out of this interface",
    "stream-bytes-in": "their octets, in",
    "stream-bytes-out": "their octets, out",
    "dropped-foreign-source": "copies of datagrams not passed on: their source is neither of the upstream's subnets nor of its alternative-subnets",
    "dropped-local-group": "copies of datagrams to local-groups that would have crossed between the upstream and the downstreams",
    "refresh-expected": "reports that general queries should have brought, of groups that were listened to all the time",
    "refresh-lost": "those of refresh-expected that did not come: lost on the link, queries or reports",
    "rejected-bad-group": "messages about an address that is no group",
    "rejected-checksum": "messages with a wrong checksum",
    "rejected-denied": "records, or sources of records, that a rule in groups denies",
    "rejected-group-limit": "new groups beyond max-groups",
    "rejected-hop-limit": "MLD messages whose hop limit was not 1",
    "rejected-newer-version": "reports of a version newer than the configured one",
    "rejected-older-version": "messages of a version older than minimum-version, or minimum-mld-version",
    "rejected-query-destination": "general queries sent to another group than all hosts",
    "rejected-query-length": "queries of a length that no version has",
    "rejected-records-truncated": "reports that claim more records or sources than they carry",
    "rejected-router-alert": "messages without Router Alert where it is required",
    "rejected-sender": "reports from outside the interface's subnets and alternative-subnets; MLD: not from a link-local address",
    "rejected-source-limit": "reports with new sources beyond max-sources-per-group",
    "rejected-sources-truncated": "queries that claim more sources than they carry",
    "rejected-ssm": "any-source reports for source-specific groups",
    "rejected-too-short": "messages too short to be any",
    "rejected-unknown-type": "messages of a type that is not ours to understand",
}

NOTES: dict[str, str] = {
    "downstream/down": "a downstream stopped: its link is down or gone, or it is not configured any more",
    "downstream/up": "a downstream started to ask for memberships",
    "kernel/refused": "the kernel refused an interface or an entry; it is tried again, later each time",
    "limit/groups": "max-groups is reached, new groups are refused",
    "limit/sources": "max-sources-per-group is reached, new sources are refused",
    "membership/joined": "the first host of a downstream joined a group",
    "membership/left": "a downstream has no host of a group left",
    "packet/not-sent": "a message of ours could not be sent",
    "packet/rejected": "a message, or a part of one, was not believed; the counter of the same reason counts them",
    "querier/changed": "another router than before asks for memberships, again not us",
    "querier/lost": "a router with a lower address took over; we do not forward there while it asks",
    "querier/other-version": "somebody asks in another version than the configured one",
    "querier/taken": "the other router fell silent, we ask again",
    "report/foreign-sender": "a host reports from outside the subnets; alternative-subnets would let it in",
    "routes/adopted": "entries of an earlier process were taken over",
    "static/refused": "a static group cannot be held",
    "upstream/down": "the upstream is gone, or is not the upstream any more",
    "upstream/older-query-for-ssm": "the upstream's querier is too old to ask for the sources of a source-specific group",
    "upstream/up": "the upstream is there; everything wanted was reported",
    "upstream/version": "reports are sent in another version from now on",
}


def counter_meaning(name: str) -> str | None:
    """What the counter `name` counts, or None for a name that is not ours."""
    return COUNTERS.get(re.sub(r"-v[0-9]$", "-v*", name))
