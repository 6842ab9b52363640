"""The harness measures what it says; how fast anything is, no test judges."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import fleet, igmp
from igmpconf.engine.messages import Query
from igmpconf.engine.wire.checksum import is_intact
from igmpconf.engine.wire.igmp import decode

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [2, 3])
def test_crafted_messages_are_valid_and_read_back(version: int) -> None:
    message, destination = igmp.join("239.1.1.1", version=version)
    assert is_intact(message)
    assert destination == {2: "239.1.1.1", 3: "224.0.0.22"}[version]
    assert igmp.groups_joined(message) == {"239.1.1.1"}
    assert igmp.groups_joined(igmp.leave("239.1.1.1", version=version)[0]) == set()


def test_a_report_of_many_groups_and_a_query_are_valid() -> None:
    groups = [bytes((239, 16, 0, last)) for last in range(170)]
    report = igmp.report(igmp.TO_EX, groups)
    assert is_intact(report)
    assert len(report) + 24 <= 1500
    assert len(igmp.groups_joined(report)) == 170
    assert decode(igmp.general_query(1_000), bytes(4)) == Query(bytes(4), 3, None, (), 1_000, 2, 125_000)


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
