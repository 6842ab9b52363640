"""edit-config: the five operations as laws and as a table (ids NC-0xx: the NETCONF checklist's sections 4 and 8)."""

from __future__ import annotations

import copy
import dataclasses
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igmpconf.model.access import Access, RuleList
from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.leaf import nodes
from igmpconf.schema.edit import edited
from igmpconf.schema.xml import DataError, config_to_xml, replacement_to_xml
from igmpconf.xmltext import parse
from tests.kit.desired import configs

OPERATION = "{urn:ietf:params:xml:ns:netconf:base:1.0}operation"
HEAD = '<config xmlns="urn:igmpconf:yang:igmpconf" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:yang="urn:ietf:params:xml:ns:yang:1" xmlns:wd="urn:ietf:params:xml:ns:netconf:default:1.0">'


def edit_of(config, operation=None):
    top = Element("config")
    for element in config_to_xml(config):
        if operation is not None:
            element.set(OPERATION, operation)
        top.append(element)
    return top


def change(plain, text, default_operation="merge"):
    return to_plain(edited(from_plain(DeviceConfig, plain), parse(f"{HEAD}{text}</config>".encode()), default_operation))


# -- laws ------------------------------------------------------------------------------------------------------------


@given(configs(), configs())
def test_replacing_the_whole_gives_the_other(a, b):
    assert edited(a, edit_of(b), "replace") == b


@given(configs(), configs())
def test_a_replacement_gives_the_other_and_leaves_the_access_rules_alone(a, b):
    access = Access(rule_list=(RuleList(name="one", group=("*",)),))
    edit = Element("config")
    edit.extend(replacement_to_xml(a, b))
    assert edited(dataclasses.replace(a, access=access), edit) == dataclasses.replace(b, access=access)


@given(configs())
def test_merging_into_nothing_and_creating_give_what_was_said(a):
    assert edited(DeviceConfig(), edit_of(a)) == a
    assert edited(DeviceConfig(), edit_of(a, "create"), "none") == a


@given(configs(), configs())
def test_merge_is_idempotent_and_keeps_what_it_does_not_name(a, b):
    once = edited(a, edit_of(b))
    assert edited(once, edit_of(b)) == once
    assert edited(once, edit_of(a)) == edited(edited(b, edit_of(once)), edit_of(a))
    assert edited(a, edit_of(DeviceConfig())) == a
    assert {proxy.name for proxy in once.proxies} == {proxy.name for proxy in a.proxies} | {proxy.name for proxy in b.proxies}


@given(configs())
def test_deleting_what_is_there_leaves_nothing_and_removing_never_fails(a):
    assert edited(a, edit_of(a, "delete")) == DeviceConfig()
    assert edited(DeviceConfig(), edit_of(a, "remove")) == DeviceConfig()


@given(configs(), configs(), st.sampled_from(["merge", "replace", "create", "delete", "remove"]), st.sampled_from(["merge", "replace", "none"]))
@settings(max_examples=60)
def test_an_edit_touches_neither_its_argument_nor_its_base(a, b, operation, default):
    edit = edit_of(b, operation)
    before, plain = copy.deepcopy(edit), to_plain(a)
    try:
        edited(a, edit, default)
    except DataError:
        pass
    assert to_plain(a) == plain
    assert [element.attrib for element in edit.iter()] == [element.attrib for element in before.iter()]


@given(configs(), st.data())
@settings(max_examples=60)
def test_none_changes_only_where_an_operation_stands(a, data):
    edit = edit_of(a)
    assert edited(a, edit, "none") == a
    keys = {n.name for inner in nodes(DeviceConfig) if inner.cls for n in nodes(inner.cls) if n.required}
    leaves = [leaf for top in edit for leaf in top if not len(leaf) and leaf.tag.rpartition("}")[2] not in keys]
    if leaves:
        chosen = data.draw(st.sampled_from(leaves))
        chosen.set(OPERATION, "delete")
        assert to_plain(edited(a, edit, "none")) != to_plain(a)


NAMES = st.sampled_from(
    [
        "igmp-proxy",
        "name",
        "interfaces",
        "interface",
        "upstream",
        "mfc",
        "source",
        "group",
        "family",
        "vlans",
        "firewall",
        "rules",
        "sequence",
        "logging",
        "size",
        "x",
    ]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from([OPERATION, "operation", "{urn:ietf:params:xml:ns:yang:1}insert", "{urn:ietf:params:xml:ns:netconf:default:1.0}default", "{urn:x}y"]),
    st.sampled_from(["merge", "replace", "create", "delete", "remove", "none", "true", "first"]),
    max_size=1,
)


TAGS = (
    {f"unknown-{what}" for what in ("element", "namespace", "attribute")}
    | {"bad-attribute", "bad-element", "missing-element"}
    | {"invalid-value", "data-exists", "data-missing"}
)


