"""The example fleet of the repository on real agents: planned, applied, and a stream that passes three proxies of it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest

from tests.cli.conftest import igmpconf, place  # noqa: F401 - fixtures
from tests.kit.fleetlab import FleetLab
from tests.kit.netns import Namespace, Net, wait_until
from tests.kit.wire import Member, Source

pytestmark = pytest.mark.kernel
GROUP = "232.1.1.1"
LIMIT = "hotel-floor1,ring,home-01"  # of each kind; the others differ in values only, which `validate` has seen


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Net() as net:
        yield FleetLab(net, tmp_path_factory.mktemp("fleet"), LIMIT)


def test_the_example_fleet_is_planned_applied_and_carries_a_stream_around_the_ring(lab, igmpconf, monkeypatch):  # noqa: F811
    monkeypatch.chdir(lab.project)
    first = igmpconf("plan", "-l", LIMIT, "--format", "json", "--detailed-exitcode")
    assert first.code == 2, first.err
    assert [device["device"] for device in json.loads(first.out)["devices"]] == lab.names
    applied = igmpconf("apply", "-l", LIMIT, "--yes", "--allow-down", "*")
    assert applied.code == 0, applied.err
    again = igmpconf("plan", "-l", LIMIT, "--detailed-exitcode")
    assert again.code == 0, again.out
    assert "No changes" in again.out

    source = Source(lab.net, lab.inside["core"], "eth0", address_of(lab.inside["core"]))
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

    of_edge_c = lab.inventory / "host_vars" / "edge-c.yaml"
    before = of_edge_c.read_text()
    of_edge_c.write_text(before + "ring_previous: ppp0\nsubscribers: ring0\n")  # the wrong way round: nobody feeds it, and edge-b serves that LAN
    assert "[fleet/two-queriers]" in igmpconf("plan", "-l", "edge-b,edge-c").err
    of_edge_c.write_text(before + "subscribers: spare*\n")
    with sending(source):
        planned = json.loads(igmpconf("plan", "-l", "edge-c", "--format", "json").out)
    (removed,) = (change for change in planned["devices"][0]["changes"] if change["action"] == "-")
    assert removed["impact"]["level"] == "interrupts"
    (touched,) = removed["impact"]["groups"]
    assert (touched["interface"], touched["group"], touched["hosts"]) == ("ppp0", GROUP, [address_of(lab.inside["viewer"])])
    assert touched["bytes_per_s"] > 0

    adopted = igmpconf("adopt", "-l", LIMIT, "--into-inventory")  # edge-c back to what it runs, the others say it already
    assert adopted.code == 0, adopted.err
    assert adopted.err.count("the inventory says this already") == len(lab.names) - 1
    assert igmpconf("plan", "-l", LIMIT, "--detailed-exitcode").code == 0
    viewer.close()


@contextlib.contextmanager
def sending(source: Source) -> Iterator[None]:
    """A stream that flows until the block ends."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.02):
            source.send(GROUP, b"x" * 100)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def address_of(inside: Namespace) -> str:
    return inside.run("ip -4 -o addr show dev eth0").split()[3].partition("/")[0]
