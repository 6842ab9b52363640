"""Which rules are wanted, what in a listing may drop, and the least that leads from one to the other."""

from __future__ import annotations

import errno
import json

import pytest

from igmpconf.errors import KernelError
from igmpconf.linux.nft import Nftables, changes, drops, first_drop, parsed, wanted_rules
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig

PROXY = {"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, {"interface": "ppp*"}, {"interface": "off", "enabled": False}]}


def wanted(*, rules=(), manage=False, names=(), **proxy):
    rules = [{"sequence": number} | rule for number, rule in enumerate(rules, 1)]
    return wanted_rules(from_plain(DeviceConfig, {"igmp-proxy": [PROXY | proxy], "firewall": {"manage": manage, "rules": rules}}), names)


def listing(*rules, policy="accept", hook="forward", family="inet", more=()) -> str:
    chain = {"family": family, "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": hook, "prio": 0, "policy": policy}
    items = [{"chain": chain}, *more]
    items += [{"rule": {"family": family, "table": "t", "chain": "c", "handle": number, "expr": list(rule)}} for number, rule in enumerate(rules, 10)]
    return json.dumps({"nftables": [{"metainfo": {}}, *items]})


def said(rule) -> str:
    return f"{rule.hook} {sorted(rule.versions)} " + " ".join(
        str(one["match"]["right"]) if "match" in one else next(iter(one)) for one in rule.expressions if "counter" not in one
    )


def test_what_an_instance_needs_on_its_own_interfaces_and_on_no_other():
    assert [said(rule) for rule in wanted(manage=True)] == [
        line
        for name in ("ppp*", "wan")
        for line in (
            f"input [4] {name} 2 accept",
            f"output [4] {name} 2 accept",
            f"forward [4] {name} {{'prefix': {{'addr': '224.0.0.0', 'len': 4}}}} 17 accept",
        )
    ]
    of_ipv6 = [said(rule) for rule in wanted(manage=True, family=["ipv6"])]
    assert "input [6] wan {'range': [130, 132]} accept" in of_ipv6
    assert "output [6] wan 143 accept" in of_ipv6
    assert not any("[4]" in line for line in of_ipv6)


def test_a_star_does_not_open_what_an_entry_of_its_own_has_switched_off():
    entries = [{"interface": "wan", "upstream": True}, {"interface": "ppp*"}, {"interface": "ppp1", "enabled": False}]
    found = {said(rule).split()[2] for rule in wanted(manage=True, interfaces=entries, names=("ppp0", "ppp1", "ppp2", "wan"))}
    assert found == {"ppp0", "ppp2", "wan"}
    assert {said(rule).split()[2] for rule in wanted(manage=True, interfaces=[*entries[:2], {"interface": "ppp1"}], names=("ppp1",))} == {"ppp*", "ppp1", "wan"}


@pytest.mark.parametrize("change", [{"manage": False}, {"manage": True, "enabled": False}])
def test_nothing_is_wanted_when_nobody_manages_or_the_instance_is_off(change):
    assert wanted(**change) == ()
    assert wanted_rules(DeviceConfig()) == ()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"chain": "input", "protocol": "igmp", "action": "accept"}, ["input [4] 2 accept"]),
        ({"chain": "input", "action": "drop"}, ["input [4, 6] drop"]),
        ({"chain": "forward", "source": "2001:db8::/32", "action": "drop"}, ["forward [6] {'prefix': {'addr': '2001:db8::', 'len': 32}} drop"]),
        ({"chain": "forward", "in-interface": "br-*", "out-interface": "*", "action": "accept"}, ["forward [4, 6] br-* accept"]),
        ({"chain": "forward", "in-interface": "lan?", "action": "accept"}, ["forward [4, 6] lan0 accept", "forward [4, 6] lan1 accept"]),
        ({"chain": "forward", "in-interface": "x?", "action": "accept"}, []),
    ],
)
def test_rules_of_the_user(rule, expected):
    assert [said(one) for one in wanted(rules=[rule], names=("lan1", "lan0", "wan", "lan10"))] == expected


