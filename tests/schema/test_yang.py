"""The printed YANG, loaded by yangson: what our codec writes is valid, what the rules refuse the musts refuse."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from yangson import DataModel
from yangson.enumerations import ContentType, ValidationScope
from yangson.exceptions import ValidationError, YangsonException

from igmpconf.model.canon import from_plain, to_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.notices import NAMES, NOTICES, notice_of
from igmpconf.schema.names import MODULE, NAMESPACE, NETCONF_BASE, REVISION
from igmpconf.schema.semantic import check
from igmpconf.schema.xml import config_to_xml, notice_to_xml, state_to_xml
from igmpconf.schema.yang import NETCONF_MODULE, NETCONF_NAMESPACE, module_text, netconf_module_text
from igmpconf.xmltext import serialize
from tests.kit.desired import sound_configs
from tests.schema.test_xml import STATE


def library(*modules):
    """A yang-library (RFC 7895) that implements the modules (name, revision, namespace)."""
    listed = [{"name": name, "revision": revision, "namespace": namespace, "conformance-type": "implement"} for name, revision, namespace in modules]
    return json.dumps({"ietf-yang-library:modules-state": {"module-set-id": "1", "module": listed}})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("yang")
    (place / f"{MODULE}@{REVISION}.yang").write_text(module_text(), encoding="utf-8")
    return DataModel(library((MODULE, REVISION, NAMESPACE)), (str(place),))


def instance(model, elements):
    root = ET.Element(f"{{{NETCONF_BASE}}}config")
    root.extend(elements)
    return model.from_xml(ET.fromstring(serialize(root)))


def validate(model, config):
    instance(model, config_to_xml(config)).validate(ValidationScope.all, ContentType.config)


@given(sound_configs())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_we_write_is_valid(model, config):
    assert [finding for finding in check(config) if finding.is_error] == []
    validate(model, config)


@given(sound_configs())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_xml_and_json_of_the_model_are_the_same_data(model, config):
    # RFC 7951: our plain data is the JSON encoding, with the module's name on top
    assert instance(model, config_to_xml(config)).raw_value() == {f"{MODULE}:{name}": value for name, value in to_plain(config).items()}


@given(sound_configs())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_defaults_in_the_module_are_those_that_report_all_writes(model, config):
    with_ours = instance(model, config_to_xml(config, "report-all")).raw_value()
    with_theirs = instance(model, config_to_xml(config)).add_defaults().raw_value()
    with_theirs.pop(f"{MODULE}:state", None)  # an empty container is a default too
    assert normal(with_ours) == normal(with_theirs)


def normal(value):
    if isinstance(value, dict):
        return {name: normal(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return sorted((normal(inner) for inner in value), key=repr)
    return value


def test_state_is_valid(model):
    instance(model, [state_to_xml(STATE)]).validate(ValidationScope.all, ContentType.all)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Validates the event of a notification.  yangson parses notifications and cannot validate them: to it they are containers."""
    place = tmp_path_factory.mktemp("notifications")
    text, count = re.subn(r"(?m)^  notification ([a-z-]+) \{", r'  container \1 {\n    presence "it happened";\n    config false;', module_text())
    assert count == len(NAMES)
    (place / f"{MODULE}@{REVISION}.yang").write_text(text, encoding="utf-8")
    shaped = DataModel(library((MODULE, REVISION, NAMESPACE)), (str(place),))
    return lambda event: instance(shaped, [event]).validate(ValidationScope.all, ContentType.all)


@pytest.mark.parametrize("event", sorted(NOTICES))
def test_notifications_are_valid(told, event):
    facts = {
        "instance": "default",
        "interface": "lan0",
        "group": "239.1.1.1",
        "sender": "10.0.0.9",
        "querier": "10.0.0.1",
        "limit": 5,
        "cause": "a report; 'quoted' <so>",
    }
    notice = notice_of(event, facts)
    assert notice is not None
    told(notice_to_xml(notice))
    del facts["interface"]
    assert notice_of(event, facts) is None


