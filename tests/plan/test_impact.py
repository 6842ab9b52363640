from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import path_text
from igmpconf.model.state import DeviceState, GroupRow, InterfaceRow, MfcRow, QuerierState, SourceTimer
from igmpconf.plan.diff import diff
from igmpconf.plan.impact import judged, worst

G1, G2, G3 = "239.1.1.1", "239.1.1.2", "239.9.9.9"
BASE = {
    "interfaces": [{"interface": "wan", "upstream": True}, {"interface": "lan0"}, {"interface": "lan1"}, {"interface": "ppp*"}, {"interface": "spare"}],
    "mfc": [{"source": "192.0.2.5", "group": G3, "downstream-interface": ["lan0", "lan1"]}],
}


def row(interface: str, group: str, reporter: str = "10.0.0.9", mode: str = "exclude", **more) -> GroupRow:
    return GroupRow(instance="default", interface=interface, group=ip_address(group), mode=mode, last_reporter=ip_address(reporter), **more)


def interface(name: str, role: str, address: str, *, is_querier: bool = True) -> InterfaceRow:
    querier = QuerierState(address=ip_address("10.0.0.1"), self_=is_querier)
    return InterfaceRow(instance="default", interface=name, family="ipv4", role=role, enabled=True, up=True, addresses=(address,), querier=querier)


STATE = DeviceState(
    interfaces=(
        interface("lan0", "downstream", "10.0.0.1/24"),
        interface("lan1", "downstream", "10.1.0.1/24", is_querier=False),
        interface("wan", "upstream", "192.0.2.2/24"),
    ),
    groups=(row("lan0", G1), row("lan0", G2, "172.16.0.7"), row("lan1", G1, "10.1.0.9"), row("ppp0", G2, version=2)),
    mfc=(
        MfcRow(
            family="ipv4",
            instance="default",
            source=ip_address("192.0.2.7"),
            group=ip_address(G1),
            upstream="wan",
            downstreams=("lan0", "lan1"),
            kind="learned",
            state="forwarding",
        ),
        MfcRow(
            family="ipv4",
            instance="default",
            source=ip_address("192.0.2.5"),
            group=ip_address(G3),
            upstream="wan",
            downstreams=("lan0", "lan1"),
            kind="static",
            state="forwarding",
        ),
    ),
)
ALL = {f"{G1} lan0", f"{G2} lan0", f"{G1} lan1", f"{G2} ppp0", f"{G3} lan0", f"{G3} lan1"}


def edited(**changes) -> dict:
    """The base with interfaces and leaves replaced; `lan0={...}` merges into that interface, None removes it."""
    plain = {**BASE, "interfaces": [dict(entry) for entry in BASE["interfaces"]]}
    for name, value in changes.items():
        entry = next((e for e in plain["interfaces"] if e["interface"] == name.replace("_", "*")), None)
        if entry is not None and value is None:
            plain["interfaces"].remove(entry)
        elif entry is not None:
            entry.update(value)
        elif isinstance(value, dict) and "interface" in value:
            plain["interfaces"].append(value)
        else:
            plain[name.replace("_", "-")] = value
    return plain


def impact_of(before: dict, after: dict, *, state: DeviceState = STATE, **device):
    a = from_plain(DeviceConfig, {"igmp-proxy": [before]})
    b = from_plain(DeviceConfig, {"igmp-proxy": [after], **device} if after is not None else device)
    changes = judged(diff(a, b), a, b, state)
    assert changes
    return worst(change.impact for change in changes)


