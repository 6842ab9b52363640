"""`igmpconf discard`: edits that another client left in the candidate are shown, thrown away, and in nobody's way any more."""

from __future__ import annotations

import io
import os

import pytest

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import UnixTarget
from igmpconf.schema.xml import config_to_xml


@pytest.fixture
def left_behind(igmpconf, agent):
    """A client edited and went: what Ansible does when a task after its edit fails."""
    assert igmpconf("apply", "-f", "home.yaml", "--yes").code == 0
    with NetconfClient.connect(UnixTarget(device="other", path=str(agent.socket_path))) as client:
        edit = from_plain(DeviceConfig, {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "lan0", "query-interval": "77s"}]}]})
        client.edit(config_to_xml(edit), default_operation="merge")


def test_who_meets_them_is_told_how_to_go_on(igmpconf, agent, left_behind, place):
    (place / "home.yaml").write_text((place / "home.yaml").read_text() + "      - {interface: lan1}\n")
    refused = igmpconf("apply", "-f", "home.yaml", "--yes")
    assert refused.code == 6
    assert "candidate has changes that were not committed" in refused.err
    assert "`igmpconf discard` shows them" in refused.err
    thrown = igmpconf("discard", "--yes")
    assert thrown.code == 0
    assert "~ igmp-proxy[default]/interfaces[lan0]/query-interval: 31.25s -> 1m17s" in thrown.out
    assert igmpconf("apply", "-f", "home.yaml", "--yes").code == 0


def test_without_any_nothing_is_done(igmpconf, agent):
    said = igmpconf("discard")
    assert (said.code, said.err.count("usage")) == (0, 0)
    assert "there is nothing to discard" in said.out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1)])
def test_a_person_is_asked(igmpconf, agent, left_behind, monkeypatch, answer, code):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert igmpconf("discard").code == code
    assert ("nothing to discard" in igmpconf("discard", "--yes").out) is (code == 0)


def test_nobody_to_ask_is_a_usage_error_and_nothing_is_thrown_away(igmpconf, agent, left_behind, monkeypatch):
    with open(os.devnull) as nothing:  # noqa: PTH123 - stdin wants a file
        monkeypatch.setattr("sys.stdin", nothing)
        assert igmpconf("discard").code == 64
    assert "discarded" in igmpconf("discard", "--yes").out


def test_a_dead_device_is_5(igmpconf, agent, tmp_path):
    assert igmpconf("discard", "-d", f"unix:{tmp_path}/nobody").code == 5
