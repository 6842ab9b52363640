r"""The main job on the real kernel: YAML, over SSH, becomes multicast that flows where it was joined.

                          h1 (IGMPv3)
                         /
    headend ---- router +  lan0
             wan        | \
                        |  h2 (IGMPv2)
                        lan1 ---- h3 (IGMPv3)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from igmpconf.lab import example
from igmpconf.lab.lab import Lab
from igmpconf.lab.namespaces import LabError
from igmpconf.lab.stream import GROUPS
from tests.kit.conformance import covers

pytestmark = pytest.mark.kernel
G1, G2 = GROUPS
RATE_PER_S = 500
ENOUGH = 200


def until(what: Callable[[], object], *, within_s: float = 12, why: str = "") -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, why or "did not come true in time"
        time.sleep(0.02)


class Site:
    """The lab, and the commands of somebody who works on its router."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory

    def igmpconf(self, *arguments: str, expected: int = 0) -> str:
        """Run a command and hold it to its exit code; what it says on stderr is returned with the rest when it must fail."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "igmpconf.cli.main", *arguments],
            cwd=self.directory,
            env=os.environ | {"XDG_STATE_HOME": str(self.lab.home.parents[1])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, f"igmpconf {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if expected == 0 else done.stdout + done.stderr

    def apply(self, text: str, *more: str, expected: int = 0) -> str:
        file = self.directory / "desired.yaml"
        file.write_text(text)
        return self.igmpconf("apply", "-f", str(file), "--yes", *more, expected=expected)

    def rows(self, what: str) -> list[dict[str, object]]:
        rows = json.loads(self.igmpconf("show", what, "--format", "json"))["devices"][0]["rows"]
        assert isinstance(rows, list)
        return rows

    def runs(self, text: str) -> bool:
        """Whether the router runs exactly this desired state."""
        file = self.directory / "wanted.yaml"
        file.write_text(text)
        return not json.loads(self.igmpconf("plan", "-f", str(file), "--format", "json"))["devices"][0]["changes"]

    def flows(self, host: str, group: str) -> None:
        start = self.lab.counts()[host][group].received
        until(lambda: self.lab.counts()[host][group].received - start >= ENOUGH, why=f"{group} does not reach {host}")

    def ends(self, *streams: tuple[str, str]) -> None:
        """Wait until nothing of these (host, group) has reached the wire of that host for 300 ms."""
        seen, since = [-1], time.monotonic()
        deadline = since + 12
        while time.monotonic() - since < 0.3:
            assert time.monotonic() < deadline, f"still on the wire, one of {streams}"
            counts = self.lab.counts()
            now = [counts[host][group].on_wire for host, group in streams]
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.02)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    try:
        lab = Lab.up(directory / "state" / "igmpconf" / "lab", tied=True)
    except LabError as missing:
        if "namespace" not in missing.message:
            raise
        pytest.skip(f"{missing.message}: {missing.hint}")
    for group in GROUPS:
        lab.send(group, rate_per_s=RATE_PER_S)
    yield Site(lab, directory)
    lab.down()


@pytest.fixture
def site(shared: Site) -> Iterator[Site]:
    """The example in force, nobody joined."""
    shared.apply(example.HOME)
    yield shared
    joined = [(host, group) for host, counts in shared.lab.counts().items() for group, count in counts.items() if count.joined]
    for host, group in joined:
        shared.lab.leave(host, group)
    shared.ends(*joined)


@covers("R012", "R028")
def test_a_stream_goes_where_it_was_joined_and_only_there(site: Site) -> None:
    before = site.lab.counts()
    site.lab.join("h1", G1)
    site.lab.join("h3", G2)
    site.flows("h1", G1)
    site.flows("h3", G2)
    now = site.lab.counts()
    assert now["h1"][G2].on_wire == before["h1"][G2].on_wire
    assert now["h3"][G1].on_wire == before["h3"][G1].on_wire
    assert now["h1"][G1].lost == now["h3"][G2].lost == 0


@covers("R006")
def test_a_v2_host_joins_and_leaves_beside_a_v3_host(site: Site) -> None:
    site.lab.join("h1", G1)
    site.lab.join("h2", G2)
    site.flows("h1", G1)
    site.flows("h2", G2)
    assert {(row["interface"], row["group"], row["version"]) for row in site.rows("groups")} == {("lan0", G1, 3), ("lan0", G2, 2)}
    site.lab.leave("h2", G2)
    site.ends(("h2", G2))
    site.flows("h1", G1)
    assert site.lab.counts()["h1"][G1].lost == 0


def test_a_leave_of_one_host_does_not_cut_off_its_neighbour(site: Site) -> None:
    site.lab.join("h1", G1)
    site.lab.join("h2", G1)
    site.flows("h2", G1)
    site.lab.leave("h2", G1)
    start = site.lab.counts()["h1"][G1].received
    # Longer than the last-member procedure takes (RFC 3376 8.8: two queries, 2 s), so that its end is seen too.
    until(lambda: site.lab.counts()["h1"][G1].received - start > 3 * RATE_PER_S)
    assert site.lab.counts()["h1"][G1].lost == 0


def test_a_source_that_was_not_asked_for_does_not_come(site: Site) -> None:
    site.lab.join("h3", G1, source="192.0.2.99")
    until(lambda: any(row["group"] == G1 for row in site.rows("groups")))
    before = site.lab.counts()["h3"][G1].on_wire
    site.lab.join("h3", G2, source="192.0.2.1")
    site.flows("h3", G2)
    assert site.lab.counts()["h3"][G1].on_wire == before


def test_a_second_apply_changes_nothing_and_makes_no_commit(site: Site) -> None:
    commits = site.igmpconf("history", "--format", "json")
    site.apply(example.HOME)
    assert site.runs(example.HOME)
    assert site.igmpconf("history", "--format", "json") == commits


def test_a_change_that_does_not_verify_is_rolled_back(site: Site) -> None:
    site.lab.join("h1", G1)
    site.flows("h1", G1)
    told = site.apply(example.WRONG_UPSTREAM, "--verify-timeout", "1s", expected=7)
    assert "wan9" in told
    assert site.runs(example.HOME)
    site.flows("h1", G1)


def test_an_unconfirmed_change_undoes_itself_and_no_stream_notices(site: Site) -> None:
    site.lab.join("h1", G1)
    site.flows("h1", G1)
    site.apply(example.SLOWER_QUERIES, "--no-confirm", "--confirm-timeout", "3s")
    until(lambda: site.runs(example.HOME))
    site.flows("h1", G1)
    assert site.lab.counts()["h1"][G1].lost == 0


def test_a_confirmed_change_stays(site: Site) -> None:
    told = site.apply(example.SLOWER_QUERIES, "--no-confirm", "--confirm-timeout", "30s")
    rollout = told.split("igmpconf confirm ")[1].split()[0]
    site.igmpconf("confirm", rollout)
    assert site.runs(example.SLOWER_QUERIES)
    assert "undo" not in site.igmpconf("confirm", rollout)  # settled: there is nothing left that a timer could undo


@pytest.mark.parametrize("how", ["kill", "renew"])
def test_the_engine_may_die_under_a_stream(site: Site, how: str) -> None:
    site.lab.join("h1", G1)
    site.lab.join("h3", G2)
    site.flows("h1", G1)
    site.flows("h3", G2)
    old = site.lab.kill_engine() if how == "kill" else site.lab.renew_engine()
    until(lambda: site.lab.engine_pid() not in (old, None))
    until(lambda: {row["group"] for row in site.rows("groups")} == {G1, G2}, why="the new engine does not know the groups")
    site.flows("h1", G1)
    site.flows("h3", G2)
    site.lab.join("h2", G2)
    site.flows("h2", G2)
    assert all(count.lost == 0 for counts in site.lab.counts().values() for count in counts.values())