@pytest.mark.parametrize(
    ("what", "after", "level", "groups"),
    [
        ("timers", edited(query_interval="60s", lan0={"query-interval": "31.25s", "robustness": 3, "quick-leave": "on"}), "none", set()),
        ("a new downstream", edited(new={"interface": "lan7"}), "none", set()),
        ("a downstream without groups goes", edited(spare=None), "none", set()),
        ("a downstream goes", edited(lan0=None, mfc=[]), "interrupts", {f"{G1} lan0", f"{G2} lan0", f"{G3} lan0", f"{G3} lan1"}),
        ("a downstream is switched off", edited(lan1={"enabled": False}), "interrupts", {f"{G1} lan1"}),
        ("a pattern goes", edited(ppp_=None), "interrupts", {f"{G2} ppp0"}),
        ("a pattern is replaced by the name", edited(ppp_=None, new={"interface": "ppp0"}), "none", set()),
        ("another upstream", edited(wan=None, new={"interface": "wan2", "upstream": True}), "rejoin", ALL),
        ("the upstream is switched off", edited(wan={"enabled": False}), "interrupts", ALL),
        ("a downstream becomes the upstream", edited(wan={"upstream": False}, lan0={"upstream": True}), "interrupts", {f"{G1} lan0", f"{G2} lan0"}),
        ("the instance is switched off", edited(enabled=False), "interrupts", ALL),
        ("the family goes", edited(family=["ipv6"]), "interrupts", ALL - {f"{G3} lan0", f"{G3} lan1"}),
        ("the family comes", edited(family=["ipv4", "ipv6"]), "none", set()),
        ("groups are denied", edited(groups=[{"action": "deny", "group": "239.1.1.2/32"}]), "interrupts", {f"{G2} lan0", f"{G2} ppp0"}),
        (
            "groups are denied on one interface",
            edited(lan0={"groups": [{"action": "deny", "group": "239.1.0.0/16"}]}),
            "interrupts",
            {f"{G1} lan0", f"{G2} lan0"},
        ),
        ("groups are allowed before they are denied", edited(groups=[{"action": "allow", "group": "239.0.0.0/8"}, {"action": "deny"}]), "none", set()),
        ("groups become local", edited(local_groups=["239.1.1.1/32"]), "interrupts", {f"{G1} lan0", f"{G1} lan1"}),
        ("a higher threshold", edited(lan0={"threshold": 16}), "interrupts", {f"{G1} lan0", f"{G2} lan0"}),
        ("an older version", edited(lan1={"version": 2}), "rejoin", {f"{G1} lan1"}),
        ("older hosts are not heard", edited(ppp_={"minimum-version": 3}), "interrupts", {f"{G2} ppp0"}),
        (
            "versions are not heard that nobody speaks",
            edited(lan0={"minimum-version": 3}, ppp_={"minimum-version": 2, "minimum-mld-version": 2}),
            "none",
            set(),
        ),
        ("older queriers are not heard, and none is", edited(wan={"minimum-version": 3, "minimum-mld-version": 2}), "none", set()),
        ("the permanent entry goes", edited(mfc=[]), "interrupts", {f"{G3} lan0", f"{G3} lan1"}),
        ("the permanent entry leaves by less", edited(mfc=[{**BASE["mfc"][0], "downstream-interface": "lan0"}]), "interrupts", {f"{G3} lan1"}),
        ("the permanent entry comes from elsewhere", edited(mfc=[{**BASE["mfc"][0], "upstream-interface": "spare"}]), "rejoin", {f"{G3} lan0", f"{G3} lan1"}),
        (
            "a permanent entry in place of a learned one",
            edited(mfc=[*BASE["mfc"], {"source": "192.0.2.7", "group": G1, "downstream-interface": "lan0"}]),
            "interrupts",
            {f"{G1} lan1"},
        ),
        ("foreign sources only from a list", edited(wan={"alternative-subnets": ["198.51.100.0/24"]}), "interrupts", {f"{G1} lan0", f"{G1} lan1"}),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) and " " in value else "",
)
def test_what_a_change_does_to_live_groups(what, after, level, groups):
    found = impact_of(BASE, after)
    assert found.level == level, what
    assert {f"{g.group} {g.interface}" for g in found.groups} == groups, what
    assert bool(found.reason) == (level != "none")


def test_an_upstream_that_fell_back_speaks_its_own_version_again_when_older_queriers_are_not_heard():
    wan = dataclasses.replace(STATE.interfaces[2], version=2)
    state = dataclasses.replace(STATE, interfaces=(*STATE.interfaces[:2], wan))
    found = impact_of(BASE, edited(wan={"minimum-version": 3}), state=state)
    assert (found.level, {f"{g.group} {g.interface}" for g in found.groups}) == ("rejoin", ALL)
    assert impact_of(BASE, edited(wan={"minimum-version": 2}), state=state).level == "none"
    assert impact_of(BASE, edited(wan={"minimum-mld-version": 2}), state=state).level == "none"


def test_hosts_behind_a_subnet_that_is_no_longer_accepted_are_named():
    before = edited(lan0={"alternative-subnets": ["172.16.0.0/12"]})
    found = impact_of(before, BASE)
    assert (found.level, [g.group for g in found.groups]) == ("interrupts", [G2])
    assert impact_of(BASE, before).level == "none"


def test_only_where_another_router_is_querier_does_the_switch_matter():
    found = impact_of(edited(forward_when_non_querier=True), BASE)
    assert [(g.group, g.interface) for g in found.groups] == [(G1, "lan1")]


