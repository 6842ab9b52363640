"""`igmpconf sniff` on the real kernel: both directions in words, filters, and a file that tshark reads."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys

import pytest

from tests.kit.agent import Agent
from tests.kit.conformance import covers
from tests.kit.netns import wait_until

pytestmark = pytest.mark.kernel
G = "239.1.1.1"
CONFIG = {"igmp-proxy": [{"name": "default", "family": ["ipv4", "ipv6"], "interfaces": [{"interface": "wan", "upstream": True}, {"interface": "lan0"}]}]}


class Sniffer:
    """The command in the background; `rows` is what it has printed so far."""

    def __init__(self, agent: Agent, directory, *arguments: str) -> None:
        self._out = directory / "sniffed"
        self._err = directory / "said"
        command = [sys.executable, "-m", "igmpconf.cli.main", "sniff", "-d", f"unix:{agent.socket}", "--format", "json", *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        wait_until(lambda: "listening" in self.said() or self.process.poll() is not None, "the capture")

    def said(self) -> str:
        return self._err.read_text()

    @property
    def rows(self) -> list[dict]:
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


@pytest.fixture
def agent(site, tmp_path):
    running = Agent(site.router, tmp_path, CONFIG)
    yield running
    assert running.stop() == 0


@covers("R049", "R083", "R084", "R085")
def test_reports_and_queries_of_both_families_in_words_and_in_a_file(site, agent, tmp_path):
    sniffer = Sniffer(agent, tmp_path, "lan0", "--write", str(tmp_path / "x.pcapng"))
    site.member(site.h0, G).join()
    site.member(site.h0, "ff15::1").join()

    def found(**wanted):
        return [row for row in sniffer.rows if all(str(value) in str(row.get(name)) for name, value in wanted.items())]

    wait_until(lambda: found(direction="in", kind="report", message=f"{G} to-exclude {{}}"), "the report")
    wait_until(lambda: found(direction="in", protocol="MLD", kind="report", message="ff15::1 to-exclude {}"), "the MLD report")
    site.router.run("ip link set lan0 down")  # as it returns, the querier starts anew
    site.router.run("ip link set lan0 up")
    wait_until(lambda: found(direction="out", kind="query", message="general query"), "our query")
    assert sniffer.stop() == 0
    assert all(row["ttl"] == 1 for row in sniffer.rows)
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: the file is not looked at")
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "_ws.col.Protocol", "-e", "igmp.maddr"]
    done = subprocess.run(["tshark", "-r", str(tmp_path / "x.pcapng"), *fields], capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(sniffer.rows)
    assert any(line[2] == "IGMPv3" and line[3] == G for line in lines), done.stdout
    assert any(line[2] == "ICMPv6" for line in lines)
    assert {line[0] for line in lines} == {"lan0"}
    assert not any("alformed" in line[2] for line in lines)
    assert [int(line[1], 16) for line in lines] == [2 if row["direction"] == "out" else 1 for row in sniffer.rows]


def test_filters_a_count_and_nothing_but_membership(site, agent, tmp_path):
    sniffer = Sniffer(agent, tmp_path, "lan0", "--filter", "in", "--filter", G, "--count", "1")
    site.member(site.h0, "239.1.1.2").join()
    site.member(site.h0, G).join()
    source = site.source("10.1.0.2")
    for _ in range(20):
        source.send("239.1.1.2", b"data")
    assert sniffer.process.wait(10) == 0
    (row,) = sniffer.rows
    assert G in row["message"]
    assert row["direction"] == "in"


def test_a_missing_interface_and_a_capture_that_nobody_reads(site, agent, tmp_path):
    sniffer = Sniffer(agent, tmp_path, "nowhere0")
    assert sniffer.process.wait(10) == 6
    assert "cannot capture on nowhere0" in sniffer.said()
    with contextlib.suppress(ProcessLookupError):
        sniffer.process.kill()
    ended = Sniffer(agent, tmp_path, "lan0", "--seconds", "0.2")
    assert ended.process.wait(10) == 0
