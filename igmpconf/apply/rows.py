"""Rows of `show --format json`: their names and types are a promise, printed to schemas/show.schema.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from igmpconf.model.document import closed_object
from igmpconf.model.state import DeviceState, GroupRow, HostRow, InterfaceRow, MfcRow, SourceRow
from igmpconf.observe.counters import statistics

Row = dict[str, Any]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _querier(row: InterfaceRow) -> Row | None:
    q = row.querier
    if q is None:
        return None
    return {
        "address": _text(q.address),
        "self": q.self_,
        "since_s": q.since_s,
        "reason": q.reason,
        "robustness": q.robustness,
        "query_interval_s": None if q.query_interval_ms is None else q.query_interval_ms / 1000,
    }


def _interface(row: InterfaceRow) -> Row:
    return {
        "instance": row.instance,
        "interface": row.interface,
        "family": row.family,
        "role": row.role,
        "enabled": row.enabled,
        "up": row.up,
        "addresses": list(row.addresses),
        "querier": _querier(row),
        "version": row.version,
        "counters": {counter.name: counter.value for counter in row.counters},
    }


def _group(row: GroupRow) -> Row:
    return {
        "instance": row.instance,
        "interface": row.interface,
        "group": str(row.group),
        "mode": row.mode,
        "sources": [{"address": str(timer.address), "expires_s": timer.expires_s} for timer in row.sources],
        "excluded": [str(address) for address in row.excluded],
        "version": row.version,
        "expires_s": row.expires_s,
        "uptime_s": row.uptime_s,
        "last_reporter": _text(row.last_reporter),
        "hosts": row.hosts,
    }


def _mfc(row: MfcRow) -> Row:
    return {
        "instance": row.instance,
        "family": row.family,
        "source": str(row.source),
        "group": str(row.group),
        "upstream": row.upstream,
        "downstreams": list(row.downstreams),
        "packets": row.packets,
        "bytes": row.bytes,
        "wrong_if": row.wrong_if,
        "kind": row.kind,
        "state": row.state,
    }


def _host(row: HostRow) -> Row:
    return {
        "interface": row.interface,
        "group": str(row.group),
        "host": str(row.host),
        "mode": row.mode,
        "sources": [str(source) for source in row.sources],
        "expires_s": row.expires_s,
    }


def _source(row: SourceRow) -> Row:
    return {"interface": row.interface, "source": str(row.source), "group": str(row.group), "packets": row.packets, "bytes": row.bytes}


_NO_QUERIER: Row = {"address": None, "self": False, "since_s": None, "reason": None, "robustness": None, "query_interval_s": None}


def _queriers(state: DeviceState) -> list[Row]:
    return [
        {
            "instance": row.instance,
            "interface": row.interface,
            "family": row.family,
            "version": row.version,
            **(_querier(row) or _NO_QUERIER),
        }
        for row in state.interfaces
        if row.role == "downstream"
    ]


def _all_counters(row: InterfaceRow) -> dict[str, int]:
    """Ours by reason and version, and the sums that RFC 8652 names."""
    ours = {counter.name: counter.value for counter in row.counters}
    return ours | statistics(ours)


def _counters(state: DeviceState) -> list[Row]:
    return [
        {"instance": row.instance, "interface": row.interface, "family": row.family, "name": name, "value": value}
        for row in state.interfaces
        for name, value in _all_counters(row).items()
    ]


def _why_no_sources(state: DeviceState) -> str | None:
    said = state.agent.sources if state.agent is not None else None
    return None if said is None or said == "watched" else f"senders are {said}"


def _sum_of(*prefixes: str) -> Callable[[Row], int]:
    return lambda row: sum(value for name, value in row["counters"].items() if name.startswith(prefixes))


@dataclass(frozen=True, slots=True)
class View:
    """One table of `show`."""

    parts: tuple[str, ...]  # tables of <state> that it needs
    rows: Callable[[DeviceState], list[Row]]
    columns: tuple[str, ...]  # of the table for people
    optional: tuple[str, ...] = ()  # as headings: which of them go first where the terminal is narrow
    derived: dict[str, Callable[[Row], int | str]] = field(default_factory=dict)  # columns that are not a value of the row as it is
    remark: Callable[[DeviceState], str | None] = lambda _: None  # why rows may be missing


VIEWS: dict[str, View] = {
    "interfaces": View(
        ("interfaces",),
        lambda s: [_interface(r) for r in s.interfaces],
        ("instance", "interface", "family", "role", "enabled", "up", "addresses", "querier", "version", "msgs_in", "msgs_out", "pkts_in", "pkts_out"),
        ("msgs_in", "msgs_out", "version", "pkts_out", "pkts_in"),
        {
            "msgs_in": _sum_of("received-query-", "received-report-", "received-leave-"),
            "msgs_out": _sum_of("sent-"),
            "pkts_in": _sum_of("stream-packets-in"),
            "pkts_out": _sum_of("stream-packets-out"),
        },
    ),
    "groups": View(
        ("groups",),
        lambda s: [_group(r) for r in s.groups],
        ("instance", "interface", "group", "mode", "sources", "version", "expires_s", "uptime_s", "last_reporter", "hosts"),
        ("uptime", "version", "last_reporter", "mode"),
    ),
    "mfc": View(
        ("mfc",),
        lambda s: [_mfc(r) for r in s.mfc],
        ("instance", "family", "source", "group", "upstream", "downstreams", "packets", "bytes", "wrong_if", "kind", "state"),
        ("bytes", "wrong_if", "upstream", "family", "packets"),
        {"state": lambda row: row["state"].removesuffix("-for-data")},
    ),
    "querier": View(
        ("interfaces",),
        _queriers,
        ("instance", "interface", "family", "version", "address", "self", "since_s", "reason", "robustness", "query_interval_s"),
        ("version", "robustness", "reason"),
    ),
    "hosts": View(("hosts",), lambda s: [_host(r) for r in s.hosts], ("interface", "group", "host", "mode", "sources", "expires_s"), ("mode", "expires")),
    "counters": View(("interfaces",), _counters, ("instance", "interface", "family", "name", "value")),
    "sources": View(
        ("sources", "agent"),
        lambda s: [_source(r) for r in s.sources],
        ("interface", "source", "group", "packets", "bytes"),
        ("bytes",),
        remark=_why_no_sources,
    ),
}


_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_COUNT = {"type": ["integer", "null"], "minimum": 0}
_FLAG = {"type": "boolean"}
_TEXTS = {"type": "array", "items": _TEXT}
_FAMILY = {"enum": ["ipv4", "ipv6"]}
_MODE = {"enum": ["include", "exclude"]}


def _object(**properties: Any) -> dict[str, Any]:
    return closed_object(properties)


_SECONDS: dict[str, Any] = {"type": ["number", "null"], "minimum": 0}
_QUERIER = _object(address=_MAYBE_TEXT, self=_FLAG, since_s=_COUNT, reason=_MAYBE_TEXT, robustness=_COUNT, query_interval_s=_SECONDS)

ROW_SCHEMAS: dict[str, dict[str, Any]] = {
    "interfaces": _object(
        instance=_TEXT,
        interface=_TEXT,
        family=_FAMILY,
        role={"enum": ["upstream", "downstream"]},
        enabled=_FLAG,
        up=_FLAG,
        addresses=_TEXTS,
        querier={"anyOf": [_QUERIER, {"type": "null"}]},
        version=_COUNT,
        counters={"type": "object", "additionalProperties": {"type": "integer"}},
    ),
    "groups": _object(
        instance=_TEXT,
        interface=_TEXT,
        group=_TEXT,
        mode=_MODE,
        sources={"type": "array", "items": _object(address=_TEXT, expires_s=_COUNT)},
        excluded=_TEXTS,
        version=_COUNT,
        expires_s=_COUNT,
        uptime_s=_COUNT,
        last_reporter=_MAYBE_TEXT,
        hosts=_COUNT,
    ),
    "mfc": _object(
        instance=_TEXT,
        family=_FAMILY,
        source=_TEXT,
        group=_TEXT,
        upstream=_MAYBE_TEXT,
        downstreams=_TEXTS,
        packets=_COUNT,
        bytes=_COUNT,
        wrong_if=_COUNT,
        kind={"enum": ["static", "learned"]},
        state={"enum": ["forwarding", "waiting-for-data", "withheld"]},
    ),
    "querier": _object(
        instance=_TEXT,
        interface=_TEXT,
        family=_FAMILY,
        version=_COUNT,
        address=_MAYBE_TEXT,
        self=_FLAG,
        since_s=_COUNT,
        reason=_MAYBE_TEXT,
        robustness=_COUNT,
        query_interval_s=_SECONDS,
    ),
    "hosts": _object(interface=_TEXT, group=_TEXT, host=_TEXT, mode=_MODE, sources=_TEXTS, expires_s=_COUNT),
    "counters": _object(instance=_TEXT, interface=_TEXT, family=_FAMILY, name=_TEXT, value={"type": "integer", "minimum": 0}),
    "sources": _object(interface=_TEXT, source=_TEXT, group=_TEXT, packets=_COUNT, bytes=_COUNT),
}


def json_schema() -> dict[str, Any]:
    """JSON Schema of what `show TABLE --format json` prints; each table's rows are under `$defs`."""
    answer = {
        "oneOf": [
            _object(device=_TEXT, rows={"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in ROW_SCHEMAS]}}),
            _object(device=_TEXT, error=_TEXT),
        ]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "igmpconf show",
        "description": "What `igmpconf show TABLE --format json` prints; a device that could not be asked has `error` in place of `rows`.",
        **_object(devices={"type": "array", "items": answer}),
        "$defs": ROW_SCHEMAS,
    }
