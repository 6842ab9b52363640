"""Checks of the doctor that no kernel has to be broken for: what needs minutes, or a device that tells nothing."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.diagnosis import Diagnosis, KernelOption, LinkFact, TableFact
from igmpconf.model.state import Counter, DeviationRow, DeviceState, GroupRow, HeardQuerier, InterfaceRow, MfcRow, QuerierState, UpstreamRow
from igmpconf.observe.doctor import CODES, SYMPTOMS, Patient, diagnose, plain

CONFIG = from_plain(DeviceConfig, {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, {"interface": "br0"}]}]})
G = ipaddress.ip_address("239.1.1.1")
WAN = InterfaceRow(instance="default", interface="wan", family="ipv4", role="upstream", enabled=True, up=True, addresses=("10.1.0.1/24",), version=3)
ASKING = QuerierState(address=ipaddress.ip_address("10.2.0.1"), self_=True, since_s=1_000, robustness=2, query_interval_ms=125_000)
BR0 = InterfaceRow(
    instance="default", interface="br0", family="ipv4", role="downstream", enabled=True, up=True, addresses=("10.2.0.1/24",), version=3, querier=ASKING
)
TABLE = TableFact(instance="default", family="ipv4", in_force=True)
LOOKED = Diagnosis(window_ms=2_000, tables=(TABLE,))


def group(uptime_s: int) -> GroupRow:
    return GroupRow(instance="default", interface="br0", group=G, mode="exclude", uptime_s=uptime_s, version=3, hosts=1)


def found(*rows: InterfaceRow, state: DeviceState | None = None, diagnosis: Diagnosis | None = LOOKED, config: DeviceConfig = CONFIG, **more: object):
    state = dataclasses.replace(state or DeviceState(), interfaces=rows or (WAN, BR0))
    return diagnose(Patient(config, state, diagnosis=diagnosis, **more))


def codes(*rows: InterfaceRow, **how: object) -> list[str]:
    return [one.code for one in found(*rows, **how)]


def test_a_healthy_device_has_no_finding_whether_it_can_look_or_not():
    assert codes() == []
    assert codes(diagnosis=None) == []


def heard(**facts: object) -> HeardQuerier:
    return HeardQuerier(**{"address": ipaddress.ip_address("10.1.0.254"), "queries": 10, "last_s": 20, "interval_ms": 125_000, "lost": 0} | facts)


@pytest.mark.parametrize(
    ("queriers", "uptime_s", "wanted"),
    [
        ((), 254, None),  # somebody may still ask
        ((), 255, "note"),
        ((heard(last_s=250),), 3_600, None),
        ((heard(last_s=253),), 3_600, "warning"),  # two intervals and some
        ((heard(last_s=253), heard(address=ipaddress.ip_address("10.1.0.9"), last_s=5)), 3_600, None),
        ((heard(last_s=9, interval_ms=None),), 3_600, None),
    ],
)
def test_queries_missing_on_the_upstream(queriers, uptime_s, wanted):
    rows = found(dataclasses.replace(WAN, heard_queriers=queriers), BR0, state=DeviceState(groups=(group(uptime_s),)))
    assert [(one.code, one.severity) for one in rows] == ([("upstream/no-queries", wanted)] if wanted else [])


@pytest.mark.parametrize(("queriers", "is_told"), [((), True), ((heard(last_s=253),), True), ((heard(last_s=100),), False)])
def test_an_upstream_whose_querier_is_too_old_to_be_heard(queriers, is_told):
    """As soon as a group is held: nobody waits for minutes.  Where somebody is heard, it may have been a neighbour's report."""
    row = dataclasses.replace(WAN, heard_queriers=queriers, counters=(Counter(name="rejected-older-version", value=3),))
    rows = found(row, BR0, state=DeviceState(groups=(group(30),)))
    assert [(one.code, one.where) for one in rows] == ([("upstream/older-querier", "default/wan")] if is_told else [])
    assert all("minimum-version: 1 on wan" in one.fix for one in rows)
    assert codes(row, BR0) == [], "nothing is wanted of it"


@pytest.mark.parametrize(
    ("queries", "lost", "is_told"),
    [(3, 3, False), (40, 1, False), (40, 3, True)],
)
def test_how_many_queries_may_be_lost(queries, lost, is_told):
    row = dataclasses.replace(WAN, heard_queriers=(heard(queries=queries, lost=lost, shortest_gap_ms=124_000, longest_gap_ms=251_000),))
    assert codes(row, BR0) == (["queries/irregular"] if is_told else [])


@pytest.mark.parametrize(
    ("expected", "lost", "robustness", "advice"),
    [
        (1_000, 0, 2, None),
        (19, 6, 2, None),  # too few to tell
        (1_000, 30, 2, None),  # 3 %: 0.1 % of all memberships at two in a row
        (1_000, 80, 2, "robustness: 3"),
        (1_000, 80, 3, None),
        (1_000, 300, 2, "robustness: 6"),
        (1_000, 900, 2, "robustness: 7"),  # more cannot be said in a query
    ],
)
def test_the_robustness_that_makes_up_for_the_losses(expected, lost, robustness, advice):
    counters = (Counter(name="refresh-expected", value=expected), Counter(name="refresh-lost", value=lost))
    rows = found(WAN, dataclasses.replace(BR0, counters=counters, querier=dataclasses.replace(ASKING, robustness=robustness)))
    assert [(one.code, one.fix) for one in rows] == ([("robustness/lossy", advice)] if advice else [])


