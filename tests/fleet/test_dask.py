"""Legs on Dask: a real scheduler, real workers in processes of their own, and one of them killed in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from igmpconf.apply.executors import LegWithdrawn, begin, executor_of, withdrawal
from igmpconf.apply.session import device_state
from igmpconf.errors import IgmpconfError
from tests.fleet.agents import NAMES

pytestmark = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask is not installed: pip install 'igmpconf[dask]'")


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

    def workers(self, *names: str, threads: int = 6) -> None:
        for name in names:
            flags = ("--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--name", name, "--host", "127.0.0.1")
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


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A scheduler whose only worker does one thing at a time."""
    made = Cluster(tmp_path_factory.mktemp("narrow"))
    try:
        made.workers("one", threads=1)
        yield made
    finally:
        made.close()


def read_until(stream, words: str) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line)
        if words in line:
            break
    return lines


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_takes_back_what_no_worker_has_begun_and_names_the_rest(fleet, place, narrow, presses):
    """One leg is in the middle of its commit, five wait for the worker; its facts will not come, and it does not wait for them."""
    committing, gate = threading.Event(), threading.Event()

    def slowly(config) -> bool:
        if config.proxies:
            committing.set()
            gate.wait(60)
        return False

    for member in fleet.members.values():
        member.engine.present.discard("wan")
        member.engine.refuse = slowly
    flags = ("--confirm-timeout", "600s", "--verify-timeout", "200s")
    with subprocess.Popen(command(narrow, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            until(lambda: committing.is_set() or running.poll() is not None, narrow)
            running.send_signal(signal.SIGINT)
            said = read_until(running.stderr, "at work elsewhere")
            if presses == 2:
                running.send_signal(signal.SIGINT)
                running.wait(60)
            gate.set()
            _, err = running.communicate(timeout=90)  # long before the facts are given up
        finally:
            gate.set()
            running.kill()
    busy = said[-1].partition("still at work elsewhere: ")[2].partition(";")[0]
    assert busy in NAMES, "one and no more"
    others = [name for name in NAMES if name != busy]
    if presses == 1:
        assert running.returncode == 7, err
        assert f"rolled back, {busy} is as before: cancelled" in err
        assert f"not begun, as before: {', '.join(others)}: stopped before its turn" in err
    else:
        assert running.returncode == 8, err
        assert f"stopped while {busy} had an unconfirmed change or was at work elsewhere" in err
        assert "hint: igmpconf apply --resume " in err
    until(lambda: events(fleet, busy) == ["confirmed", "rollback-cancel"], narrow)
    assert not fleet[busy].interfaces()
    for name in others:
        with fleet[name].client() as client:
            assert device_state(client).history == (), f"{name} was begun"


def events(fleet, name) -> list[str]:
    with fleet[name].client() as client:
        return [row.event for row in sorted(device_state(client, ("history",)).history, key=lambda row: row.number)]


def test_what_is_withdrawn_is_never_begun_and_what_is_begun_is_not_withdrawn(narrow, tmp_path):
    import distributed

    started, gate = tmp_path / "started", tmp_path / "gate"
    wait = f"touch {started}; while [ ! -e {gate} ]; do sleep 0.05; done"

    def flags_left(dask_scheduler) -> list[str]:
        """Of legs that were begun."""
        return [name for name in dask_scheduler.extensions["events"]._events if name.startswith("igmpconf-leg-") and name.endswith("-begun")]

    with executor_of(f"dask://{narrow.address}") as executor:
        client = executor._client
        busy = executor.submit(subprocess.call, ["sh", "-c", wait])
        until(started.exists, narrow)
        queued = [executor.submit(subprocess.call, ["touch", str(tmp_path / str(number))]) for number in range(3)]
        assert not executor.withdraw(busy)
        assert [executor.withdraw(future) for future in queued[:2]] == [True, True]
        assert not executor.withdraw(queued[0]), "once is enough"
        names = {f"{executor._names[future]}-begun" for future in (busy, queued[2])}
        assert names & set(client.run_on_scheduler(flags_left)), "one of them is at work"
        gate.touch()
        assert busy.result(60) == 0
        assert queued[2].result(60) == 0
        assert not executor.withdraw(queued[2]), "it has ended"
        assert [(tmp_path / str(number)).exists() for number in range(3)] == [False, False, True]
        distributed.Event("late-withdrawn", client=client).set()  # as if the worker had it in its hands already
        with pytest.raises(LegWithdrawn):
            client.submit(begin, "late", subprocess.call, ["touch", str(tmp_path / "late")]).result(60)
        assert not (tmp_path / "late").exists()
        until(lambda: names.isdisjoint(client.run_on_scheduler(flags_left)), narrow)  # the scheduler forgets them


def test_futures_that_lie_about_being_cancelled_are_not_trusted():
    class Careless(Executor):
        pass

    with ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        busy, queued = pool.submit(gate.wait), pool.submit(gate.wait)
        assert [withdrawal(Careless())(queued), withdrawal(pool)(queued)] == [False, True]
        until(busy.running, types.SimpleNamespace(logs=str))
        assert not withdrawal(pool)(busy)
        gate.set()


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
