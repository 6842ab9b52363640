"""The rows of `show --format json` are a promise."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import jsonschema
import pytest

from igmpconf.apply.rows import ROW_SCHEMAS, VIEWS, json_schema
from igmpconf.cli.schema import text_of
from igmpconf.model.state import (
    DeviceState,
    GroupRow,
    HostRow,
    InterfaceRow,
    MfcRow,
    QuerierState,
    SourceRow,
    SourceTimer,
    counters,
)

# The promised keys, in order; `family` tells the rows of a dual-stack instance apart.
KEYS = {
    "groups": "instance interface group mode sources excluded version expires_s uptime_s last_reporter hosts",
    "mfc": "instance source group upstream downstreams packets bytes wrong_if kind state",
    "interfaces": "instance interface role enabled up addresses querier version counters",
    "sources": "interface source group packets bytes",
    "hosts": "interface group host mode sources expires_s",
}
G = ip_address("239.1.1.1")
STATE = DeviceState(
    interfaces=(
        InterfaceRow(
            instance="default",
            interface="lan0",
            family="ipv4",
            role="downstream",
            enabled=True,
            up=True,
            addresses=("10.0.0.1/24",),
            querier=QuerierState(address=ip_address("10.0.0.1"), self_=True, since_s=3, reason="started"),
            version=3,
            counters=counters({"received-report-v3": 2}),
        ),
        InterfaceRow(instance="default", interface="wan", family="ipv4", role="upstream", enabled=True, up=False),
    ),
    groups=(
        GroupRow(
            instance="default",
            interface="lan0",
            group=G,
            mode="include",
            sources=(SourceTimer(address=ip_address("192.0.2.7"), expires_s=9),),
            excluded=(ip_address("192.0.2.8"),),
            last_reporter=ip_address("10.0.0.9"),
        ),
    ),
    mfc=(MfcRow(instance="default", family="ipv4", source="*", group="*", upstream="wan", downstreams=("lan0",), kind="learned", state="forwarding"),),
    hosts=(HostRow(instance="default", interface="lan0", group=G, host=ip_address("10.0.0.9"), mode="exclude"),),
    sources=(SourceRow(interface="wan", source=ip_address("192.0.2.7"), group=G, packets=4),),
)


@pytest.mark.parametrize("name", list(VIEWS))
def test_rows_have_the_promised_keys_in_order_and_fit_their_schema(name):
    rows = VIEWS[name].rows(STATE)
    assert rows
    for row in rows:
        if name in KEYS:
            assert [key for key in row if key != "family"] == KEYS[name].split()
        jsonschema.validate(row, ROW_SCHEMAS[name])
    jsonschema.validate(json.loads(json.dumps({"devices": [{"device": "r", "rows": rows}, {"device": "x", "error": "gone"}]})), json_schema())


def test_what_is_not_known_is_null_never_zero():
    (group,) = VIEWS["groups"].rows(STATE)
    assert (group["expires_s"], group["hosts"]) == (None, None)
    assert VIEWS["interfaces"].rows(STATE)[0]["querier"] == {
        "address": "10.0.0.1",
        "self": True,
        "since_s": 3,
        "reason": "started",
        "robustness": None,
        "query_interval_s": None,
    }
    assert VIEWS["interfaces"].rows(STATE)[1]["querier"] is None


@pytest.mark.parametrize("name", ["doctor", "plan", "show"])
def test_printed_schemas_are_fresh(name):
    printed = Path(__file__).parents[2] / "schemas" / f"{name}.schema.json"
    assert printed.read_text() == text_of(name), f"run: igmpconf schema {name} > schemas/{name}.schema.json"


@pytest.mark.parametrize("name", list(VIEWS))
def test_show_asks_a_device(igmpconf, agent, name):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    said = json.loads(igmpconf("show", name, "--format", "json").out)
    jsonschema.validate(said, json_schema())
    assert said["devices"][0]["rows"] == VIEWS[name].rows(agent.engine.snapshot())


def test_tables_are_for_people(igmpconf, agent):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    lines = igmpconf("show", "groups").out.splitlines()
    assert lines[0].split()[:4] == ["INSTANCE", "INTERFACE", "GROUP", "MODE"]
    assert lines[1].split()[:4] == ["default", "lan0", "239.1.1.1", "exclude"]
    assert igmpconf("show", "sources").out == "nothing\n"


def test_explain_and_schema(igmpconf):
    assert "Minimum TTL" in igmpconf("explain", "threshold").out
    said = igmpconf("explain", "treshold")
    assert said.code == 3
    assert "threshold" in said.err
    assert igmpconf("schema").out == text_of("desired")
    assert igmpconf("schema", "yang").out.startswith("module igmpconf")


def test_agent_status(igmpconf, agent):
    (row,) = json.loads(igmpconf("agent", "status", "--format", "json").out)["devices"]
    assert row["version"]
    assert row["running"].startswith("sha256:")
    assert "VERSION" in igmpconf("agent", "status").out


def test_help_names_every_verb(igmpconf):
    said = igmpconf("--help")
    assert said.code == 0
    for verb in ("validate", "plan", "apply", "rollback", "show", "lab", "demo"):
        assert verb in said.out


def test_watch_shows_it_again_until_ctrl_c(igmpconf, agent, monkeypatch):
    igmpconf("apply", "-f", "home.yaml", "--yes")
    naps = []

    def nap(seconds):
        naps.append(seconds)
        agent.engine.groups["lan0"].add("239.1.1.2")
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("igmpconf.cli.show.time.sleep", nap)
    said = igmpconf("show", "groups", "--watch")
    assert said.code == 0
    assert (said.out.count("239.1.1.1"), said.out.count("239.1.1.2")) == (2, 1)