def test_on_a_bridge_the_switch_does_not_matter_and_groups_of_the_link_are_no_streams():
    bridged = BASE | {"mode": "bridged", "bridge": "br0"}
    assert impact_of(bridged | {"forward-when-non-querier": True}, bridged).level == "none"
    neighbour = row("lan1", "ff02::1:ff00:2", "fe80::2")
    state = dataclasses.replace(STATE, groups=(*STATE.groups, neighbour))
    found = impact_of(bridged, BASE, state=state)
    assert found.level == "interrupts"
    assert "ff02::1:ff00:2" not in {g.group for g in found.groups}


def test_a_static_membership_that_ends_is_named():
    found = impact_of(edited(lan0={"static-groups": [G1, "239.7.7.7"]}), edited(lan0={"static-groups": ["239.7.7.7"]}))
    assert [(g.group, g.interface) for g in found.groups] == [(G1, "lan0")]


def test_a_removed_instance_interrupts_everything_in_it():
    assert impact_of(BASE, None, vlans=[{"name": "v1", "interface": "wan", "vlan-id": 1}]).level == "interrupts"


def test_a_vlan_that_goes_or_changes_takes_its_groups():
    vlan = {"name": "lan0", "interface": "eth0", "vlan-id": 7}
    a = from_plain(DeviceConfig, {"igmp-proxy": [BASE], "vlans": [vlan]})
    for b in ({"igmp-proxy": [BASE]}, {"igmp-proxy": [BASE], "vlans": [{**vlan, "vlan-id": 8}]}):
        wanted = from_plain(DeviceConfig, b)
        (change,) = judged(diff(a, wanted), a, wanted, STATE)
        assert {g.group for g in change.impact.groups} == {G1, G2}
        assert path_text(change.path).startswith("vlans[lan0]")


def test_groups_that_nobody_receives_are_not_live():
    state = DeviceState(groups=(row("lan0", G1, mode="include"),))
    a, b = (from_plain(DeviceConfig, {"igmp-proxy": [plain]}) for plain in (BASE, edited(enabled=False)))
    assert judged(diff(a, b), a, b, state)[0].impact.level == "none"
    state = DeviceState(groups=(row("lan0", G1, mode="include", sources=(SourceTimer(address=ip_address("192.0.2.7")),)),))
    assert judged(diff(a, b), a, b, state)[0].impact.level == "interrupts"


def overlapping(**of_pattern) -> tuple[dict, DeviceState]:
    """`ppp*` takes ppp0 and ppp2; ppp1 has an entry of its own, with a host of a foreign subnet on each."""
    entries = [{"interface": "wan", "upstream": True}, {"interface": "ppp*", **of_pattern}, {"interface": "ppp1", "alternative-subnets": ["172.16.0.0/12"]}]
    live = DeviceState(
        interfaces=(interface("ppp0", "downstream", "10.0.0.1/24"), interface("ppp1", "downstream", "172.16.0.1/24")),
        groups=(row("ppp0", G1, "172.16.0.7"), row("ppp1", G2, "172.16.0.8")),
    )
    return {"interfaces": entries}, live


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, None, [(G1, "ppp0")]),
        ({}, {"enabled": False}, [(G1, "ppp0")]),
        ({}, {"groups": [{"action": "deny"}]}, [(G1, "ppp0")]),
        # ppp1's own address is in the subnet; it must not keep hosts of ppp0 accepted
        ({"alternative-subnets": ["172.16.0.0/12"]}, {}, [(G1, "ppp0")]),
    ],
)
def test_a_pattern_names_no_group_of_a_neighbour_with_an_entry_of_its_own(before, after, named):
    old, live = overlapping(**before)
    new, _ = overlapping(**(after or {}))
    if after is None:
        new["interfaces"] = [entry for entry in new["interfaces"] if entry["interface"] != "ppp*"]
    a, b = (from_plain(DeviceConfig, {"igmp-proxy": [plain]}) for plain in (old, new))
    (change,) = judged(diff(a, b), a, b, live)
    assert [(g.group, g.interface) for g in change.impact.groups] == named


def test_a_permanent_entry_takes_its_source_from_those_who_learned_the_group_for_any():
    any_source = dataclasses.replace(STATE.mfc[0], source="*")
    state = dataclasses.replace(STATE, mfc=(any_source,))
    static = {"source": "192.0.2.99", "group": G1, "downstream-interface": "lan0"}
    a, b = (from_plain(DeviceConfig, {"igmp-proxy": [edited(mfc=mfc)]}) for mfc in ([], [static]))
    (change,) = judged(diff(a, b), a, b, state)
    assert (change.impact.level, [group.interface for group in change.impact.groups]) == ("interrupts", ["lan1"])
