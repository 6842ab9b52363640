"""The fleet on one page, with devices that answer, differ and do not answer."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from ipaddress import ip_address
from pathlib import Path

import jsonschema
import pytest

from igmpconf.cli.schema import text_of
from igmpconf.model.state import AgentState, CommitRow, DeviationRow, DeviceState, GroupRow, HostRow, InterfaceRow, MfcRow
from igmpconf.plan.report import MOST_GROUPS, Answer, document, json_schema, report, size_text


@pytest.fixture
def fleet(place, agent, monkeypatch):
    monkeypatch.delenv("IGMPCONF_DEVICE")
    (place / "inventory").mkdir()
    (place / "inventory" / "hosts.yaml").write_text(
        f"all:\n  vars: {{ansible_connection: local, igmpconf_config: ../home.yaml}}\n"
        f"  hosts:\n    'r1<b>': {{igmpconf_socket: {agent.socket_path}}}\n    dead: {{igmpconf_socket: {place}/none.sock}}\n"
    )
    return place


class Cells(HTMLParser):
    """The texts of all cells, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_page_of_a_fleet(igmpconf, fleet, agent):
    assert igmpconf("apply", "-l", "r1*", "--yes", "-m", "first <night>").code == 0
    said = igmpconf("report")
    assert said.code == 0, said.err
    assert "2 devices, 1 as wanted, 1 unreachable." in said.out
    row = next(line for line in said.out.splitlines() if line.startswith("| r1"))
    assert row.startswith(r"| r1\<b\> | ok | 2 | 1 | 0 | 0 B | ")
    assert "first" in row
    assert "| dead | unreachable: " in said.out
    assert "| 239.1.1.1 | 1 | 1 | 0 | 0 B |" in said.out

    agent.engine.present.discard("lan0")
    (fleet / "home.yaml").write_text((fleet / "home.yaml").read_text() + "      - lan1\n")
    assert igmpconf("report", "--html", "page.html").err.endswith("page.html: 2 devices, 0 as wanted\n")
    text = (fleet / "page.html").read_text()
    cells = [cell.strip() for cell in Cells(text).cells]
    at = cells.index("r1<b>")
    assert cells[at + 1] == "differs1 change to what is wanteddown: lan0 (downstream)"
    assert "first <night>" in cells[at + 7]
    assert "http" not in text  # nothing is fetched from anywhere
    assert "<b>" not in text.replace("<b class", "")


def state(host: str) -> DeviceState:
    groups = ["239.1.1.1", "239.1.1.2"]
    return DeviceState(
        agent=AgentState(version="1", uptime_s=90_061),
        groups=tuple(GroupRow(instance="p", interface="lan0", group=ip_address(group), mode="exclude") for group in groups),
        hosts=tuple(HostRow(instance="p", interface="lan0", group=ip_address(group), host=ip_address(host), mode="exclude") for group in groups),
        mfc=(MfcRow(instance="p", family="ipv4", source="*", group=ip_address(groups[0]), bytes=1_500_000, kind="learned", state="forwarding"),),
    )


def test_hosts_count_once_on_a_device_and_groups_over_all():
    page = report([Answer(device="a", state=state("10.0.0.9"), changes=0), Answer(device="b", state=state("10.0.0.9"))], at="now")
    assert [(line.groups, line.hosts, line.bytes, line.uptime) for line in page.devices] == [(2, 1, 1_500_000, "1 d 1 h")] * 2
    assert [(line.group, line.devices, line.hosts, line.bytes) for line in page.groups] == [("239.1.1.1", 2, 2, 3_000_000), ("239.1.1.2", 2, 2, 0)]
    many = DeviceState(groups=tuple(GroupRow(instance="p", interface="l", group=ip_address("239.0.0.0") + i, mode="exclude") for i in range(MOST_GROUPS + 7)))
    assert report([Answer(device="a", state=many)], at="now").groups_left_out == 7
    assert size_text(1_250_000_000) == "1.25 GB"


def test_as_json_it_has_values_and_fits_its_schema(igmpconf, fleet, agent):
    assert igmpconf("apply", "-l", "r1*", "--yes", "-m", "first <night>").code == 0
    agent.engine.present.discard("lan0")
    (fleet / "home.yaml").write_text((fleet / "home.yaml").read_text() + "      - lan1\n")
    said = igmpconf("report", "--format", "json")
    assert said.code == 0, said.err
    page = json.loads(said.out)
    jsonschema.validate(page, json_schema(), format_checker=jsonschema.FormatChecker())
    one, dead = page["devices"]
    assert (one["device"], one["status"], one["changes"]) == ("r1<b>", "differs", 1)
    assert one["down"] == [{"instance": "default", "interface": "lan0", "family": "ipv4", "role": "downstream"}]
    assert (one["last_commit"]["comment"], one["last_commit"]["event"]) == ("first <night>", "confirm")
    assert (dead["device"], dead["status"], set(dead)) == ("dead", "unreachable", {"device", "status", "error"})
    both = igmpconf("report", "--format", "json", "--html", "page.html")
    assert (both.code, (fleet / "page.html").exists()) == (64, False)


def test_the_document_leaves_nothing_out():
    many = tuple(GroupRow(instance="p", interface="l", group=ip_address("239.0.0.0") + i, mode="exclude") for i in range(MOST_GROUPS + 7))
    full = DeviceState(
        agent=AgentState(version="1", uptime_s=90_061),
        groups=many,
        interfaces=(InterfaceRow(instance="p", interface="l", family="ipv6", role="upstream", enabled=True, up=True),),
        deviations=(DeviationRow(kind="setting", name="rp_filter of wan", expected="0", found="1"),),
        history=tuple(CommitRow(number=n, time=f"2026-11-2{n}T00:00:00Z") for n in (3, 4, 2)),
    )
    page = document([Answer(device="a", state=full, changes=0), Answer(device="b"), Answer(device="c", error="gone")], at="2026-11-26T07:00:00Z")
    jsonschema.validate(json.loads(json.dumps(page)), json_schema())
    assert len(page["groups"]) == MOST_GROUPS + 7
    first = page["devices"][0]
    assert (first["status"], first["uptime_s"], first["last_commit"]["number"], first["down"]) == ("deviates", 90_061, 4, [])
    assert first["deviations"] == [{"kind": "setting", "name": "rp_filter of wan", "expected": "0", "found": "1"}]
    assert (page["devices"][1]["last_commit"], page["devices"][1]["changes"]) == (None, None)


def test_the_schema_of_a_report_is_printed():
    printed = Path(__file__).parents[2] / "schemas" / "report.schema.json"
    assert printed.read_text() == text_of("report"), "run: igmpconf schema report > schemas/report.schema.json"
