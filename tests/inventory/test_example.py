"""The example fleet of the repository on real agents: planned, applied, and a stream that passes three proxies of it."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import igmpconf, place  # noqa: F401 - fixtures
from tests.kit.fleetlab import FleetLab
from tests.kit.netns import Net, wait_until
from tests.kit.wire import Member, Source

pytestmark = pytest.mark.kernel
GROUP = "232.1.1.1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Net() as net:
        yield FleetLab(net, tmp_path_factory.mktemp("fleet"))


def test_the_example_fleet_is_planned_applied_and_carries_a_stream_around_the_ring(lab, igmpconf, monkeypatch):  # noqa: F811
    monkeypatch.chdir(lab.project)
    first = igmpconf("plan", "--format", "json", "--detailed-exitcode")
    assert first.code == 2, first.err
    assert [device["device"] for device in json.loads(first.out)["devices"]] == list(lab.fleet.hosts)
    applied = igmpconf("apply", "--yes", "--allow-down", "*")
    assert applied.code == 0, applied.err
    again = igmpconf("plan", "--detailed-exitcode")
    assert again.code == 0, again.out
    assert "No changes" in again.out

    source = Source(lab.net, lab.inside["core"], "eth0", lab.inside["core"].run("ip -4 -o addr show dev eth0").split()[3].partition("/")[0])
    viewer = Member(lab.net, lab.inside["viewer"], "eth0", GROUP)
    viewer.allow(source.address)

    def arrives() -> bool:
        source.send(GROUP)
        return viewer.received > 0

    wait_until(arrives, "the stream at the far end of the ring")
    listed = json.loads(igmpconf("show", "groups", "-l", "ring", "--format", "json").out)["devices"]
    assert {one["device"]: {row["interface"] for row in one["rows"] if row["group"] == GROUP} for one in listed} == {
        "edge-a": {"ring1"},
        "edge-b": {"ring1"},
        "edge-c": {"ppp0"},
    }
    viewer.close()
