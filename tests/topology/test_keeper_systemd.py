"""The service manager as the second holder: sd_notify(3) and its descriptor store.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.kit.agent import Agent
from tests.kit.netns import wait_until
from tests.topology.test_keeper import CONFIG, G, flowing, net  # noqa: F401 - the same place

pytestmark = pytest.mark.kernel


class Manager:
    """The little of systemd that the agent speaks to."""

    def __init__(self, path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.said: list[str] = []
        self.store: dict[str, int] = {}

    def listen(self):
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, 4096, 1)
            except BlockingIOError:
                return self
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            self.said.append(data.decode())
            if "FDSTORE" in fields:
                self.store[fields["FDNAME"]] = fds[0]
            if "FDSTOREREMOVE" in fields:
                os.close(self.store.pop(fields["FDNAME"]))

    def close(self):
        self._socket.close()
        for fd in self.store.values():
            os.close(fd)


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_the_store_carries_the_streams_over_the_death_of_both_processes(net, tmp_path, manager, monkeypatch):  # noqa: F811
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    agent = Agent(net.router, tmp_path, CONFIG)
    wait_until(lambda: "READY=1" in manager.listen().said, "READY=1")
    assert list(manager.store) == ["ipv4-0-default"]
    with flowing(net) as stream:
        stream.passed(200)
        first = agent.engine_pid()
        agent.process.send_signal(signal.SIGSTOP)  # so that it does not start another worker
        os.kill(first, signal.SIGKILL)
        agent.process.kill()
        agent.process.wait(10)
        wait_until(lambda: agent.engine_pid() is None, "both are dead")
        stream.passed(200)
        agent.process = restarted(net.router, agent, manager)
        wait_until(lambda: agent.engine_pid(other_than=first), "the next worker")
        stream.passed(500)
    assert "routes/adopted" in agent.said()
    assert agent.stop() == 0
    assert "STOPPING=1" in manager.listen().said
    assert manager.store == {}
    assert net.router.run("ip mroute show") == ""


def test_without_a_store_the_streams_end_with_both_processes_and_come_back_with_the_hosts_answers(net, tmp_path):  # noqa: F811
    config = {"igmp-proxy": [CONFIG["igmp-proxy"][0] | {"query-response-interval": "500ms"}]}
    agent = Agent(net.router, tmp_path, config)
    stream = flowing(net)
    assert G in net.router.run("ip mroute show")
    first = agent.engine_pid()
    agent.process.send_signal(signal.SIGSTOP)  # so that it does not start another worker
    os.kill(first, signal.SIGKILL)
    agent.process.kill()
    agent.process.wait(10)
    wait_until(lambda: net.router.run("ip mroute show") == "", "nobody holds the entries")
    agent.start()
    wait_until(lambda: G in net.router.run("ip mroute show"), "the host answered the first query", 20)
    with stream:
        stream.passed(100)
    assert "routes/adopted" not in agent.said()
    assert agent.stop() == 0


def restarted(inside, agent, manager) -> subprocess.Popen:
    """As systemd starts a service again: stored descriptors from number 3 on, their names and the pid in the environment."""
    (name, fd) = next(iter(manager.store.items()))
    script = (
        "import os, sys\nfd = int(sys.argv[1])\nif fd != 3: os.dup2(fd, 3)\nos.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES=sys.argv[2], LISTEN_PID=str(os.getpid()))\nos.execv(sys.argv[3], sys.argv[3:])"
    )
    command = [sys.executable, "-m", "igmpconf.agent.main", "run", "--state-dir", str(agent.state_dir), "--socket", str(agent.socket)]
    with agent.log.open("ab") as log:
        return inside.popen([sys.executable, "-c", script, str(fd), name, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(fd,))
