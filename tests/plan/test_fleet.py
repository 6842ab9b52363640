"""What no single device can see, from desired states and addresses."""

from __future__ import annotations

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import path_text
from igmpconf.model.state import AgentState, DeviceState
from igmpconf.plan.fleet import Member, check_fleet
from igmpconf.schema.explain import CODES


def device(
    name: str, up: str, *down: str, site: str = "", proxy: dict | None = None, wan: dict | None = None, mfc: tuple = (), lan: dict | None = None
) -> Member:
    """A proxy whose upstream `wan` has address `up`, and downstreams lan0, lan1 ... those of `down`."""
    entries = [{"interface": "wan", "upstream": True, **(wan or {})}, *({"interface": f"lan{i}", **(lan or {})} for i in range(len(down)))]
    config = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": entries, "mfc": list(mfc), **(proxy or {})}]})
    addresses = tuple(f"{name} {address}" for name, address in zip(("wan", *(f"lan{i}" for i in range(len(down)))), (up, *down), strict=True) if address)
    return Member(device=name, config=config, site=site, state=DeviceState(agent=AgentState(addresses=("lo 127.0.0.1/8", "eth9 10.1.0.1/24", *addresses))))


def found(*members: Member) -> list[str]:
    findings = check_fleet(members)
    for finding in findings:
        assert finding.code in CODES
        assert finding.hint
        assert finding.related or finding.code == "fleet/loop"
    return [f"{f.severity} {f.code} {f.at[0]} {path_text(f.at[1])}" for f in findings]


def messages(*members: Member) -> str:
    return "\n".join(finding.message for finding in check_fleet(members))


CHAIN = (device("a", "10.0.0.2/24", "10.1.0.1/24"), device("b", "10.1.0.2/24", "10.2.0.1/24"), device("c", "10.2.0.2/24", "10.3.0.1/24"))
P = "igmp-proxy[default]"


def test_a_chain_of_proxies_is_well():
    assert found(*CHAIN) == []
    assert found(*reversed(CHAIN)) == []


def test_proxies_in_a_circle_are_an_error_that_names_the_way():
    ring = (device("a", "10.3.0.2/24", "10.1.0.1/24"), *CHAIN[1:])
    assert found(*ring) == [f"error fleet/loop a {P}/interfaces[wan]"]
    assert messages(*ring) == "proxies feed each other in a circle: a > b > c > a, over 10.1.0.0/24, 10.2.0.0/24, 10.3.0.0/24"
    assert found(device("a", "10.1.0.1/24", "10.1.0.2/24")) == [f"error fleet/loop a {P}/interfaces[wan]"]  # both ends on one LAN


def test_a_circle_beside_a_chain_and_two_circles_are_all_found():
    ring = (device("x", "10.9.0.2/24", "10.8.0.1/24", "10.0.0.9/24"), device("y", "10.8.0.2/24", "10.9.0.1/24"))
    assert [line for line in found(*CHAIN, *ring) if "loop" in line] == [f"error fleet/loop x {P}/interfaces[wan]"]
    other = (device("z", "10.6.0.2/24", "10.7.0.1/24"), device("w", "10.7.0.2/24", "10.6.0.1/24"))
    assert sum("loop" in line for line in found(*ring, *other)) == 2


def test_many_devices_are_judged_without_recursion():
    assert found(*(device(f"r{i}", f"10.{i // 250}.{i % 250}.2/24", f"10.{(i + 1) // 250}.{(i + 1) % 250}.1/24") for i in range(2_000))) == []


@pytest.mark.parametrize(
    "more",
    [
        {"wan": {"alternative-subnets": ["10.9.0.0/25"]}},
        {"mfc": ({"source": "10.9.0.7", "group": "239.1.1.1", "downstream-interface": "lan0"},)},
    ],
)
def test_a_chain_from_the_viewers_to_the_sources_is_the_wrong_way_round(more):
    """The sources are on 10.9.0.0/24, behind c; a says that it gets them from above, and feeds b, which feeds c."""
    chain = (device("a", "10.0.0.2/24", "10.1.0.1/24", **more), CHAIN[1], device("c", "10.2.0.2/24", "10.9.0.1/24"))
    (line,) = found(*chain)
    assert line.startswith(f"warning fleet/wrong-way a {P}/")
    assert "which is behind c, and c takes its streams from a" in messages(*chain)
    everything = device("a", "10.0.0.2/24", "10.1.0.1/24", wan={"alternative-subnets": ["10.0.0.0/8", "0.0.0.0/0"]})
    assert found(everything, *chain[1:]) == []  # says nothing about where sources are


