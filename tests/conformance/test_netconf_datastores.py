"""The datastores of RFC 8342 over `<get-data>` and `<edit-data>` (RFC 8526): netconf.md NC-064 to NC-066."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.conformance import covers
from tests.kit.netconf import IC, ONE_PROXY, OURS, RunningService, edit_config, errors_of, threshold, threshold_in

NMDA = "urn:ietf:params:xml:ns:yang:ietf-netconf-nmda"
DATASTORES = "urn:ietf:params:xml:ns:yang:ietf-datastores"
ORIGINS = "urn:ietf:params:xml:ns:yang:ietf-origin"
NACM = "urn:ietf:params:xml:ns:yang:ietf-netconf-acm"
ORIGIN = f"{{{ORIGINS}}}origin"
LAN0 = f'<igmp-proxy xmlns="{OURS}"><name>default</name><interfaces><interface>lan0</interface></interfaces></igmp-proxy>'


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: RunningService):
    with service.client() as client:
        client.edit(ONE_PROXY)
        client.ok("<commit/>")
        yield client


def get_data(datastore: str, *parameters: str, subtree: str | None = None) -> str:
    chosen = f"<subtree-filter>{subtree}</subtree-filter>" if subtree is not None else ""
    return f'<get-data xmlns="{NMDA}" xmlns:ds="{DATASTORES}" xmlns:or="{ORIGINS}"><datastore>{datastore}</datastore>{chosen}{"".join(parameters)}</get-data>'


def data(client, datastore: str, *parameters: str, subtree: str | None = None):
    reply = client.rpc(get_data(f"ds:{datastore}", *parameters, subtree=subtree))
    assert [child.tag for child in reply] == [f"{{{NMDA}}}data"], errors_of(reply)
    return reply[0]


@covers("NC-064")
def test_every_datastore(client):
    client.edit(threshold(7))
    assert threshold_in(data(client, "running")) is None
    assert threshold_in(data(client, "intended")) is None
    assert threshold_in(data(client, "candidate")) == "7"
    assert threshold_in(data(client, "operational")) == "1"  # the default, which is in use
    for datastore in ("running", "intended", "candidate"):
        assert {one.tag for one in data(client, datastore)} == {f"{IC}igmp-proxy"}
    assert data(client, "operational").find(f"{IC}state/{IC}agent") is not None


@covers("NC-064")
@pytest.mark.parametrize("name", ["ds:startup", "running", "nc:running", "ds:dynamic", ""])
def test_a_datastore_that_there_is_not(client, name):
    assert client.error(get_data(name)).kind == ("protocol", "invalid-value")
    assert client.error(f'<get-data xmlns="{NMDA}"/>').info == {"bad-element": "datastore"}


@covers("NC-064")
def test_the_identity_may_have_any_prefix(client):
    asked = f'<get-data xmlns="{NMDA}"><datastore xmlns:x="{DATASTORES}">x:running</datastore></get-data>'
    assert client.rpc(asked)[0].find(f"{IC}igmp-proxy") is not None


@covers("NC-064")
def test_filters(client):
    assert [one.text for one in data(client, "running", subtree=LAN0).iter(f"{IC}interface")] == ["lan0"]
    assert len(data(client, "running", subtree="")) == 0
    only_config = data(client, "operational", "<config-filter>true</config-filter>")
    assert {one.tag for one in only_config} == {f"{IC}igmp-proxy", f"{IC}firewall", f"{IC}logging", f"{{{NACM}}}nacm"}
    only_state = data(client, "operational", "<config-filter>false</config-filter>")
    assert only_state.find(f"{IC}igmp-proxy") is None
    assert only_state.find(f"{IC}state") is not None
    assert {one.tag.rpartition("}")[2][:7] for one in only_state.find(f"{{{NACM}}}nacm") or ()} == {"denied-"}
    assert len(data(client, "running", "<config-filter>false</config-filter>")) == 0
    assert client.error(get_data("ds:running", "<config-filter>yes</config-filter>")).kind == ("protocol", "invalid-value")
    assert client.error(get_data("ds:running", "<xpath-filter>/</xpath-filter>")).kind == ("protocol", "unknown-element")


@covers("NC-064")
def test_depth(client):
    def shape(element) -> list:
        return [(child.tag.removeprefix(IC), shape(child)) for child in element]

    top = data(client, "running", "<max-depth>1</max-depth>")
    assert shape(top) == [("igmp-proxy", [("name", [])])]  # with its key, which says which entry it is
    two = data(client, "running", "<max-depth>2</max-depth>")
    assert shape(two) == [("igmp-proxy", [("name", []), ("interfaces", [("interface", [])]), ("interfaces", [("interface", [])])])]
    assert shape(data(client, "running", "<max-depth>unbounded</max-depth>")) == shape(data(client, "running"))
    selected = f'<igmp-proxy xmlns="{OURS}"><interfaces/></igmp-proxy>'
    deep = data(client, "running", "<max-depth>1</max-depth>", subtree=selected)  # counted from what was selected
    assert shape(deep) == [("igmp-proxy", [("interfaces", [("interface", [])]), ("interfaces", [("interface", [])])])]
    state = data(client, "operational", "<max-depth>2</max-depth>", subtree=f'<state xmlns="{OURS}"/>')
    assert state.find(f"{IC}state/{IC}agent") is not None
    assert state.find(f"{IC}state/{IC}agent/{IC}pid") is None
    for wrong in ("0", "65536", "-1", "all"):
        assert client.error(get_data("ds:running", f"<max-depth>{wrong}</max-depth>")).kind == ("protocol", "invalid-value")


@covers("NC-064", "NC-061")
def test_defaults(client):
    def thresholds(datastore: str, mode: str) -> list[tuple[str | None, bool]]:
        found = data(client, datastore, f"<with-defaults>{mode}</with-defaults>" if mode else "")
        return [(one.text, len(one.attrib) > 0) for one in found.iter(f"{IC}threshold")]

    client.edit(threshold(1))
    client.ok("<commit/>")
    assert thresholds("running", "") == [("1", False)]
    assert thresholds("running", "trim") == []
    assert thresholds("running", "report-all") == [("1", False), ("1", False)]
    assert thresholds("running", "report-all-tagged") == [("1", False), ("1", True)]
    for mode in ("", "explicit", "report-all"):  # RFC 8526 3.1.1.2: what is in use
        assert thresholds("operational", mode) == [("1", False), ("1", False)]
    assert thresholds("operational", "report-all-tagged") == [("1", False), ("1", True)]
    assert thresholds("operational", "trim") == []
    assert client.error(get_data("ds:running", "<with-defaults>some</with-defaults>")).kind == ("protocol", "invalid-value")


@covers("NC-065")
def test_operational_says_where_each_node_comes_from(client):
    client.ok(edit_config(f'<nacm xmlns="{NACM}"><rule-list><name>mine</name></rule-list></nacm>'))
    client.edit(threshold(7))
    client.ok("<commit/>")
    found = data(client, "operational", "<with-origin/>")
    proxy = found.find(f"{IC}igmp-proxy")
    assert proxy is not None
    assert proxy.get(ORIGIN) == "or:intended"
    interfaces = {one.findtext(f"{IC}interface"): one for one in proxy.findall(f"{IC}interfaces")}
    set_one, default_one = interfaces["lan0"].find(f"{IC}threshold"), interfaces["wan"].find(f"{IC}threshold")
    assert (set_one.get(ORIGIN), default_one.get(ORIGIN)) == (None, "or:default")  # None: as the parent
    lists = {one.findtext(f"{{{NACM}}}name"): one.get(ORIGIN) for one in found.iter(f"{{{NACM}}}rule-list")}
    assert lists == {"mine": None, "system-operators": "or:system"}
    assert found.find(f"{IC}state").get(ORIGIN) is None
    assert not [one for one in data(client, "operational").iter() if one.get(ORIGIN)]  # only who asks is told


@covers("NC-065")
def test_filters_by_origin(client):
    client.edit(threshold(7))
    client.ok("<commit/>")

    def names(*parameters: str) -> set[tuple[str, str | None]]:
        found = data(client, "operational", "<config-filter>true</config-filter>", *parameters)
        return {(one.tag.rpartition("}")[2], one.text) for one in found.iter() if not len(one)}

    intended = names("<origin-filter>or:intended</origin-filter>")
    assert ("threshold", "7") in intended
    assert ("threshold", "1") not in intended
    assert ("name", "default") in intended
    system = names("<origin-filter>or:system</origin-filter>")
    assert ("name", "system-operators") in system
    assert ("threshold", "7") not in system
    both = names("<origin-filter>or:intended</origin-filter>", "<origin-filter>or:default</origin-filter>")
    assert {("threshold", "7"), ("threshold", "1")} <= both
    assert names("<negated-origin-filter>or:default</negated-origin-filter>") == intended | system
    assert names("<origin-filter>or:origin</origin-filter>") == names()
    assert names("<origin-filter>or:learned</origin-filter>") == {("data", None)}
    refused = client.error(get_data("ds:operational", "<origin-filter>or:system</origin-filter><negated-origin-filter>or:system</negated-origin-filter>"))
    assert refused.kind == ("protocol", "bad-element")
    assert client.error(get_data("ds:operational", "<origin-filter>or:nowhere</origin-filter>")).kind == ("protocol", "invalid-value")
    for parameter in ("<with-origin/>", "<origin-filter>or:system</origin-filter>"):
        assert client.error(get_data("ds:running", parameter)).kind == ("protocol", "invalid-value")


@covers("NC-066")
def test_edit_data(client):
    def edit(datastore: str, config: str, *parameters: str) -> str:
        return (
            f'<edit-data xmlns="{NMDA}" xmlns:ds="{DATASTORES}"><datastore>ds:{datastore}</datastore>{"".join(parameters)}<config>{config}</config></edit-data>'
        )

    client.ok(edit("candidate", threshold(7)))
    assert threshold_in(client.config("candidate")) == "7"
    client.ok(edit("candidate", ONE_PROXY, "<default-operation>replace</default-operation>"))
    assert threshold_in(client.config("candidate")) is None
    for datastore in ("running", "intended", "operational", "startup"):
        assert client.error(edit(datastore, threshold(7))).kind == ("protocol", "invalid-value")
    assert client.error(edit("candidate", threshold(999))).kind == ("application", "invalid-value")
    half_bad = edit("candidate", threshold(7) + threshold(999))
    assert client.error(half_bad).kind == ("application", "invalid-value")
    assert threshold_in(client.config("candidate")) is None  # rollback-on-error
    assert client.error(edit("candidate", "", "<default-operation>create</default-operation>")).kind == ("protocol", "invalid-value")
    url = f'<edit-data xmlns="{NMDA}" xmlns:ds="{DATASTORES}"><datastore>ds:candidate</datastore><url>file:///x</url></edit-data>'
    assert client.error(url).kind == ("protocol", "operation-not-supported")


@covers("NC-066")
def test_locks_and_validate_take_the_datastores_of_nmda(service, client):
    def target(name: str) -> str:
        return f'<target><datastore xmlns="{NMDA}" xmlns:ds="{DATASTORES}">ds:{name}</datastore></target>'

    client.ok(f"<lock>{target('candidate')}</lock>")
    with service.client() as other:
        assert other.error("<lock><target><candidate/></target></lock>").kind == ("protocol", "lock-denied")
    client.ok(f"<unlock>{target('candidate')}</unlock>")
    assert client.error(f"<lock>{target('operational')}</lock>").kind == ("protocol", "invalid-value")
    client.ok(f"<validate>{target('running').replace('target>', 'source>')}</validate>")
    assert client.error(f"<edit-config>{target('candidate')}<config/></edit-config>").kind == ("protocol", "bad-element")


def test_what_may_not_be_read_is_in_no_datastore(service, client):
    rule = f'<rule><name>a</name><path xmlns:ic="{OURS}">/ic:igmp-proxy/ic:interfaces</path><action>deny</action></rule>'
    client.ok(edit_config(f'<nacm xmlns="{NACM}"><rule-list><name>x</name><group>*</group>{rule}</rule-list></nacm>'))
    client.ok("<commit/>")
    with service.client_of("eve") as eve:
        for datastore in ("running", "candidate", "intended", "operational"):
            found = data(eve, datastore)
            assert found.find(f"{IC}igmp-proxy") is not None
            assert found.find(f".//{IC}interfaces[{IC}upstream]") is None
            assert found.find(f"{{{NACM}}}nacm") is None
