"""Plain data and models are the same thing twice; order is not the writer's business; digests are stable."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.model.canon import PlainError, canonical, digest, from_plain, to_plain
from igmpconf.model.config import DeviceConfig, ProxyConfig
from tests.kit.desired import configs


@given(configs())
def test_plain_data_gives_the_model_back(config):
    plain = to_plain(config)
    assert from_plain(DeviceConfig, plain) == config
    assert from_plain(DeviceConfig, json.loads(json.dumps(plain))) == config


@given(configs(), st.randoms(use_true_random=False))
def test_the_order_of_entries_changes_neither_the_model_nor_its_digest(config, random):
    shuffled = dataclasses.replace(
        config,
        proxies=tuple(
            dataclasses.replace(
                proxy,
                interfaces=tuple(random.sample(proxy.interfaces, len(proxy.interfaces))),
                mfc=tuple(random.sample(proxy.mfc, len(proxy.mfc))),
                groups=tuple(random.sample(proxy.groups, len(proxy.groups))),
                family=tuple(random.sample(proxy.family, len(proxy.family))),
            )
            for proxy in random.sample(config.proxies, len(config.proxies))
        ),
    )
    assert canonical(shuffled) == config
    assert digest(shuffled) == digest(config)


@given(configs(), configs())
@settings(max_examples=40)
def test_different_models_have_different_digests(a, b):
    assert (digest(a) == digest(b)) == (a == b)


def test_the_digest_of_nothing_is_known():
    """A change here makes every saved plan stale."""
    assert digest(DeviceConfig()) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest(from_plain(DeviceConfig, {"logging": {}})) == digest(DeviceConfig())


def test_a_list_may_be_its_single_element_and_an_entry_its_shorthand():
    short = from_plain(ProxyConfig, {"interfaces": "lan0", "family": "ipv6", "groups": {"action": "deny"}})
    long = from_plain(ProxyConfig, {"interfaces": [{"interface": "lan0"}], "family": ["ipv6"], "groups": [{"sequence": 1, "action": "deny"}]})
    assert short == long


@pytest.mark.parametrize(
    ("plain", "place", "code"),
    [
        ([], (), "type/mapping"),
        ({"igmp-prox": []}, ("igmp-prox",), "key/unknown"),
        ({"igmp-proxy": {"robustness": 0}}, ("igmp-proxy", "robustness"), "value/invalid"),
        ({"igmp-proxy": [{"robustness": None}]}, ("igmp-proxy", 0, "robustness"), "type/empty"),
        ({"igmp-proxy": [{"robustness": [1]}]}, ("igmp-proxy", 0, "robustness"), "type/scalar"),
        ({"igmp-proxy": [{"family": ["ipv4", "ipx"]}]}, ("igmp-proxy", 0, "family", 1), "value/invalid"),
        ({"vlans": [{"name": "a", "interface": "b"}]}, ("vlans", 0), "key/missing"),
        ({"igmp-proxy": [{}, {}]}, ("igmp-proxy", 1), "key/repeated"),
        ({"igmp-proxy": {"interfaces": [f"i{i}" for i in range(33)]}}, ("igmp-proxy", "interfaces", 32), "limit/too-many"),
    ],
)
def test_each_problem_is_told_once_at_its_place(plain, place, code):
    with pytest.raises(PlainError) as caught:
        from_plain(DeviceConfig, plain)
    assert [(problem[0], problem[1]) for problem in caught.value.problems] == [(place, code)]


def test_every_problem_is_told_not_only_the_first():
    with pytest.raises(PlainError) as caught:
        from_plain(DeviceConfig, {"igmp-proxy": [{"robustness": 0, "query-intervall": 5, "interfaces": [{"threshold": 256}]}], "vlan": 1})
    codes = sorted(problem[1] for problem in caught.value.problems)
    assert codes == ["key/missing", "key/unknown", "key/unknown", "value/invalid", "value/invalid"]


@pytest.mark.parametrize(
    ("written", "meant"), [("qick-leave", "quick-leave"), ("query_interval", "query-interval"), ("Interfaces", "interfaces"), ("interface", "interfaces")]
)
def test_the_nearest_key_is_named(written, meant):
    with pytest.raises(PlainError) as caught:
        from_plain(ProxyConfig, {written: 1})
    assert caught.value.problems[0][3] == f"did you mean {meant!r}?"


def test_a_key_that_stands_one_level_too_high_is_sent_down():
    with pytest.raises(PlainError) as caught:
        from_plain(ProxyConfig, {"threshold": 1})
    assert caught.value.problems[0][3] == "threshold belongs below interfaces"
