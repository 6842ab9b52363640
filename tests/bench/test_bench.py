"""The harness measures what it says; how fast anything is, no test judges."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import fleet, igmp, scale
from bench.speech import IGMP_SPEECH, MLD_SPEECH, Speech, datagram, link_local
from igmpconf.engine.messages import Query
from igmpconf.engine.wire.checksum import is_intact
from igmpconf.lab.lab import Lab
from igmpconf.lab.namespaces import LabError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [2, 3])
def test_crafted_messages_are_valid_and_read_back(version: int) -> None:
    message, destination = igmp.join("239.1.1.1", version=version)
    assert is_intact(message)
    assert destination == {2: "239.1.1.1", 3: "224.0.0.22"}[version]
    assert igmp.groups_joined(message) == {"239.1.1.1"}
    assert igmp.groups_joined(igmp.leave("239.1.1.1", version=version)[0]) == set()


@pytest.mark.parametrize("speech", [IGMP_SPEECH, MLD_SPEECH], ids=["igmp", "mld"])
def test_what_a_host_of_many_groups_says_is_valid_and_read_back(speech: Speech) -> None:
    sender = bytes((10, 20, 0, 13)) if speech is IGMP_SPEECH else link_local(0x13)
    numbers = set(range(0x100000, 0x100000 + 200))
    for version, per_packet, packets in ((speech.older, 1, 200), (speech.latest, speech.most_per_report, -(-200 // speech.most_per_report))):
        for kind in ("join", "refresh", "leave"):
            said = [speech.build(sender, destination, message) for message, destination in speech.messages(kind, version, 0x100000, 200, per_packet)]
            assert len(said) == packets
            assert max(map(len, said)) <= 1500
            heard = [one for packet in said for one in speech.told_about(datagram(packet))]
            assert {number for number, _ in heard} == numbers
            assert {is_join for _, is_join in heard} == {kind != "leave"}
    query = datagram(speech.build(sender, speech.family.all_hosts, speech.general_query(1_000)))
    assert list(speech.told_about(query)) == []
    assert speech.family.decode(query.payload, sender, query.destination, 1, True) == Query(sender, speech.latest, None, (), 1_000, 2, 125_000)


@pytest.mark.kernel
@pytest.mark.parametrize("part", ["mld-burst-v1", "mld-burst-v2"])
def test_a_burst_of_mld_is_measured_and_loses_nothing(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MANY", 200)
    try:
        lab = Lab.up(tmp_path, tied=True)
    except LabError as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    try:
        rows = {str(row["measure"]).partition(": ")[2]: row["igmpconf"] for row in scale.scale_rows(lab, frozenset({part}))}
    finally:
        lab.down()
    assert rows["groups reported upstream"] == 200
    assert rows["groups whose datagram arrives"] == 200
    assert rows["messages that the socket dropped"] == 0
    assert float(str(rows["CPU per group of the proxy, copies included"])) > 0


@pytest.mark.kernel
def test_it_runs_from_end_to_end(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--joins", "2", "--only", "joins", "--json", str(results)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "namespace" in done.stderr and done.returncode:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    rows = {row["measure"]: row for row in json.loads(results.read_text())}
    for version in (2, 3):
        assert rows[f"report to first datagram, v{version}, never"]["igmpconf"] == 0
        assert rows[f"join to report upstream, v{version}, never"]["igmpconf"] == 0


def test_the_scale_of_a_fleet_is_measured_from_inside_the_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SIZES", (1, 3))
    one, three = fleet.scale_rows(tmp_path)
    assert (one["measure"], three["measure"]) == ("1 devices, 50 ms away", "3 devices, 50 ms away")
    for row in (one, three):
        assert all(float(str(row[name])) > 0 for name in row if name != "measure"), row


def test_rendering_is_measured_for_each_host(tmp_path: Path) -> None:
    (row,) = fleet.render_rows(tmp_path, count=3)
    assert float(str(row["CPU per host, ms"])) > 0
