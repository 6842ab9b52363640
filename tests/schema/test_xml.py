"""XML of the model: written in four modes, read back, and refused in the words of NETCONF."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings

from igmpconf.model.canon import canonical, from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.path import parse_path
from igmpconf.model.state import AgentState, Counter, DeviceState, GroupRow, InterfaceRow, MfcRow, QuerierState, SourceTimer
from igmpconf.schema.errors import xpath
from igmpconf.schema.xml import DataError, config_to_xml, state_to_xml, xml_to_config, xml_to_state
from igmpconf.xmltext import parse, serialize
from tests.kit.desired import GROUPS, SOURCES, configs

NS = 'xmlns="urn:igmpconf:yang:igmpconf"'
WD = "{urn:ietf:params:xml:ns:netconf:default:1.0}default"


def through_text(elements):
    top = Element("config")
    top.extend(elements)
    return parse(serialize(top))


@given(configs())
def test_the_model_comes_back_in_every_mode_that_keeps_it(config):
    assert xml_to_config(through_text(config_to_xml(config))) == config
    assert xml_to_config(through_text(config_to_xml(config, "report-all-tagged"))) == config


@given(configs())
@settings(max_examples=50)
def test_trim_and_report_all_say_the_same_once_defaults_are_applied(config):
    trimmed = xml_to_config(through_text(config_to_xml(config, "trim")))
    full = xml_to_config(through_text(config_to_xml(config, "report-all")))
    assert xml_to_config(through_text(config_to_xml(trimmed, "report-all"))) == full
    assert xml_to_config(through_text(config_to_xml(full, "trim"))) == trimmed


def leaves(config, mode):
    return [(leaf.tag.rpartition("}")[2], leaf.text, leaf.get(WD)) for top in config_to_xml(config, mode) for leaf in top.iter() if not len(leaf)]


def test_the_four_modes_of_rfc_6243():
    config = from_plain(DeviceConfig, {"logging": {"size": 1000, "action": "journal"}})
    assert leaves(config, "explicit") == [("action", "journal", None), ("size", "1000", None)]
    assert leaves(config, "trim") == [("action", "journal", None)]
    report = [("manage", "false", "true"), ("topics", "igmp-proxy", "true"), ("action", "journal", None), ("size", "1000", None)]
    assert leaves(config, "report-all-tagged") == report
    assert leaves(config, "report-all") == [(name, text, None) for name, text, _ in report]


def test_keys_come_first():
    config = from_plain(DeviceConfig, {"igmp-proxy": {"mfc": {"downstream-interface": "lan0", "group": "239.1.1.1", "join": False}}})
    entry = config_to_xml(config)[0][1]
    assert [child.tag.rpartition("}")[2] for child in entry] == ["source", "group", "downstream-interface", "join"]


@pytest.mark.parametrize(
    ("text", "tag", "path", "info"),
    [
        (f"<igmp-prox {NS}/>", "unknown-element", "/ic:igmp-prox", {"bad-element": "igmp-prox"}),
        ("<igmp-proxy/>", "unknown-namespace", None, {"bad-element": "igmp-proxy", "bad-namespace": ""}),
        ('<igmp-proxy xmlns="urn:x"/>', "unknown-namespace", None, {"bad-element": "igmp-proxy", "bad-namespace": "urn:x"}),
        (f"<state {NS}/>", "unknown-element", "/ic:state", {"bad-element": "state"}),
        (f"<igmp-proxy {NS}/>", "missing-element", "/ic:igmp-proxy", {"bad-element": "name"}),
        (
            f"<igmp-proxy {NS}><name>a</name><robustness>0</robustness></igmp-proxy>",
            "invalid-value",
            "/ic:igmp-proxy[ic:name='a']/ic:robustness",
            {"bad-element": "robustness"},
        ),
        (
            f"<igmp-proxy {NS}><name>a</name><enabled>yes</enabled></igmp-proxy>",
            "invalid-value",
            "/ic:igmp-proxy[ic:name='a']/ic:enabled",
            {"bad-element": "enabled"},
        ),
        (
            f"<igmp-proxy {NS}><name>a</name><enabled>true</enabled><enabled>true</enabled></igmp-proxy>",
            "bad-element",
            "/ic:igmp-proxy[ic:name='a']/ic:enabled",
            {"bad-element": "enabled"},
        ),
        (
            f"<igmp-proxy {NS}><name>a</name></igmp-proxy><igmp-proxy {NS}><name>a</name></igmp-proxy>",
            "bad-element",
            "/ic:igmp-proxy",
            {"bad-element": "igmp-proxy"},
        ),
        (f"<vlans {NS}><name>a</name><vlan-id>1</vlan-id></vlans>", "missing-element", "/ic:vlans[ic:name='a']/ic:interface", {"bad-element": "interface"}),
        (f"<logging {NS}><size><x/></size></logging>", "unknown-element", "/ic:logging/ic:size/ic:x", {"bad-element": "x"}),
        (f"<logging {NS}>text</logging>", "bad-element", "/ic:logging", {"bad-element": "logging"}),
        (f"<logging {NS}/><logging {NS}/>", "bad-element", "/ic:logging", {"bad-element": "logging"}),
    ],
)
def test_refused_in_the_words_of_netconf(text, tag, path, info):
    with pytest.raises(DataError) as caught:
        xml_to_config(parse(f"<config>{text}</config>".encode()))
    assert (caught.value.tag, caught.value.path, caught.value.info) == (tag, path, info)
    assert caught.value.message


STATE = DeviceState(
    agent=AgentState(version="1", pid=7),
    interfaces=(
        InterfaceRow(
            instance="default",
            interface="lan0",
            family="ipv4",
            role="downstream",
            enabled=True,
            up=False,
            addresses=("10.0.0.1/24",),
            querier=QuerierState(self_=True, since_s=3),
            counters=(Counter(name="reports", value=2**40),),
        ),
    ),
    groups=tuple(
        GroupRow(instance="default", interface="lan0", group=group, mode="include", sources=(SourceTimer(address=SOURCES[1], expires_s=9),)) for group in GROUPS
    ),
    mfc=(MfcRow(instance="default", family="ipv4", source="*", group="*", kind="static", state="forwarding", downstreams=("lan0",)),),
)


def test_state_comes_back():
    assert xml_to_state(parse(serialize(state_to_xml(STATE)))) == canonical(STATE)
    assert xml_to_state(state_to_xml(DeviceState())) == DeviceState()


def test_state_of_a_newer_agent_is_read_as_far_as_it_is_known():
    element = state_to_xml(STATE)
    element.append(Element("{urn:igmpconf:yang:igmpconf}weather"))
    element[0].append(Element("{urn:other}pid"))
    assert xml_to_state(element) == canonical(STATE)


def test_what_is_not_state_is_refused():
    with pytest.raises(DataError):
        xml_to_state(Element("state"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("igmp-proxy[default]/interfaces[lan0]/threshold", "/ic:igmp-proxy[ic:name='default']/ic:interfaces[ic:interface='lan0']/ic:threshold"),
        ("igmp-proxy[a]/mfc[*,239.1.1.1]", "/ic:igmp-proxy[ic:name='a']/ic:mfc[ic:source='*'][ic:group='239.1.1.1']"),
        ("vlans[a'b]", '/ic:vlans[ic:name="a\'b"]'),
        ("vlans[a'b\"c]", "/ic:vlans[ic:name=concat('a', \"'\", 'b\"c')]"),
        ("nonsense[x]/y", "/ic:nonsense/ic:y"),
    ],
)
def test_a_keyed_path_as_xpath(path, expected):
    assert xpath(parse_path(path)) == expected
