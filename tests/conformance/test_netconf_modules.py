"""Modules and their texts: netconf.md NC-151, NC-152, NC-157, and that replies are held against them at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from igmpconf.agent import library
from igmpconf.netconf.messages import ERROR_TAGS
from igmpconf.xmltext import parse
from tests.kit import yang
from tests.kit.conformance import covers
from tests.kit.netconf import BASE, NC, ONE_PROXY, OURS, RunningService

MONITORING = "urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"


@pytest.fixture
def client(tmp_path: Path):
    with RunningService(tmp_path) as running, running.client() as client:
        yield client


def schema(client, name: str, revision: str | None = None) -> str:
    version = f"<version>{revision}</version>" if revision else ""
    return client.rpc(f'<get-schema xmlns="{MONITORING}"><identifier>{name}</identifier>{version}</get-schema>').findtext(f"{{{MONITORING}}}data") or ""


@covers("NC-151", "NC-152")
def test_from_one_module_a_client_fetches_all_that_it_imports(client):
    wanted, fetched = ["igmpconf-netconf", "ietf-netconf-nmda", "ietf-netconf-acm", "nc-notifications"], {}
    while wanted:
        name = wanted.pop()
        text = schema(client, name)
        assert re.search(rf'^\s*module "?{name}"?', text, re.MULTILINE), name
        fetched[name] = text
        imported = re.findall(r'^\s*import\s+"?([\w-]+)', text, re.MULTILINE)
        wanted += [one for one in imported if one not in fetched]
    assert {"ietf-netconf", "ietf-yang-types", "ietf-inet-types", "ietf-origin", "ietf-yang-metadata"} <= set(fetched)


@covers("NC-151")
def test_every_module_of_monitoring_and_of_the_hello_can_be_fetched(client):
    found = client.data(f'<get><filter><netconf-state xmlns="{MONITORING}"><schemas/></netconf-state></filter></get>')
    rows = [{leaf.tag.rpartition("}")[2]: leaf.text for leaf in one} for one in found.iter(f"{{{MONITORING}}}schema")]
    assert [row["identifier"] for row in rows] == [one.name for one in library.listed()]
    for row in rows:
        assert row["location"] == "NETCONF"
        assert f'"{row["namespace"]}"' in schema(client, row["identifier"] or "", row["version"])
    known = {(row["identifier"], row["version"]) for row in rows}
    said = [one.text or "" for one in parse(client.greeting).iter(f"{NC}capability")]
    in_hello = {(match[1], match[2]) for one in said if (match := re.search(r"\?module=([\w-]+)&revision=([\d-]+)", one))}
    assert in_hello <= known


@covers("NC-157")
def test_modules_of_yang_1_0_are_in_the_hello(client):
    said = "\n".join(one.text or "" for one in parse(client.greeting).iter(f"{NC}capability"))
    for name in ("ietf-netconf-acm", "ietf-netconf-monitoring", "ietf-netconf-notifications"):
        assert f"?module={name}&" in said
        assert "yang-version 1.1" not in schema(client, name)
    assert "module=ietf-netconf-nmda" not in said  # of YANG 1.1: the library has it


def test_a_text_that_is_not_installed_is_said_to_be_where_it_is(client, monkeypatch):
    monkeypatch.setattr("igmpconf.schema.ietf._DIRECTORIES", ())
    library.text_of.cache_clear()
    library.has_text.cache_clear()
    try:
        error = client.error(f'<get-schema xmlns="{MONITORING}"><identifier>ietf-netconf-acm</identifier></get-schema>')
        assert (error.kind, "RFC 8341" in error.message) == (("application", "invalid-value"), True)
        found = client.data(f'<get><filter><netconf-state xmlns="{MONITORING}"><schemas/></netconf-state></filter></get>')
        placed = [
            one.findtext(f"{{{MONITORING}}}identifier") for one in found.iter(f"{{{MONITORING}}}schema") if one.find(f"{{{MONITORING}}}location") is not None
        ]
        assert placed == ["igmpconf", "igmpconf-netconf", "nc-notifications", "notifications"]
        assert "module igmpconf {" in schema(client, "igmpconf")
    finally:
        library.text_of.cache_clear()
        library.has_text.cache_clear()


@covers("NC-040")
def test_operations_of_our_modules_and_an_action_that_there_is_not(client):
    reply = client.rpc(f'<get-log xmlns="{OURS}"/>')
    assert len(reply)
    assert all(one.tag.startswith(f"{{{OURS}}}") for one in reply)
    error = client.error(f'<action xmlns="urn:ietf:params:xml:ns:yang:1"><state xmlns="{OURS}"><reset/></state></action>')
    assert error.kind == ("protocol", "unknown-namespace")


@covers("NC-039")
def test_the_obsolete_tag_is_not_among_those_that_can_be_sent():
    assert "partial-operation" not in ERROR_TAGS


def test_an_answer_of_ours_that_does_not_fit_is_noticed(client):
    asked = f'<get-log xmlns="{OURS}"/>'
    client.send(f'<rpc xmlns="{BASE}" message-id="1">{asked}</rpc>')
    reply = client.receive() or b""
    yang.check_answer(asked, reply, sees_all=True)
    with pytest.raises(Exception, match="nosuch"):
        yang.check_answer(asked, reply.replace(b"</rpc-reply>", b'<nosuch xmlns="%s"/></rpc-reply>' % OURS.encode()), sees_all=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<upstream>true</upstream>", "<upstream>yes</upstream>"),
        ("<interface>wan</interface><upstream>", "<upstream>"),
        ("<name>default</name>", "<name>default</name><nosuch/>"),
        ("urn:igmpconf:yang:igmpconf", "urn:igmpconf:yang:other"),
        ("<upstream>true</upstream>", ""),  # a must
    ],
)
def test_a_reply_that_does_not_fit_is_noticed(old, new):
    reply = f'<rpc-reply xmlns="{BASE}" message-id="1"><data>{ONE_PROXY}</data></rpc-reply>'
    yang.check_reply(reply.encode(), is_whole=True, is_config=True)
    with pytest.raises(Exception, match=r"."):
        yang.check_reply(reply.replace(old, new, 1).encode(), is_whole=True, is_config=True)
