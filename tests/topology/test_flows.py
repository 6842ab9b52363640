"""Who sends behind a (*,G) entry, on the real kernel.

head 10.1.0.2, 10.1.0.3 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from igmpconf.engine.family import IGMP
from igmpconf.ids import TableId, VifIndex
from igmpconf.linux.flows import MOST_FLOWS, TABLE, WATCHED, Flows
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF
from igmpconf.linux.system import SystemKernel
from tests.kit.agent import Agent
from tests.kit.netns import Net, sysctl, wait_until

pytestmark = pytest.mark.kernel
G, PORT = "239.1.1.1", 5000


@pytest.fixture
def net():
    with Net() as net:
        net.head, net.router, net.h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(net.router, "wan", net.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        net.head.run("ip addr add 10.1.0.3/24 dev eth0")
        net.head.run("ip addr add 2001:db8:1::2/64 dev eth0 nodad")
        net.router.run("ip addr add 2001:db8:1::1/64 dev wan nodad")
        yield net


class Watching:
    """`Flows` on a loop of its own."""

    def __init__(self, program: str = "nft") -> None:
        self.notes = []
        self.loop = asyncio.new_event_loop()
        self.flows = Flows(loop=self.loop, log=self.notes.append, program=program)

    def watch(self) -> None:
        self.flows.watch()
        self.settle()

    def settle(self) -> None:
        async def wait():
            deadline = time.monotonic() + 8
            while self.flows.state == "starting":
                assert time.monotonic() < deadline
                await asyncio.sleep(0.002)

        self.loop.run_until_complete(wait())

    def seen(self) -> dict:
        self.flows._read = (0.0, [])  # now, not half a second ago
        return {(flow.ifindex, flow.source, flow.group): (flow.packets, flow.octets) for flow in self.flows.flows()}

    def end(self) -> None:
        self.flows.forget()
        self.flows.close()
        self.loop.close()


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def test_two_senders_behind_one_entry_are_told_apart_with_their_counters(net):
    def body():
        table = SystemKernel().open_table(IGMP, TableId(0))
        vifs = {"wan": VifIndex(0), "lan0": VifIndex(1)}
        for name, vif in vifs.items():
            table.add_vif(vif, socket.if_nametoindex(name))
        ttls = bytes([1, 1]) + bytes([NOT_AN_OIF]) * (MAX_VIFS - 2)
        table.set_route(None, None, vifs["wan"], ttls)
        table.set_route(None, socket.inet_aton(G), vifs["wan"], ttls)
        watching = Watching()
        watching.watch()
        assert watching.flows.state == WATCHED
        on_h0 = net.host(net.h0, "eth0", G, PORT)
        wan = socket.if_nametoindex("wan")
        for source, count in (("10.1.0.2", 30), ("10.1.0.3", 12)):
            head = net.sender(net.head, "eth0")
            head.bind(source)
            for _ in range(count):
                head.send(G, PORT, b"frame")
        wait_until(lambda: on_h0.received == 42)
        octets = 20 + 8 + len(b"frame")
        assert watching.seen() == {
            (wan, socket.inet_aton("10.1.0.2"), socket.inet_aton(G)): (30, 30 * octets),
            (wan, socket.inet_aton("10.1.0.3"), socket.inet_aton(G)): (12, 12 * octets),
        }
        (entry,) = [one for one in table.routes() if one.group]
        assert entry.source is None
        assert entry.packets == 42  # the entry itself cannot tell
        watching.end()
        assert TABLE not in ruleset()

    net.router.call(body)


def test_link_local_groups_membership_messages_and_unicast_are_no_streams(net):
    def body():
        watching = Watching()
        watching.watch()
        head = net.sender(net.head, "eth0")
        for group in ("224.0.0.251", "224.0.0.1"):
            head.send(group, PORT)
        net.host(net.head, "eth0", "239.9.9.9", PORT)  # its report goes to 224.0.0.22, in version 2 to the group itself
        sysctl(net.head, "ipv4/conf/eth0/force_igmp_version", 2)
        net.host(net.head, "eth0", "239.9.9.8", PORT)
        six = net.socket(net.head, socket.AF_INET6, socket.SOCK_DGRAM)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, net.head.call(socket.if_nametoindex, "eth0"))
        six.bind(("2001:db8:1::2", 0))
        for group in ("ff02::fb", "ff12::1", "ff01::1", "ff05::7", "ff3e::8"):
            six.sendto(b"frame", (group, PORT))
        six.sendto(b"frame", ("2001:db8:1::1", PORT))
        head.send(G, PORT)
        wan = socket.if_nametoindex("wan")
        source = socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")
        wanted = {
            (wan, source, socket.inet_pton(socket.AF_INET6, "ff05::7")),
            (wan, source, socket.inet_pton(socket.AF_INET6, "ff3e::8")),
            (wan, socket.inet_aton("10.1.0.2"), socket.inet_aton(G)),
        }
        wait_until(lambda: watching.seen().keys() >= wanted)
        assert watching.seen().keys() == wanted
        watching.end()

    net.router.call(body)


@pytest.mark.alone
def test_it_is_bounded_and_reading_all_of_it_is_quick(net):
    def body():
        watching = Watching()
        watching.watch()
        head = net.sender(net.head, "eth0")
        for number in range(MOST_FLOWS + 500):
            head.send(f"239.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", PORT)
        wait_until(lambda: len(watching.seen()) == MOST_FLOWS)
        best = min(_seconds(watching.seen) for _ in range(5))
        assert best < 0.25, "the engine's loop waits for this"
        watching.end()

    net.router.call(body)


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_a_reading_is_used_again_for_half_a_second(net):
    def body():
        watching = Watching()
        watching.watch()
        assert watching.flows.flows() == []
        net.sender(net.head, "eth0").send(G, PORT)
        assert watching.flows.flows() == []
        wait_until(watching.flows.flows)
        watching.end()

    net.router.call(body)


def test_a_restart_finds_the_counters_and_a_flushed_ruleset_is_mended(net):
    def body():
        first = Watching()
        first.watch()
        head = net.sender(net.head, "eth0")
        head.send(G, PORT)
        wait_until(first.seen)
        first.flows.close()  # as a process that was killed
        second = Watching()
        second.watch()
        head.send(G, PORT)
        wait_until(lambda: list(second.seen().values()) and next(iter(second.seen().values()))[0] == 2)
        assert ruleset().count("update @ipv4") == 1  # not twice
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert second.seen() == {}
        second.settle()
        assert second.flows.state == WATCHED
        head.send(G, PORT)
        wait_until(second.seen)
        second.end()
        first.loop.close()

    net.router.call(body)


def test_other_tables_are_left_alone(net):
    def body():
        subprocess.run(["nft", "add table inet mine"], check=True)
        watching = Watching()
        watching.watch()
        watching.end()
        assert "table inet mine" in ruleset()
        assert TABLE not in ruleset()

    net.router.call(body)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "the program does-not-exist is missing; install nftables"),
        (
            "#!/bin/sh\necho '/dev/stdin:2:1-9: Error: Could not process rule: Operation not supported' >&2\nexit 1\n",
            "Could not process rule: Operation not supported",
        ),
        ("#!/bin/sh\nexit 3\n", "exit code 3"),
    ],
)
def test_without_nft_the_state_says_why_and_nothing_fails(tmp_path, text, word):
    program = "does-not-exist"
    if text is not None:
        program = str(tmp_path / "nft")
        (tmp_path / "nft").write_text(text)
        (tmp_path / "nft").chmod(0o755)
    watching = Watching(program)
    watching.watch()
    assert word in watching.flows.state
    assert watching.flows.state.startswith("not watched: ")
    assert len(watching.flows.state) < 256
    assert [note.event for note in watching.notes] == ["sources/not-watched"]
    assert watching.flows.flows() == []
    watching.end()


@pytest.mark.alone
def test_a_slow_nft_delays_nobody(tmp_path):
    release = tmp_path / "release"
    os.mkfifo(release)
    (tmp_path / "nft").write_text(f"#!/bin/sh\nread x < {release}\n")
    (tmp_path / "nft").chmod(0o755)
    watching = Watching(str(tmp_path / "nft"))
    assert _seconds(watching.flows.watch) < 0.5
    assert watching.flows.flows() == []
    assert watching.flows.state == "starting"
    threading.Thread(target=lambda: release.write_text("go\n" * 2)).start()
    watching.settle()
    assert watching.flows.state == WATCHED
    threading.Thread(target=lambda: release.write_text("go\n"), daemon=True).start()  # and for the delete
    watching.end()


CONFIG = {"igmp-proxy": [{"name": "tv", "family": ["ipv4", "ipv6"], "interfaces": [{"interface": "wan", "upstream": True}, "lan0"]}]}


def show(agent: Agent, what: str) -> list[dict]:
    command = [sys.executable, "-m", "igmpconf.cli.main", "show", what, "-d", f"unix:{agent.socket}", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["devices"][0]["rows"]


def test_show_sources_of_a_whole_agent(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    tv = net.host(net.h0, "eth0", G, PORT)
    wait_until(lambda: [row for row in show(agent, "mfc") if row["group"] == G], "the entry")
    for source, count in (("10.1.0.2", 5), ("10.1.0.3", 7)):
        head = net.sender(net.head, "eth0")
        head.bind(source)
        for _ in range(count):
            head.send(G, PORT)
    wait_until(lambda: tv.received == 12)
    rows = wait_until(lambda: (found := show(agent, "sources")) and len(found) == 2 and found)
    assert [(row["interface"], row["source"], row["group"], row["packets"]) for row in rows] == [("wan", "10.1.0.2", G, 5), ("wan", "10.1.0.3", G, 7)]
    assert TABLE in net.router.run("nft list ruleset")
    assert agent.stop() == 0
    assert TABLE not in net.router.run("nft list ruleset")
