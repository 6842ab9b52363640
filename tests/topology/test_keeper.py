"""Forwarding outlives the programs: kill -9 of the worker, of the keeper, upgrades; and how a start fails.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.kit.agent import Agent
from tests.kit.netns import Net, wait_until

pytestmark = pytest.mark.kernel
G, PORT = "239.1.1.1", 5000
CONFIG = {
    "igmp-proxy": [{"name": "default", "interfaces": [{"interface": "wan", "upstream": True}, "lan0"]}],
    "logging": {"action": "journal"},  # so that what the engine says is in what the agent said
}


@pytest.fixture
def net(tmp_path):
    with Net() as net:
        net.head, net.router, net.h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(net.router, "wan", net.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        yield net


class Stream:
    """A thousand datagrams a second, numbered, for as long as the block lasts."""

    def __init__(self, sender, receiver) -> None:
        self._sender, self._receiver = sender, receiver
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def _run(self) -> None:
        start = time.monotonic()
        while not self._is_over.wait(0.001):
            while self.sent < (time.monotonic() - start) * 1000:
                self._sender.send(G, PORT, b"%d" % self.sent)
                self.sent += 1
            _ = self._receiver.received  # a full buffer on the host would look like a loss on the way

    def __enter__(self):
        self._first = self._receiver.received
        self._thread.start()
        return self

    def passed(self, count: int) -> None:
        """Wait until `count` more were sent."""
        goal = self.sent + count
        wait_until(lambda: self.sent >= goal)

    def __exit__(self, *reason) -> None:
        self._is_over.set()
        self._thread.join()
        if reason[0] is None:
            wait_until(lambda: self._receiver.received - self._first >= self.sent, f"all of {self.sent}; {self._receiver.received - self._first} arrived", 3)
            numbers = self._receiver.payloads[self._first :]
            assert numbers == [b"%d" % number for number in range(self.sent)], "lost, doubled or out of order"


def flowing(net):
    head, on_h0 = net.sender(net.head, "eth0"), net.host(net.h0, "eth0", G, PORT)

    def one() -> bool:
        head.send(G, PORT, b"first")
        return on_h0.received > 0

    wait_until(one, "the stream")
    marker = b"marker"
    head.send(G, PORT, marker)
    wait_until(lambda: on_h0.received and on_h0.payloads[-1] == marker)
    return Stream(head, on_h0)


def test_kill_9_of_the_worker_loses_nothing_and_the_next_one_adopts_what_there_is(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    with flowing(net) as stream:
        stream.passed(300)
        for _ in range(2):
            first = agent.engine_pid()
            os.kill(first, signal.SIGKILL)
            wait_until(lambda first=first: agent.engine_pid(other_than=first), "the next worker")
            stream.passed(1000)
    assert agent.said().count("routes/adopted") == 2
    assert "the engine ended (killed by SIGKILL); starting it again" in agent.said()
    assert agent.stop() == 0
    assert net.router.run("ip mroute show") == ""


def test_a_member_that_left_while_the_worker_was_dead_is_forgotten(net, tmp_path):
    config = {"igmp-proxy": [CONFIG["igmp-proxy"][0] | {"query-response-interval": "500ms", "last-member-interval": "100ms"}]}
    agent = Agent(net.router, tmp_path, config)
    stream = flowing(net)
    first = agent.engine_pid()
    os.kill(agent.process.pid, signal.SIGSTOP)  # the keeper waits, so that nobody hears the leave
    os.kill(first, signal.SIGKILL)
    stream._receiver.leave()
    net.h0.run("ip link set eth0 down")
    net.h0.run("ip link set eth0 up")
    assert G in net.router.run("ip mroute show")
    os.kill(agent.process.pid, signal.SIGCONT)
    wait_until(lambda: agent.engine_pid(other_than=first), "the next worker")
    wait_until(lambda: G not in net.router.run("ip mroute show"), "nobody reported it again", 15)


def test_an_upgrade_restarts_the_worker_without_leaving(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    with flowing(net) as stream:
        first = agent.engine_pid()
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: agent.engine_pid(other_than=first), "the next worker")
        stream.passed(500)
    assert agent.stop() == 0


def test_kill_9_of_the_keeper_loses_nothing_and_the_worker_becomes_one(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    with flowing(net) as stream:
        first = agent.engine_pid()
        agent.process.kill()
        agent.process.wait(10)
        second = wait_until(lambda: agent.engine_pid(other_than=first), "the next worker")
        stream.passed(500)
        os.kill(second, signal.SIGKILL)
        third = wait_until(lambda: agent.engine_pid(other_than=second), "the worker after the next")
        stream.passed(500)
    assert int(Path(f"/proc/{third}/stat").read_text().rpartition(")")[2].split()[1]) == first
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: net.router.run("ip mroute show") == "" and not agent.engine_pid(), "a polite end")


def test_an_inherited_ssh_socket_survives_worker_and_keeper(net, tmp_path):
    door = net.socket(net.router, socket.AF_INET, socket.SOCK_STREAM)
    door.bind(("127.0.0.1", 0))
    door.listen()
    (tmp_path / "authorized").touch()
    options = ("--ssh-fd", str(door.fileno()), "--host-key", str(tmp_path / "key"), "--authorized-keys", str(tmp_path / "authorized"))
    agent = Agent(net.router, tmp_path, CONFIG, *options, pass_fds=(door.fileno(),))

    def banner() -> bytes:
        with net.router.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
            caller.settimeout(20)  # while nobody accepts, the call waits in the socket that was inherited
            caller.connect(door.getsockname())
            return caller.recv(8)

    assert banner() == b"SSH-2.0-"
    first = agent.engine_pid()
    os.kill(first, signal.SIGKILL)
    assert banner() == b"SSH-2.0-"
    second = wait_until(lambda: agent.engine_pid(other_than=first), "the next worker")
    agent.process.kill()
    agent.process.wait(10)
    wait_until(lambda: agent.engine_pid(other_than=second), "the worker after the next")
    assert banner() == b"SSH-2.0-"


def test_sigterm_leaves_the_upstream_and_the_kernel_clean(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    flowing(net)
    assert agent.stop() == 0
    assert net.router.run("ip mroute show") == ""
    assert "\n" not in net.router.run("cat /proc/net/ip_mr_vif").strip()
    assert not (agent.state_dir / "engine.pid").exists()
    assert not agent.socket.exists()


def refused(net, tmp_path, *arguments: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    command = [
        *prefix,
        sys.executable,
        "-m",
        "igmpconf.agent.main",
        "run",
        "--state-dir",
        str(tmp_path / "s"),
        "--socket",
        str(tmp_path / "x.sock"),
        *arguments,
    ]
    program = net.router.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, said = program.communicate(timeout=30)
    return program.returncode, said


def test_without_capabilities_it_says_so_and_exits_with_9(net, tmp_path):
    code, said = refused(net, tmp_path, prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert code == 9
    assert "lacks CAP_NET_ADMIN and CAP_NET_RAW" in said
    assert "hint: run the agent as root" in said


def test_a_second_agent_on_the_same_socket_or_directory_is_refused(net, tmp_path):
    agent = Agent(net.router, tmp_path, CONFIG)
    code, said = refused(net, tmp_path, "--socket", str(agent.socket))
    assert (code, "an agent already answers on" in said) == (1, True)
    code, said = refused(net, tmp_path, "--state-dir", str(agent.state_dir))
    assert (code, "uses the state directory" in said) == (1, True)
    assert agent.stop() == 0


def test_while_another_program_routes_multicast_the_agent_says_so_and_takes_over_when_it_ends(net, tmp_path):
    script = "import socket,sys; s=socket.socket(2,3,2); s.setsockopt(0,200,1); print(1,flush=True); sys.stdin.read()"
    other = net.router.popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline()
    agent = Agent(net.router, tmp_path, CONFIG)
    wait_until(lambda: f"(pid {other.pid}) already holds the IGMP multicast routing socket" in agent.said(), "its name in the log")
    other.stdin.close()
    other.stdout.close()
    other.wait(10)
    wait_until(lambda: "Iif: wan" in net.router.run("ip mroute show"), "the agent takes over", 40)
    flowing(net)