@st.composite
def any_element(draw, depth=4):
    namespace = draw(st.sampled_from(["{urn:igmpconf:yang:igmpconf}"] * 9 + ["", "{urn:x}"]))
    element = Element(namespace + draw(NAMES), draw(ATTRIBUTES))
    element.text = draw(st.sampled_from([None, "a", "lan0", "1", "true", "ipv4", "239.1.1.1", " ", "\n"]))
    for _ in range(draw(st.integers(0, 3 if depth else 0))):
        element.append(draw(any_element(depth - 1)))
    return element


@given(configs(), st.lists(any_element(), max_size=3), st.sampled_from(["merge", "replace", "none"]))
@settings(max_examples=100)
def test_any_edit_is_done_or_refused_in_the_words_of_netconf(config, elements, default):
    top = Element("config")
    top.extend(elements)
    refused = None
    try:
        result = edited(config, top, default)
    except DataError as error:
        refused = error
    if refused is None:
        assert from_plain(DeviceConfig, to_plain(result)) == result
    else:
        assert refused.tag in TAGS
        assert refused.error_type == "application" or refused.tag in {"unknown-attribute", "bad-attribute", "missing-element"}


# -- table -----------------------------------------------------------------------------------------------------------

LAN = {"interface": "lan0", "threshold": 5, "alternative-subnets": ["10.0.0.0/8"]}
BASE = {"igmp-proxy": [{"name": "a", "robustness": 3, "interfaces": [LAN, {"interface": "wan", "upstream": True}]}], "logging": {"size": 500}}


def interface(inner, attributes=""):
    return f"<igmp-proxy><name>a</name><interfaces {attributes}>{inner}</interfaces></igmp-proxy>"


def lan_after(text, default_operation="merge"):
    return next((one for one in change(BASE, text, default_operation)["igmp-proxy"][0]["interfaces"] if one["interface"] == "lan0"), None)


@pytest.mark.parametrize(
    ("inner", "attributes", "expected"),
    [
        ("<interface>lan0</interface><threshold>6</threshold>", "", LAN | {"threshold": 6}),  # NC-080 merge
        ("<interface>lan0</interface><threshold>6</threshold>", 'nc:operation="replace"', {"interface": "lan0", "threshold": 6}),
        ("<interface>lan0</interface>", 'nc:operation="delete"', None),
        ("<interface>lan0</interface>", 'nc:operation="remove"', None),
        ("<interface>lan0</interface><threshold nc:operation='delete'/>", "", {k: v for k, v in LAN.items() if k != "threshold"}),
        ("<interface>lan0</interface><threshold nc:operation='remove'/>", "", {k: v for k, v in LAN.items() if k != "threshold"}),
        ("<interface>lan0</interface><max-groups nc:operation='remove'>1</max-groups>", "", LAN),
        ("<interface>lan0</interface><max-groups nc:operation='create'>1</max-groups>", "", LAN | {"max-groups": 1}),
        # RFC 6243 2.3.3: a leaf that merely has its default can be created (NC-063)
        ("<interface>lan0</interface><version nc:operation='create'>3</version>", "", LAN | {"version": 3}),
        ("<interface>lan0</interface><alternative-subnets>10.0.0.0/8</alternative-subnets>", "", LAN),
        (
            "<interface>lan0</interface><alternative-subnets>9.0.0.0/8</alternative-subnets>",
            "",
            LAN | {"alternative-subnets": ["9.0.0.0/8", "10.0.0.0/8"]},
        ),
        (
            "<interface>lan0</interface><alternative-subnets nc:operation='delete'>10.0.0.0/8</alternative-subnets>",
            "",
            {"interface": "lan0", "threshold": 5},
        ),
        # RFC 6243 4.5.2: a tagged default is set back to the default
        ("<interface>lan0</interface><threshold wd:default='true'>1</threshold>", "", {k: v for k, v in LAN.items() if k != "threshold"}),
    ],
)
def test_operations_on_a_list_entry_and_what_is_in_it(inner, attributes, expected):
    assert lan_after(interface(inner, attributes)) == expected


def test_a_replaced_container_keeps_only_what_is_said():
    base = {"logging": {"size": 500, "action": "journal"}}
    assert change(base, '<logging nc:operation="replace"><size>600</size></logging>') == {"logging": {"size": 600}}
    assert change(base, '<logging nc:operation="delete"/>') == {}
    assert change({}, '<logging nc:operation="create"><size>600</size></logging>') == {"logging": {"size": 600}}
    assert change({}, '<logging nc:operation="remove"/>') == {}


def test_an_operation_deep_below_none_acts_alone():
    text = interface("<interface>lan0</interface><threshold nc:operation='merge'>9</threshold><version nc:operation='create'>2</version>")
    assert lan_after(text, "none") == LAN | {"threshold": 9, "version": 2}


