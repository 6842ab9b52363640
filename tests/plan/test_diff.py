from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import parse_path, path_text
from igmpconf.plan.diff import Change, diff, node_at, patched
from tests.kit.desired import configs

LAWS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def config(plain) -> DeviceConfig:
    return from_plain(DeviceConfig, plain)


def proxy(*interfaces, **leaves) -> DeviceConfig:
    return config({"igmp-proxy": [{"name": "default", "interfaces": list(interfaces), **leaves}]})


def said(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(change.action, path_text(change.path)) for change in changes]


@LAWS
@given(configs(), configs())
def test_patching_with_the_difference_gives_the_other(a, b):
    assert patched(a, diff(a, b)) == b


@LAWS
@given(configs())
def test_nothing_differs_from_itself(a):
    assert diff(a, a) == ()


@LAWS
@given(configs(), configs())
def test_a_difference_read_backwards_is_the_difference_the_other_way(a, b):
    def core(changes, *, backwards=False):
        flip = {"+": "-", "-": "+", "~": "~"}
        return {(flip[c.action], path_text(c.path), c.after, c.before) if backwards else (c.action, path_text(c.path), c.before, c.after) for c in changes}

    assert core(diff(a, b)) == core(diff(b, a), backwards=True)


@LAWS
@given(configs(), configs())
def test_every_path_leads_to_a_node(a, b):
    for change in diff(a, b):
        assert node_at(change.path).name == change.path[-1].name


def test_a_leaf_that_changes_is_one_change_at_its_keyed_path():
    changes = diff(proxy({"interface": "lan0", "threshold": 1}), proxy({"interface": "lan0", "threshold": 5}))
    assert said(changes) == [("~", "igmp-proxy[default]/interfaces[lan0]/threshold")]
    assert (changes[0].before, changes[0].after) == (1, 5)


def test_an_entry_that_comes_or_goes_is_one_change_with_all_that_is_in_it():
    changes = diff(proxy({"interface": "lan0", "threshold": 2, "robustness": 3}), proxy({"interface": "lan1"}))
    assert said(changes) == [("-", "igmp-proxy[default]/interfaces[lan0]"), ("+", "igmp-proxy[default]/interfaces[lan1]")]
    assert changes[0].before.threshold == 2


def test_a_leaf_list_is_compared_as_a_whole():
    a = proxy({"interface": "lan0", "alternative-subnets": ["10.0.0.0/8"]})
    b = proxy({"interface": "lan0", "alternative-subnets": ["10.0.0.0/8", "192.0.2.0/24"]})
    assert said(diff(a, b)) == [("~", "igmp-proxy[default]/interfaces[lan0]/alternative-subnets")]
    assert said(diff(proxy({"interface": "lan0"}), a)) == [("+", "igmp-proxy[default]/interfaces[lan0]/alternative-subnets")]


def test_a_container_has_no_life_of_its_own():
    changes = diff(config({}), config({"firewall": {"manage": True}, "logging": {"size": 50}}))
    assert said(changes) == [("+", "firewall/manage"), ("+", "logging/size")]


def test_an_entry_written_in_another_order_is_no_change():
    assert diff(proxy("lan0", "lan1"), proxy("lan1", "lan0")) == ()


def test_a_change_that_speaks_of_a_missing_place_is_refused():
    (change,) = diff(proxy({"interface": "lan0", "threshold": 1}), proxy({"interface": "lan0", "threshold": 2}))
    with pytest.raises(KeyError, match="lan0"):
        patched(proxy("lan1"), [change])
    with pytest.raises(KeyError, match="nowhere"):
        patched(proxy("lan1"), [Change(action="+", path=parse_path("nowhere"), after=1)])