def test_two_queriers_on_one_lan_are_told_with_who_wins():
    pair = (device("b", "10.0.0.3/24", "10.1.0.9/24"), device("a", "10.0.0.2/24", "10.1.0.10/24"))
    assert found(*pair) == [f"warning fleet/two-queriers a {P}/interfaces[lan0]"]
    assert messages(*pair) == "2 devices serve 10.1.0.0/24: lan0 of b (10.1.0.9), lan0 of a (10.1.0.10); b stays querier and forwards there, the others wait"
    both = (pair[0], device("a", "10.0.0.2/24", "10.1.0.10/24", proxy={"forward-when-non-querier": True}))
    assert found(*both) == [f"error fleet/forwarded-twice a {P}/forward-when-non-querier"]
    winner = (device("b", "10.0.0.3/24", "10.1.0.9/24", proxy={"forward-when-non-querier": True}), pair[1])
    assert found(*winner) == [f"warning fleet/two-queriers a {P}/interfaces[lan0]"]  # it is the querier


def test_of_ipv6_too_by_its_global_addresses():
    pair = [device(n, f"2001:db8::{n}/64", f"2001:db8:1::{n}/64", proxy={"family": ["ipv6"]}) for n in "ab"]
    assert found(*pair) == [f"warning fleet/two-queriers b {P}/interfaces[lan0]"]
    assert "one of them stays querier" in messages(*pair)
    assert found(*(device(n, f"2001:db8::{n}/64", "fe80::1/64", proxy={"family": ["ipv6"]}) for n in "ab")) == []


def test_one_address_on_two_devices():
    pair = (device("a", "10.0.0.2/24", "10.1.0.1/24"), device("b", "10.0.0.2/24", "10.2.0.1/24"))
    assert found(*pair) == [f"warning fleet/duplicate-address b {P}/interfaces[wan]"]
    assert messages(*pair) == "10.0.0.2 is an address of wan of a and of wan of b"
    claimed = device("b", "10.0.0.3/24", "10.2.0.1/24", lan={"source-address": "10.1.0.1"})
    assert found(CHAIN[0], claimed) == [f"warning fleet/duplicate-address b {P}/interfaces[lan0]/source-address"]


def static(name: str, source: str, group: str = "239.1.1.1", **more) -> Member:
    return device(name, "", "", mfc=({"source": source, "group": group, "downstream-interface": "lan0"},), **more)


def test_one_group_from_two_sources():
    assert found(static("a", "192.0.2.1"), static("b", "192.0.2.9")) == [f"warning fleet/group-sourced-twice b {P}/mfc[192.0.2.9,239.1.1.1]"]
    assert found(static("a", "192.0.2.1"), static("b", "192.0.2.1")) == []
    assert found(static("a", "192.0.2.1"), static("b", "*")) == []
    assert found(static("a", "192.0.2.1", "232.1.1.1"), static("b", "192.0.2.9", "232.1.1.1")) == []  # source-specific: that is the point
    held = device("b", "", "", lan={"static-groups": [{"group": "239.1.1.1", "source": "192.0.2.9"}]})
    assert found(static("a", "192.0.2.1"), held) == [f"warning fleet/group-sourced-twice b {P}/interfaces[lan0]/static-groups[239.1.1.1,192.0.2.9]"]


def test_different_sites_may_have_the_same_networks():
    twins = [device(n, "10.0.0.2/24", "192.168.1.1/24", site=n) for n in "ab"]
    assert found(*twins) == []
    assert len(found(*(device(n, "10.0.0.2/24", "192.168.1.1/24") for n in "ab"))) == 3
    assert found(static("a", "192.0.2.1", site="x"), static("b", "192.0.2.9", site="y")) == []


def test_what_is_off_or_has_no_address_is_no_neighbour():
    assert found(CHAIN[0], device("b", "10.0.0.3/24", "10.1.0.9/24", lan={"enabled": False})) == []
    assert found(CHAIN[0], device("b", "10.0.0.3/24", "10.1.0.9/24", proxy={"enabled": False})) == []
    assert found(CHAIN[0], device("b", "10.0.0.3/24", "")) == []
    assert found(device("a", "10.0.0.2/24", "10.1.0.1/32"), device("b", "10.0.0.3/24", "10.1.0.9/32")) == []


