"""Hosts and rates of what a change touches, from two readings of counters."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState, HostRow
from igmpconf.plan.diff import diff
from igmpconf.plan.impact import judged, worst
from igmpconf.plan.plan import Plan, from_json, planned, to_json
from igmpconf.plan.render import impact_text
from igmpconf.plan.traffic import is_measurable, measured, rate_text
from tests.plan.test_impact import BASE, G1, G3, STATE, edited

A = from_plain(DeviceConfig, {"igmp-proxy": [BASE]})
B = from_plain(DeviceConfig, {"igmp-proxy": [edited(lan1=None, mfc=[])]})


def reading(**counted: int) -> DeviceState:
    """`STATE` with hosts on lan1, and with the bytes of each group's entry."""
    hosts = tuple(
        HostRow(instance="default", interface="lan1", group=ip_address(group), host=ip_address(host), mode="exclude")
        for group, host in ((G1, "10.1.0.9"), (G1, "10.1.0.10"), (G3, "10.1.0.9"))
    )
    rows = tuple(dataclasses.replace(row, bytes=counted.get("a" if str(row.group) == G1 else "b")) for row in STATE.mfc)
    return dataclasses.replace(STATE, hosts=hosts, mfc=rows)


def touched(first: DeviceState, second: DeviceState | None = None, elapsed_s: float = 0.0):
    return measured(judged(diff(A, B), A, B, first), first, second, elapsed_s)


def test_rates_are_the_difference_of_two_readings_and_a_host_counts_once():
    changes = touched(reading(a=1_000, b=500), reading(a=3_001_000, b=500), 2.0)
    impact = worst(change.impact for change in changes)
    assert {(g.group, g.interface): (g.hosts, g.bytes_per_s) for g in impact.groups} == {
        (G1, "lan1"): (("10.1.0.9", "10.1.0.10"), 1_500_000),
        (G3, "lan0"): ((), 0),
        (G3, "lan1"): (("10.1.0.9",), 0),
    }
    assert impact_text(impact).startswith("interrupts 239.9.9.9 on lan0, 239.1.1.1 on lan1, 239.9.9.9 on lan1: 2 hosts, 1.5 MB/s (")


def test_without_a_second_reading_the_rate_is_unknown_and_not_zero():
    impact = worst(change.impact for change in touched(reading(a=1, b=1)))
    assert {group.bytes_per_s for group in impact.groups} == {None}
    assert ": 2 hosts (" in impact_text(impact)


def test_an_entry_that_was_made_anew_counts_from_zero():
    impact = worst(change.impact for change in touched(reading(a=9_000, b=0), reading(a=400, b=0), 1.0))
    assert {group.bytes_per_s for group in impact.groups if group.group == G1} == {400}


def test_only_what_is_counted_and_touched_is_worth_waiting_for():
    changes = judged(diff(A, B), A, B, STATE)
    assert is_measurable(changes, reading(a=1))
    assert not is_measurable(changes, STATE)  # no counters
    assert not is_measurable(judged(diff(A, A), A, A, STATE), reading(a=1))


def test_a_saved_plan_keeps_what_was_measured():
    said = "sha256:" + "0" * 64
    device = dataclasses.replace(planned("r", A, B, STATE), changes=touched(reading(a=0, b=0), reading(a=100, b=7), 1.0), inventory_digest=said)
    plan = Plan(plan_id="p", devices=(device,))
    back = from_json(to_json(plan))
    assert back.devices[0].inventory_digest == said
    assert back.inventory_digest == plan.inventory_digest is not None
    assert impact_text(worst(change.impact for change in back.devices[0].changes)) == impact_text(worst(change.impact for change in device.changes))


@pytest.mark.parametrize(
    ("rate", "said"), [(0, "0 B/s"), (999, "999 B/s"), (1_000, "1 kB/s"), (12_345, "12.3 kB/s"), (999_999, "1 MB/s"), (3_750_000_000, "3.75 GB/s")]
)
def test_a_rate_is_short(rate, said):
    assert rate_text(rate) == said