def test_a_notification_without_its_facts_is_refused(told):
    whole = notice_to_xml(notice_of("limit/groups", {"instance": "default", "interface": "lan0", "limit": 5}))
    told(whole)
    for wanted in ("limit", "leaf-name", "interface"):
        part = ET.Element(whole.tag)
        part.extend(child for child in whole if not child.tag.endswith("}" + wanted))
        with pytest.raises(YangsonException):
            told(part)


UP = {"interface": "wan", "upstream": True}


@pytest.mark.parametrize(
    "plain",
    [
        {"igmp-proxy": {"interfaces": ["lan0"]}},
        {"igmp-proxy": {"interfaces": [UP, {"interface": "wan2", "upstream": True}]}},
        {"igmp-proxy": {"interfaces": [UP], "mode": "bridged"}},
        {"igmp-proxy": {"interfaces": [UP], "bridge": "br0"}},
        {"igmp-proxy": {"interfaces": [UP, "lan0"], "mfc": {"group": "239.1.1.1"}}},
        {"igmp-proxy": {"interfaces": [UP, "lan0"], "mfc": {"group": "239.1.1.1", "upstream-interface": "lan0", "downstream-interface": "lan0"}}},
        {"igmp-proxy": {"interfaces": [UP, {"interface": "lan0", "version": 2, "minimum-version": 3}]}},
        {"igmp-proxy": {"interfaces": [UP | {"mld-version": 1, "minimum-mld-version": 2}, "lan0"]}},
        {"vlans": [{"name": "a", "interface": "e", "vlan-id": 1}, {"name": "b", "interface": "e", "vlan-id": 1}]},
        {"firewall": {"rules": {"chain": "input", "action": "drop", "out-interface": "x"}}},
    ],
)
def test_module_and_rules_refuse_the_same(model, plain):
    config = from_plain(DeviceConfig, plain)
    assert any(finding.is_error for finding in check(config))
    with pytest.raises(ValidationError):
        validate(model, config)


@pytest.mark.parametrize(
    "text",
    [
        "<logging><size>9</size></logging>",
        "<logging><action>paper</action></logging>",
        "<vlans><name>.</name><interface>e</interface><vlan-id>1</vlan-id></vlans>",
        "<vlans><name>a b</name><interface>e</interface><vlan-id>1</vlan-id></vlans>",
        "<vlans><name>a</name><interface>e</interface></vlans>",
        "<igmp-proxy><name>a</name><enabled>false</enabled><query-interval>5x</query-interval></igmp-proxy>",
        "<igmp-proxy><name>a</name><enabled>false</enabled><query-interval></query-interval></igmp-proxy>",
        "<igmp-proxy><name>a</name><enabled>false</enabled><robustness>0</robustness></igmp-proxy>",
        "<igmp-proxy><name>a</name><enabled>false</enabled><ssm-range>232.0.0.0/8x</ssm-range></igmp-proxy>",
    ],
)
def test_the_types_of_the_module_refuse(model, text):
    root = ET.fromstring(with_namespace(text))
    with pytest.raises(YangsonException):
        model.from_xml(root).validate(ValidationScope.all, ContentType.config)


def with_namespace(text):
    name = re.match(r"<([a-z-]+)>", text)[1]
    return f'<config xmlns="{NETCONF_BASE}">' + text.replace(f"<{name}>", f'<{name} xmlns="{NAMESPACE}">', 1) + "</config>"


NETCONF_STUB = f"""module ietf-netconf {{
  namespace "{NETCONF_BASE}";
  prefix nc;
  revision 2011-06-01;
  rpc commit {{ input {{ leaf confirmed {{ type empty; }} }} }}
}}
"""


def test_the_commit_module_augments_commit(tmp_path):
    """Against the shape of RFC 6241's module: only the node that is augmented."""
    (tmp_path / "ietf-netconf@2011-06-01.yang").write_text(NETCONF_STUB)
    (tmp_path / f"{NETCONF_MODULE}@{REVISION}.yang").write_text(netconf_module_text())
    loaded = DataModel(library(("ietf-netconf", "2011-06-01", NETCONF_BASE), (NETCONF_MODULE, REVISION, NETCONF_NAMESPACE)), (str(tmp_path),))
    tree = loaded.ascii_tree()
    assert re.search(rf"{NETCONF_MODULE}:plan\?", tree)
    assert re.search(rf"{NETCONF_MODULE}:comment\?", tree)
