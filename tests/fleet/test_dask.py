"""Legs on Dask: a real scheduler, real workers in processes of their own, and one of them killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import types

import pytest

from igmpconf.apply.executors import executor_of
from igmpconf.apply.session import device_state
from igmpconf.errors import IgmpconfError
from tests.fleet.agents import Fleet

pytestmark = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask is not installed: pip install 'igmpconf[dask]'")

NAMES = [f"r{number}" for number in range(1, 7)]


@pytest.fixture
def fleet(tmp_path, place):
    (tmp_path / "agents").mkdir()
    with Fleet(tmp_path / "agents", NAMES) as made:
        made.inventory(place / "hosts.yaml", igmpconf_config="home.yaml")
        yield made


class Cluster:
    def __init__(self, home) -> None:
        self._home = home
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.processes = {"scheduler": self._start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")}

    def _start(self, name: str, *flags: str) -> subprocess.Popen:
        verb = "scheduler" if name == "scheduler" else "worker"
        environment = {**os.environ, "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False", "HOME": str(self._home)}
        with (self._home / f"{name}.log").open("wb") as log:
            return subprocess.Popen([sys.executable, "-m", "dask", verb, *flags], stdout=log, stderr=log, cwd=self._home, env=environment)

    def workers(self, *names: str) -> None:
        for name in names:
            flags = ("--nthreads", "6", "--no-nanny", "--no-dashboard", "--name", name, "--host", "127.0.0.1")
            self.processes[name] = self._start(name, f"tcp://{self.address}", *flags)
        for name in names:
            until(lambda name=name: "Starting established connection" in (self._home / f"{name}.log").read_text(), self)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes.pop(name).wait(10)

    def close(self) -> None:
        for name in list(self.processes)[::-1]:
            self.kill(name)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in self._home.glob("*.log"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and the worker `two`."""
    made = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        made.workers("two")
        yield made
    finally:
        made.close()


def until(holds, cluster, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, cluster.logs()
        time.sleep(0.05)


def command(cluster, *flags: str) -> list[str]:
    return [sys.executable, "-m", "igmpconf.cli.main", "apply", "-i", "hosts.yaml", "--yes", "--executor", f"dask://{cluster.address}", *flags]


def test_a_worker_that_is_killed_leaves_no_device_in_doubt(fleet, place, cluster):
    """All six devices wait, unconfirmed, for facts; half of the legs lose their worker, the other worker takes them over."""
    for member in fleet.members.values():
        member.engine.present.discard("wan")
    cluster.workers("one")
    flags = ("--confirm-timeout", "180s", "--verify-timeout", "60s")
    with subprocess.Popen(command(cluster, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            until(lambda: all(member.interfaces() for member in fleet.members.values()) or running.poll() is not None, cluster)
            cluster.kill("one")
            for member in fleet.members.values():
                member.engine.present.add("wan")
            out, err = running.communicate(timeout=90)
        finally:
            running.kill()
    assert running.returncode == 0, err + cluster.logs()
    assert "Applied to r1, r2, r3, r4, r5, r6 in " in out
    taken_over = 0
    for name in NAMES:
        with fleet[name].client() as client:
            state = device_state(client)
        assert state.agent.pending_persist_id is None
        assert state.history[-1].event == "confirm"
        assert state.history[-1].plan == state.history[0].plan
        assert fleet[name].interfaces() == ["lan0", "wan"]
        taken_over += any(row.event == "rollback-cancel" for row in state.history)
    assert 1 <= taken_over <= 5, "some climbs were begun anew by the other worker, and not all of them"


def test_an_atomic_fleet_on_workers_ends_alike(fleet, place, cluster):
    fleet["r4"].engine.present.discard("wan")
    done = subprocess.run(command(cluster, "--atomic", "fleet", "--verify-timeout", "1s"), capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "r4 took the change, but within" in done.stderr
    assert [name for name in NAMES if fleet[name].interfaces()] == []


@pytest.mark.parametrize(
    ("client", "words", "hint"),
    [
        (lambda *_, **__: types.SimpleNamespace(scheduler_info=lambda: {"workers": {}}, close=lambda: None), "has no workers", "dask worker tcp://s:1"),
        (lambda *_, **__: (_ for _ in ()).throw(OSError("timed out")), "does not answer: timed out", "dask scheduler"),
        (None, "Dask is not installed here", "igmpconf[dask]"),
    ],
)
def test_a_scheduler_that_cannot_be_used_is_told(monkeypatch, client, words, hint):
    monkeypatch.setitem(sys.modules, "distributed", None if client is None else types.SimpleNamespace(Client=client))
    with pytest.raises(IgmpconfError, match=words) as caught, executor_of("dask://s:1"):
        pass
    assert hint in caught.value.hint
