"""NETCONF, item by item, over the agent's socket: sections 2, 3, 4 and 7 of the checklist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from yangson import DataModel

from igmpconf.agent.dispatch import capabilities
from igmpconf.agent.modules import modules
from igmpconf.model.config import DeviceConfig
from igmpconf.schema.yang import module_text
from igmpconf.xmltext import parse
from tests.kit.netconf import BASE, IC, NC, ONE_PROXY, OURS, RunningService, edit_config, errors_of, threshold, threshold_in

MONITORING = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"
LIBRARY = "urn:ietf:params:xml:ns:yang:ietf-yang-library"
DEFAULTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-with-defaults"


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


@pytest.fixture
def client(service):
    with service.client() as connected:
        yield connected


@pytest.fixture
def committed(client):
    client.edit(ONE_PROXY)
    client.ok("<commit/>")
    return client


# 2. rpc layer


@pytest.mark.parametrize(
    ("operation", "kind", "info"),
    [
        ("<reboot/>", ("protocol", "operation-not-supported"), {}),  # NC-037
        (
            '<get-software-information xmlns="http://xml.juniper.net/junos"/>',
            ("protocol", "unknown-namespace"),
            {"bad-element": "get-software-information", "bad-namespace": "http://xml.juniper.net/junos"},
        ),
        ("<get><nosuch/></get>", ("protocol", "unknown-element"), {"bad-element": "nosuch"}),  # NC-038
        ('<get><x xmlns="urn:x"/></get>', ("protocol", "unknown-namespace"), {"bad-element": "x", "bad-namespace": "urn:x"}),
        ("<get><filter/><filter/></get>", ("protocol", "bad-element"), {"bad-element": "filter"}),
        ("<get-config/>", ("protocol", "missing-element"), {"bad-element": "source"}),
        ("<get-config><source/></get-config>", ("protocol", "missing-element"), None),
        ("<get-config><source><startup/></source></get-config>", ("protocol", "bad-element"), {"bad-element": "startup"}),  # NC-050
        ("<get-config><source><running/><candidate/></source></get-config>", ("protocol", "bad-element"), {"bad-element": "candidate"}),
        ('<get><filter type="xpath" select="/"/></get>', ("protocol", "bad-attribute"), {"bad-attribute": "type", "bad-element": "filter"}),  # NC-059, NC-060
        (f'<get><with-defaults xmlns="{DEFAULTS}">some</with-defaults></get>', ("protocol", "invalid-value"), {}),  # NC-062
        ("<edit-config><target><candidate/></target></edit-config>", ("protocol", "missing-element"), {"bad-element": "config"}),
        ("<edit-config><config/></edit-config>", ("protocol", "missing-element"), {"bad-element": "target"}),
        (edit_config("", target="running"), ("protocol", "operation-not-supported"), {}),  # NC-085
        (edit_config("", default_operation="create"), ("protocol", "invalid-value"), {}),
        (edit_config("", test_option="maybe"), ("protocol", "invalid-value"), {}),
        (edit_config("", error_option="ignore"), ("protocol", "invalid-value"), {}),
        ("<edit-config><target><candidate/></target><url>file:///etc/passwd</url></edit-config>", ("protocol", "operation-not-supported"), {}),  # NC-097
        ("<copy-config><target><candidate/></target><source><candidate/></source></copy-config>", ("protocol", "invalid-value"), {}),  # NC-094
        ("<copy-config><target><running/></target><source><candidate/></source></copy-config>", ("protocol", "operation-not-supported"), {}),
        ("<delete-config><target><running/></target></delete-config>", ("protocol", "operation-not-supported"), {}),  # NC-095
        ("<lock><target><startup/></target></lock>", ("protocol", "bad-element"), {"bad-element": "startup"}),
        ("<unlock><target><running/></target></unlock>", ("protocol", "operation-failed"), {}),  # NC-116
        ("<kill-session/>", ("protocol", "missing-element"), {"bad-element": "session-id"}),
        ("<kill-session><session-id>x</session-id></kill-session>", ("protocol", "invalid-value"), {}),
        ("<kill-session><session-id>4000000</session-id></kill-session>", ("protocol", "invalid-value"), {}),  # NC-140
        ("<cancel-commit/>", ("protocol", "operation-failed"), {}),  # NC-128
        ("<commit><persist-id>x</persist-id></commit>", ("protocol", "invalid-value"), {}),  # NC-127
        ("<commit><confirmed/><confirm-timeout>0</confirm-timeout></commit>", ("protocol", "invalid-value"), {}),  # NC-121
        ("<commit><confirmed/><confirm-timeout>4294967296</confirm-timeout></commit>", ("protocol", "invalid-value"), {}),
        (f'<get-schema xmlns="{MONITORING}"><identifier>nosuch</identifier></get-schema>', ("protocol", "invalid-value"), {}),  # NC-151
        (f'<get-schema xmlns="{MONITORING}"/>', ("protocol", "missing-element"), {"bad-element": "identifier"}),
        (f'<get-schema xmlns="{MONITORING}"><identifier>igmpconf</identifier><format>yin</format></get-schema>', ("protocol", "invalid-value"), {}),
        (f'<get-commit xmlns="{OURS}"><number>1</number></get-commit>', ("application", "data-missing"), {}),
    ],
)
def test_nc_036_037_038_059_062_085_095_097_error_triples(client, operation, kind, info):
    error = client.error(operation)
    assert error.kind == kind
    assert error.message
    if info is not None:
        assert error.info == info
    client.ok("<discard-changes/>")  # the session goes on


def test_nc_004_132_150_the_hello_says_what_monitoring_says(client):
    said = [one.text for one in parse(client.greeting).iter(f"{NC}capability")]
    assert tuple(said) == capabilities()
    assert any(":candidate:" in one for one in said)  # without which there is no confirmed commit
    assert not [one for one in said if "writable-running" in one or "startup" in one or "xpath" in one or "url:" in one]
    found = client.data(f'<get><filter><netconf-state xmlns="{MONITORING}"/></filter></get>')
    assert [one.text for one in found.iter(f"{{{MONITORING}}}capability")] == said


def test_nc_033_every_advertised_module_can_be_fetched_byte_for_byte(client):
    said = [one.text or "" for one in parse(client.greeting).iter(f"{NC}capability")]
    for module in modules():
        assert module.capability in said
        reply = client.rpc(
            f'<get-schema xmlns="{MONITORING}"><identifier>{module.name}</identifier><version>{module.revision}</version><format>yang</format></get-schema>'
        )
        assert reply.findtext(f"{{{MONITORING}}}data") == module.text
    assert modules()[0].text == module_text()


def test_nc_155_156_the_yang_library_is_what_the_hello_says(client, tmp_path):
    said = [one.text or "" for one in parse(client.greeting).iter(f"{NC}capability")]
    lib = f"{{{LIBRARY}}}"
    reply = client.data(f'<get><filter><yang-library xmlns="{LIBRARY}"/><modules-state xmlns="{LIBRARY}"/></filter></get>')
    library, state = reply
    content_id = library.findtext(f"{lib}content-id")
    assert f"urn:ietf:params:netconf:capability:yang-library:1.1?revision=2019-01-04&content-id={content_id}" in said
    assert f"urn:ietf:params:netconf:capability:yang-library:1.0?revision=2019-01-04&module-set-id={state.findtext(f'{lib}module-set-id')}" in said
    (module_set,) = library.findall(f"{lib}module-set")
    implemented = {one.findtext(f"{lib}name"): one for one in module_set.findall(f"{lib}module")}
    older = {one.findtext(f"{lib}name"): one for one in state.findall(f"{lib}module")}
    assert {name for name, one in older.items() if one.findtext(f"{lib}conformance-type") == "implement"} == set(implemented)
    assert set(older) - set(implemented) == {one.findtext(f"{lib}name") for one in module_set.findall(f"{lib}import-only-module")}
    for capability in said:
        if "?module=" in capability:  # everything that the hello names is in the library, with the same revision
            namespace, _, rest = capability.partition("?module=")
            name, _, revision = rest.partition("&revision=")
            assert (implemented[name].findtext(f"{lib}namespace"), implemented[name].findtext(f"{lib}revision")) == (namespace, revision)
    features = [one.text for one in implemented["ietf-netconf"].findall(f"{lib}feature")]
    assert all(any(f":capability:{feature}:" in capability for capability in said) for feature in features)
    assert "writable-running" not in features


def test_nc_156_a_client_builds_its_schema_from_library_and_get_schema(client, tmp_path):
    lib = f"{{{LIBRARY}}}"
    (state,) = client.data(f'<get><filter><modules-state xmlns="{LIBRARY}"/></filter></get>')
    ours = []
    for one in state.findall(f"{lib}module"):
        leaves = {name: one.findtext(f"{lib}{name}") for name in ("name", "revision", "namespace", "conformance-type")}
        if leaves["name"] == "igmpconf":
            text = client.rpc(f'<get-schema xmlns="{MONITORING}"><identifier>igmpconf</identifier></get-schema>').findtext(f"{{{MONITORING}}}data")
            (tmp_path / f"igmpconf@{leaves['revision']}.yang").write_text(text or "", encoding="utf-8")
            ours.append(leaves)
    loaded = DataModel(json.dumps({"ietf-yang-library:modules-state": {"module-set-id": "", "module": ours}}), (str(tmp_path),))
    assert "igmp-proxy" in loaded.ascii_tree()


def test_nc_037_an_operation_without_a_namespace_is_told_which_one_it_lacks(client):
    error = client.error('<commit xmlns=""/>')
    assert error.kind == ("protocol", "operation-not-supported")
    assert BASE in error.message


# 3. retrieval


def test_nc_050_051_052_057_get_and_get_config(committed):
    assert [child.tag for child in committed.config()] == [f"{IC}igmp-proxy"]
    tags = {child.tag for child in committed.data("<get/>")}
    assert tags == {
        f"{IC}igmp-proxy",
        f"{IC}state",
        "{urn:ietf:params:xml:ns:yang:ietf-netconf-acm}nacm",
        f"{{{MONITORING}}}netconf-state",
        "{urn:ietf:params:xml:ns:netmod:notification}netconf",
        f"{{{LIBRARY}}}yang-library",
        f"{{{LIBRARY}}}modules-state",
    }
    assert len(committed.data("<get><filter/></get>")) == 0  # NC-057
    assert len(committed.data('<get-config><source><running/></source><filter><x xmlns="urn:x"/></filter></get-config>')) == 0


def test_nc_055_filter_by_key(committed):
    subtree = f'<igmp-proxy xmlns="{OURS}"><name>default</name><interfaces><interface>lan0</interface></interfaces></igmp-proxy>'
    found = committed.data(f'<get-config><source><running/></source><filter type="subtree">{subtree}</filter></get-config>')
    assert [one.text for one in found.iter(f"{IC}interface")] == ["lan0"]


def test_nc_061_with_defaults(committed):
    def thresholds(mode: str) -> list[str | None]:
        found = committed.data(f'<get-config><source><running/></source><with-defaults xmlns="{DEFAULTS}">{mode}</with-defaults></get-config>')
        return [one.text for one in found.iter(f"{IC}threshold")]

    committed.edit(threshold(1))  # the default, set explicitly: RFC 6243 2.3
    committed.ok("<commit/>")
    assert thresholds("explicit") == ["1"]
    assert thresholds("trim") == []
    assert thresholds("report-all") == ["1", "1"]
    assert thresholds("report-all-tagged") == ["1", "1"]


def test_nc_063_a_default_in_use_can_be_created_and_not_deleted(committed):
    def edit(operation: str) -> str:
        leaf = f'<threshold xmlns:nc="{BASE}" nc:operation="{operation}">1</threshold>'
        return edit_config(threshold(1).replace("<threshold>1</threshold>", leaf))

    assert committed.error(edit("delete")).kind == ("application", "data-missing")
    committed.ok(edit("remove"))
    committed.ok(edit("create"))
    assert committed.error(edit("create")).kind == ("application", "data-exists")
    committed.ok(edit("delete"))


def test_state_carries_digest_history_and_what_waits(committed):
    committed.edit(threshold(7))
    committed.ok("<commit><confirmed/><confirm-timeout>100</confirm-timeout><persist>tok</persist></commit>")
    state = committed.data(f'<get><filter><state xmlns="{OURS}"/></filter></get>')[0]
    agent = state.find(f"{IC}agent")
    assert agent is not None
    assert (agent.findtext(f"{IC}running-digest") or "").startswith("sha256:")
    assert agent.findtext(f"{IC}pending-persist-id") == "tok"
    assert 0 < int(agent.findtext(f"{IC}pending-s") or 0) <= 100
    assert [row.findtext(f"{IC}event") for row in state.findall(f"{IC}history")] == ["commit", "confirmed"]
    assert "threshold" in (state.findall(f"{IC}history")[1].findtext(f"{IC}diff") or "")
    committed.ok("<cancel-commit><persist-id>tok</persist-id></cancel-commit>")


def test_a_commit_of_the_history_can_be_fetched(committed):
    committed.edit(threshold(7))
    committed.ok("<commit/>")
    for number, wanted in ((1, None), (2, "7")):
        reply = committed.rpc(f'<get-commit xmlns="{OURS}"><number>{number}</number></get-commit>')
        assert threshold_in(reply[0]) == wanted
        assert reply[0].tag == f"{IC}config"
    assert committed.error(f'<get-commit xmlns="{OURS}"><number>3</number></get-commit>').message == "no commit 3; the history holds 1..2"


# 4. editing


def test_nc_080_086_the_candidate_is_shared_and_running_follows_the_commit(service, committed):
    committed.edit(threshold(7))
    with service.client() as other:
        assert threshold_in(other.config("candidate")) == "7"
        assert threshold_in(other.config()) is None
        other.ok("<commit/>")
        assert threshold_in(other.config()) == "7"


def test_nc_081_082_083_084_operations_and_their_errors(committed):
    def lan0(operation: str, inner: str = "") -> str:
        return (
            f'<igmp-proxy xmlns="{OURS}" xmlns:nc="{BASE}"><name>default</name>'
            f'<interfaces nc:operation="{operation}"><interface>lan0</interface>{inner}</interfaces></igmp-proxy>'
        )

    assert committed.error(edit_config(lan0("create"))).kind == ("application", "data-exists")
    assert committed.error(edit_config(lan0("delete").replace("lan0", "lan9"))).kind == ("application", "data-missing")
    committed.edit(lan0("remove").replace("lan0", "lan9"))
    error = committed.error(edit_config(lan0("foo")))
    assert error.kind == ("protocol", "bad-attribute")
    assert error.info == {"bad-attribute": "operation", "bad-element": "interfaces"}
    assert committed.error(edit_config(lan0("merge").replace("<interface>lan0</interface>", ""))).info == {"bad-element": "interface"}
    assert committed.error(edit_config(threshold(7).replace("default", "other"), default_operation="none")).kind == ("application", "data-missing")
    assert len(committed.config("candidate")) == 1
    committed.edit(lan0("delete"))
    assert "lan0" not in [one.text for one in committed.config("candidate").iter(f"{IC}interface")]


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        ("<threshold>256</threshold>", ("application", "invalid-value")),
        ("<treshold>1</treshold>", ("application", "unknown-element")),
        ('<x xmlns="urn:x">1</x>', ("application", "unknown-namespace")),
    ],
)
def test_nc_093_payload_errors_name_their_place(committed, leaf, kind):
    error = committed.error(edit_config(threshold(1).replace("<threshold>1</threshold>", leaf)))
    assert error.kind == kind
    assert (error.path or "").startswith("/ic:igmp-proxy[ic:name='default']/ic:interfaces[ic:interface='lan0']")


def test_nc_090_a_half_bad_edit_leaves_the_target_as_it_was(committed):
    bad = threshold(7) + f'<igmp-proxy xmlns="{OURS}"><name>second</name><enabled>maybe</enabled></igmp-proxy>'
    for option in ("stop-on-error", "rollback-on-error"):
        assert committed.error(edit_config(bad, error_option=option)).kind == ("application", "invalid-value")
        assert threshold_in(committed.config("candidate")) is None
    assert committed.error(edit_config(bad, error_option="continue-on-error")).kind == ("application", "invalid-value")
    assert threshold_in(committed.config("candidate")) == "7"


TWO_UPSTREAMS = f'<igmp-proxy xmlns="{OURS}"><name>default</name><interfaces><interface>lan0</interface><upstream>true</upstream></interfaces></igmp-proxy>'


def test_nc_089_test_options(committed):
    committed.ok(edit_config(threshold(7), test_option="test-only"))
    assert threshold_in(committed.config("candidate")) is None
    for option in ("test-then-set", "test-only"):
        assert committed.error(edit_config(TWO_UPSTREAMS, test_option=option)).kind == ("application", "operation-failed")
        committed.ok("<validate><source><candidate/></source></validate>")
    committed.ok(edit_config(TWO_UPSTREAMS, test_option="set"))
    committed.ok("<discard-changes/>")


def test_nc_091_092_constraints_are_checked_at_validate_and_commit(service, committed):
    committed.edit(TWO_UPSTREAMS)
    before = service.engine.config
    inline = f"<validate><source><config>{ONE_PROXY}</config></source></validate>"
    committed.ok(inline)
    for operation in (
        "<validate><source><candidate/></source></validate>",
        "<commit/>",
        inline.replace("<interface>lan0</interface>", "<interface>lan0</interface><upstream>true</upstream>"),
    ):
        error = committed.error(operation)
        assert error.kind == ("application", "operation-failed")
        assert "/ic:igmp-proxy[ic:name='default']" in (error.path or "")
        assert "wan" in error.message
        assert "lan0" in error.message
    committed.ok("<validate><source><running/></source></validate>")
    assert service.engine.config is before


def test_nc_094_copy_config(committed):
    committed.edit(threshold(7))
    committed.ok("<copy-config><target><candidate/></target><source><running/></source></copy-config>")
    assert threshold_in(committed.config("candidate")) is None
    committed.ok(f"<copy-config><target><candidate/></target><source><config>{ONE_PROXY.replace('lan0', 'lan7')}</config></source></copy-config>")
    assert [one.text for one in committed.config("candidate").iter(f"{IC}interface")] == ["lan7", "wan"]


def test_nc_087_100_a_kernel_that_refuses_leaves_the_device_as_it_was(service, committed):
    before = service.engine.config
    committed.edit(threshold(7))
    service.engine.refuse = 1
    error = committed.error("<commit><confirmed/></commit>")
    assert (error.kind, error.app_tag) == (("application", "operation-failed"), "kernel-refused")
    assert error.message == "cannot add interface lan0; another multicast daemon runs"
    assert threshold_in(committed.config()) is None
    assert service.engine.config is before
    assert committed.error("<cancel-commit/>").kind == ("protocol", "operation-failed")  # nothing waits
    committed.ok("<commit/>")


def test_nc_099_a_commit_without_changes_does_not_reach_the_engine(service, committed):
    times = len(service.engine.replaced)
    committed.ok("<commit/>")
    committed.edit(ONE_PROXY)
    committed.ok("<commit/>")
    assert len(service.engine.replaced) == times


def test_replace_as_default_operation_holds_exactly_what_was_sent(committed):
    committed.edit(ONE_PROXY.replace("lan0", "lan7"), default_operation="replace")
    assert [one.text for one in committed.config("candidate").iter(f"{IC}interface")] == ["lan7", "wan"]
    committed.edit("", default_operation="replace")
    committed.ok("<commit/>")
    assert len(committed.config()) == 0


def test_plan_and_comment_are_kept_and_a_repeated_plan_is_recognised(service, committed):
    ours = 'xmlns="urn:igmpconf:yang:igmpconf-netconf"'
    committed.edit(threshold(7))
    commit = f"<commit><plan {ours}>p-1</plan><comment {ours}>more &amp; better</comment></commit>"
    committed.ok(commit)
    times = len(service.engine.replaced)
    committed.ok(commit)
    assert len(service.engine.replaced) == times
    rows = committed.data(f'<get><filter><state xmlns="{OURS}"><history/></state></filter></get>').findall(f".//{IC}history")
    assert (rows[-1].findtext(f"{IC}plan"), rows[-1].findtext(f"{IC}comment"), len(rows)) == ("p-1", "more & better", 2)
    assert committed.error(f"<commit><comment {ours}>{'x' * 256}</comment></commit>").kind == ("protocol", "invalid-value")


def test_nc_041_several_semantic_errors_come_at_once(client):
    proxies = "".join(f'<igmp-proxy xmlns="{OURS}"><name>{name}</name><interfaces><interface>{name}0</interface></interfaces></igmp-proxy>' for name in "ab")
    client.edit(proxies)
    assert len(errors_of(client.rpc("<commit/>"))) >= 2


def test_the_empty_configuration_is_where_a_device_begins(service, client):
    assert len(client.config()) == 0
    assert service.engine.config == DeviceConfig()