@pytest.mark.parametrize(("address", "severity"), [("10.2.0.9", "warning"), ("0.0.0.0", "note")])
def test_a_second_querier(address, severity):
    other = heard(address=ipaddress.ip_address(address))
    assert [(one.code, one.severity) for one in found(WAN, dataclasses.replace(BR0, heard_queriers=(other,)))] == [("querier/second", severity)]
    assert codes(WAN, dataclasses.replace(BR0, heard_queriers=(dataclasses.replace(other, last_s=400),))) == []  # it gave way


@pytest.mark.parametrize("reason", ["source-limit", "router-alert", "newer-version", "older-version", "ssm"])
def test_reports_that_are_refused(reason):
    (one,) = found(WAN, dataclasses.replace(BR0, counters=(Counter(name=f"rejected-{reason}", value=3),)))
    assert one.code in {"report/source-limit", "report/router-alert", "report/newer-version", "report/older-version", "report/ssm"}
    assert one.evidence == f"rejected-{reason} of ipv4 is 3"


def test_an_instance_that_does_not_run_for_no_reason_that_is_seen():
    assert [one.code for one in found(BR0, diagnosis=Diagnosis(window_ms=0, tables=(dataclasses.replace(TABLE, in_force=False),)))] == ["instance/not-in-force"]


def test_a_kernel_without_ipv6_multicast_routing():
    table = TableFact(instance="default", family="ipv6", in_force=False)
    option = KernelOption(name="CONFIG_IPV6_MROUTE", present=False, needed_for="family ipv6 of instance default")
    (one,) = found(diagnosis=Diagnosis(window_ms=0, tables=(TABLE, table), options=(option,)))
    assert (one.code, one.severity) == ("device/kernel-option", "error")


def test_a_bridge_without_snooping_in_the_kernel_is_only_a_warning():
    option = KernelOption(name="CONFIG_BRIDGE_IGMP_SNOOPING", present=False, needed_for="bridge br0")
    assert [one.severity for one in found(diagnosis=dataclasses.replace(LOOKED, options=(option,)))] == ["warning"]


def test_a_missing_vlan_is_told_once():
    deviation = DeviceState(deviations=(DeviationRow(kind="vlan", name="iptv", expected="VLAN 100 of wan"),))
    assert codes(state=deviation) == ["deviation/vlan"]
    option = KernelOption(name="CONFIG_VLAN_8021Q", present=False, needed_for="VLAN iptv")
    assert codes(state=deviation, diagnosis=dataclasses.replace(LOOKED, options=(option,))) == ["device/kernel-option"]


def bridge(**facts: object) -> LinkFact:
    usual = {"interface": "br0", "kind": "bridge", "administratively_up": True, "carrier": True, "snooping": True, "membership_interval_ms": 260_000}
    return LinkFact(**usual | facts)


def test_a_snooping_bridge_that_knows_another_querier():
    def of(address: str) -> list[str]:
        return codes(diagnosis=dataclasses.replace(LOOKED, links=(bridge(querier=ipaddress.ip_address(address)),)))

    assert of("10.2.0.1") == []
    assert of("10.2.0.200") == ["snooping/other-querier"]
    assert of("0.0.0.0") == []


def test_a_symptom_leaves_out_what_cannot_be_its_cause():
    rows = (dataclasses.replace(WAN, up=False), dataclasses.replace(BR0, counters=(Counter(name="rejected-sender", value=1),)))
    by_symptom = {symptom: codes(*rows, symptom=symptom) for symptom in SYMPTOMS}
    assert by_symptom == {"no-stream": ["upstream/not-up", "report/sender"], "not-tracked": ["report/sender"], "stops": [], "unwanted": []}


def test_a_finding_as_json():
    (one,) = found(dataclasses.replace(WAN, up=False), BR0, diagnosis=None)
    assert list(plain(one)) == ["severity", "code", "where", "seen", "cause", "evidence", "fix", "symptoms"]
    assert plain(one)["symptoms"] == list(CODES["upstream/not-up"][0])


def many_groups(number: int) -> DeviceState:
    wanted = [ipaddress.ip_address(f"239.1.2.{last}") for last in range(1, number + 1)]
    return DeviceState(
        groups=tuple(dataclasses.replace(group(60), group=one) for one in wanted),
        upstream=tuple(UpstreamRow(instance="default", interface="wan", group=one, mode="exclude") for one in wanted),
        mfc=tuple(
            MfcRow(
                instance="default",
                family="ipv4",
                source="*",
                group=one,
                upstream="wan",
                downstreams=("br0",),
                packets=9_999,
                kind="learned",
                state="forwarding",
            )
            for one in wanted
        ),
    )


def test_many_alike_are_told_by_the_first_few():
    rows = found(state=many_groups(20))
    assert [one.code for one in rows] == ["stream/stopped"] * 5
    assert rows[-1].evidence.endswith("; and 15 more like it")
    assert len(found(state=many_groups(5))) == 5
    assert "more like it" not in found(state=many_groups(5))[-1].evidence


def test_a_stream_that_was_left_out_of_the_answer_is_not_taken_for_stopped():
    assert codes(state=many_groups(1)) == ["stream/stopped"]
    assert codes(state=many_groups(1), diagnosis=dataclasses.replace(LOOKED, streams_left_out=True)) == []
    assert codes(state=many_groups(1), diagnosis=dataclasses.replace(LOOKED, window_ms=0)) == []