def test_deleting_and_creating_one_entry_in_one_edit_goes_in_order():
    text = "<vlans nc:operation='delete'><name>a</name></vlans><vlans nc:operation='create'><name>a</name><interface>y</interface><vlan-id>2</vlan-id></vlans>"
    assert change({"vlans": {"name": "a", "interface": "x", "vlan-id": 1}}, text) == {"vlans": [{"name": "a", "interface": "y", "vlan-id": 2}]}


REFUSED = [
    # NC-081
    (
        interface("<interface>lan0</interface>", 'nc:operation="create"'),
        "merge",
        "application",
        "data-exists",
        "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan0']",
    ),
    (
        interface("<interface>lan9</interface>", 'nc:operation="delete"'),
        "merge",
        "application",
        "data-missing",
        "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan9']",
    ),
    ("<logging><size nc:operation='create'>1000</size></logging>", "merge", "application", "data-exists", "/ic:logging/ic:size"),
    ("<logging nc:operation='create'/>", "merge", "application", "data-exists", "/ic:logging"),
    ("<firewall nc:operation='delete'/>", "merge", "application", "data-missing", "/ic:firewall"),
    ("<logging><action nc:operation='delete'/></logging>", "merge", "application", "data-missing", "/ic:logging/ic:action"),
    (
        interface("<interface>lan0</interface><alternative-subnets nc:operation='delete'>9.0.0.0/8</alternative-subnets>"),
        "merge",
        "application",
        "data-missing",
        "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan0']/ic:alternative-subnets[.='9.0.0.0/8']",
    ),
    (
        interface("<interface>lan0</interface><alternative-subnets nc:operation='create'>10.0.0.0/8</alternative-subnets>"),
        "merge",
        "application",
        "data-exists",
        "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan0']/ic:alternative-subnets[.='10.0.0.0/8']",
    ),
    # NC-082
    (interface("<interface>lan9</interface>"), "none", "application", "data-missing", "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan9']"),
    (
        "<igmp-proxy><name>b</name><enabled nc:operation='create'>true</enabled></igmp-proxy>",
        "none",
        "application",
        "data-missing",
        "/ic:igmp-proxy[ic:name='b']",
    ),
    ("<logging><action>memory</action></logging>", "none", "application", "data-missing", "/ic:logging/ic:action"),
    # NC-083
    (interface("<threshold>1</threshold>"), "merge", "protocol", "missing-element", "/ic:igmp-proxy[ic:name='a']/ic:interfaces"),
    (
        interface("<interface nc:operation='delete'>lan0</interface>"),
        "merge",
        "protocol",
        "bad-attribute",
        "/ic:igmp-proxy[ic:name='a']/ic:interfaces[ic:interface='lan0']/ic:interface",
    ),
    ("<firewall><rules yang:insert='first'><sequence>1</sequence></rules></firewall>", "merge", "protocol", "unknown-attribute", "/ic:firewall/ic:rules"),
    # NC-084
    ("<logging nc:operation='destroy'/>", "merge", "protocol", "bad-attribute", "/ic:logging"),
    ("<logging nc:operation='none'/>", "merge", "protocol", "bad-attribute", "/ic:logging"),
    ("<logging operation='delete'/>", "merge", "protocol", "unknown-attribute", "/ic:logging"),
    # NC-093
    ("<logging><size>9</size></logging>", "merge", "application", "invalid-value", "/ic:logging/ic:size"),
    ("<logging><sizes>9</sizes></logging>", "merge", "application", "unknown-element", "/ic:logging/ic:sizes"),
    ("<logging><size>10</size><size>10</size></logging>", "merge", "application", "bad-element", "/ic:logging/ic:size"),
    ("<logging><size wd:default='true'>10</size></logging>", "merge", "application", "invalid-value", "/ic:logging/ic:size"),
    ("<vlans><name>v</name><vlan-id>1</vlan-id></vlans>", "merge", "application", "missing-element", "/ic:vlans[ic:name='v']/ic:interface"),
    ('<x xmlns="urn:x"/>', "merge", "application", "unknown-namespace", None),
]


@pytest.mark.parametrize(("text", "default", "error_type", "tag", "path"), REFUSED)
def test_refused_with_type_tag_and_path(text, default, error_type, tag, path):
    with pytest.raises(DataError) as caught:
        change(BASE, text, default)
    assert (caught.value.error_type, caught.value.tag, caught.value.path) == (error_type, tag, path)


@pytest.mark.parametrize(
    ("text", "info"),
    [
        ("<logging nc:operation='destroy'/>", {"bad-attribute": "operation", "bad-element": "logging"}),
        (interface("<threshold>1</threshold>"), {"bad-element": "interface"}),
        ('<x xmlns="urn:x"/>', {"bad-element": "x", "bad-namespace": "urn:x"}),
    ],
)
def test_error_info_holds_what_appendix_a_asks_for(text, info):
    with pytest.raises(DataError) as caught:
        change(BASE, text)
    assert caught.value.info == info