def test_a_pattern_takes_its_interfaces_and_not_its_neighbours():
    entries = [{"interface": "wan", "upstream": True}, "lan*", {"interface": "lan1", "enabled": False}]
    config = from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": entries}]})
    state = DeviceState(agent=AgentState(addresses=("lan0 10.1.0.9/24", "lan1 10.2.0.9/24")))
    others = (device("a", "10.0.0.2/24", "10.1.0.1/24"), device("b", "10.0.0.3/24", "10.2.0.1/24"))
    assert found(*others, Member(device="c", config=config, state=state)) == [f"warning fleet/two-queriers c {P}/interfaces[lan*]"]


# Devices that nobody asked -----------------------------------------------------------------------------------------------


def unasked(name: str, up: str | None, *down: str | None, site: str = "", proxy: dict | None = None) -> Member:
    """A proxy of which only the desired state is known, with these source-addresses."""
    entries = [{"interface": f"eth{i}", "upstream": i == 0, **({"source-address": said} if said else {})} for i, said in enumerate((up, *down))]
    return Member(device=name, config=from_plain(DeviceConfig, {"igmp-proxy": [{"interfaces": entries, **(proxy or {})}]}), site=site)


def about(chosen: str, *members: Member) -> list[str]:
    return [f"{f.severity} {f.code} {f.at[0]} {path_text(f.at[1])} with {', '.join(sorted(f.devices - {chosen}))}" for f in check_fleet(members, {chosen})]


def test_a_source_address_within_a_known_lan_puts_a_device_there():
    a = device("a", "10.0.0.2/24", "10.1.0.10/24")
    assert found(a, unasked("b", None, "10.1.0.9")) == [f"warning fleet/two-queriers a {P}/interfaces[lan0]"]
    assert found(a, unasked("b", None, "10.1.0.11", proxy={"forward-when-non-querier": True})) == [
        f"error fleet/forwarded-twice b {P}/forward-when-non-querier"
    ]
    assert found(a, unasked("b", "10.1.0.9", "10.0.0.9")) == [f"error fleet/loop a {P}/interfaces[wan]"]
    assert found(a, unasked("b", "10.1.0.9")) == []  # it is fed by a
    assert found(a, unasked("b", None, "10.7.0.9")) == []
    assert found(a, unasked("b", None, "10.1.0.9", site="elsewhere")) == []


def test_an_address_that_is_claimed_elsewhere_too():
    claimed = f"warning fleet/duplicate-address b {P}/interfaces[eth1]/source-address"
    assert found(unasked("a", None, "10.1.0.1"), unasked("b", None, "10.1.0.1")) == [claimed]
    assert claimed in found(device("a", "10.0.0.2/24", "10.1.0.1/24"), unasked("b", None, "10.1.0.1"))
    links = [unasked(name, "fe80::1", "fe80::2", proxy={"family": ["ipv6"]}) for name in "ab"]
    assert found(*links) == []  # every link has these


def test_only_what_a_chosen_device_takes_part_in_is_told_and_at_the_chosen_one():
    pair = (static("x", "192.0.2.1"), static("y", "192.0.2.9"))
    assert about("a", static("a", "192.0.2.5", "239.9.9.9"), *pair) == []
    assert about("y", *pair) == [f"warning fleet/group-sourced-twice y {P}/mfc[192.0.2.9,239.1.1.1] with x"]
    assert about("z", *pair, static("z", "192.0.2.7")) == [f"warning fleet/group-sourced-twice z {P}/mfc[192.0.2.7,239.1.1.1] with x"]
    assert about("z", *pair, static("z", "192.0.2.1")) == [f"warning fleet/group-sourced-twice z {P}/mfc[192.0.2.1,239.1.1.1] with y"]
    third = [device(name, f"10.{n}.0.2/24", f"10.9.0.{n}/24") for n, name in enumerate("abc", 1)]
    assert about("c", *third) == [f"warning fleet/two-queriers c {P}/interfaces[lan0] with a, b"]
    twice = device("b", "10.2.0.2/24", "10.9.0.2/24", proxy={"forward-when-non-querier": True})
    assert about("c", third[0], twice, third[2]) == [f"error fleet/forwarded-twice b {P}/forward-when-non-querier with a, b"]