def test_the_users_rules_come_before_ours():
    found = wanted(manage=True, rules=[{"chain": "forward", "action": "drop"}, {"chain": "forward", "action": "accept"}])
    assert [rule.comment.split(" ", 1)[1] for rule in found][:3] == ["rule 1", "rule 2", "manage: IGMP"]


def test_comments_fit_and_can_be_loaded_again():
    (rule,) = wanted(rules=[{"chain": "input", "action": "accept", "comment": 'a "b" \\\n' + "\u00fc" * 200}])
    assert rule.comment.split(" ", 1)[1].startswith("rule 1: a 'b' ")
    assert len(rule.comment.encode()) <= 127
    assert not set('"\\\n') & set(rule.comment)


@pytest.mark.parametrize(
    ("rule", "may"),
    [
        ([{"accept": None}], False),
        ([{"counter": None}], False),
        ([{"drop": None}], True),
        ([{"reject": {"type": "tcp reset"}}], True),
        ([{"counter": None}, {"xt": None}], True),
        ([{"xt": None}, {"accept": None}], False),
        ([{"vmap": {"key": 1, "data": {"set": [["a", {"accept": None}], ["b", {"drop": None}]]}}}], True),
        ([{"vmap": {"key": 1, "data": {"set": [["a", {"accept": None}], ["b", {"jump": {"target": "harmless"}}]]}}}], False),
        ([{"vmap": {"key": 1, "data": "@verdicts"}}], True),
        ([{"jump": {"target": "deadly"}}], True),
        ([{"goto": {"target": "deadly"}}], True),
        ([{"jump": {"target": "harmless"}}], False),
        ([{"jump": {"target": "round"}}], False),
    ],
)
def test_what_may_drop(rule, may):
    more = [{"chain": {"family": "inet", "table": "t", "name": name, "handle": 5}} for name in ("deadly", "harmless", "round")]
    for chain, body in (("deadly", [{"drop": None}]), ("harmless", [{"return": None}]), ("round", [{"jump": {"target": "round"}}])):
        more.append({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 6, "expr": body}})
    ruleset = parsed(listing([{"accept": None}], rule, more=more))
    chain = ruleset["inet", "t", "c"]
    assert first_drop(ruleset, chain) == (1 if may else None)
    assert drops(ruleset, chain) is may


@pytest.mark.parametrize("where", [{"hook": "prerouting"}, {"family": "bridge"}, {"family": "arp"}])
def test_other_hooks_and_families_are_not_looked_at(where):
    assert changes(parsed(listing([{"drop": None}], policy="drop", **where)), wanted(manage=True), {}) == []


def test_a_rule_of_one_family_does_not_go_into_a_table_of_the_other():
    (change,) = changes(parsed(listing(policy="drop", family="ip6")), wanted(manage=True, family=["ipv4", "ipv6"]), {})
    assert {tuple(rule.versions) for rule in change.absent} == {(6,)}
    assert all("add" in command for command in change.commands)  # no drop to stand before


def test_without_nft_the_error_names_the_package():
    with pytest.raises(KernelError, match="the program does-not-exist is missing") as refused:
        Nftables("does-not-exist").make(wanted(manage=True))
    assert "nftables" in refused.value.hint
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("text", "word"), [("#!/bin/sh\necho 'Error: Operation not permitted' >&2\nexit 1\n", "not permitted"), ("#!/bin/sh\nexit 3\n", "exit code 3")]
)
def test_what_nft_says_is_told(tmp_path, text, word):
    (tmp_path / "nft").write_text(text)
    (tmp_path / "nft").chmod(0o755)
    with pytest.raises(KernelError, match=word):
        Nftables(str(tmp_path / "nft")).make(wanted(manage=True))
