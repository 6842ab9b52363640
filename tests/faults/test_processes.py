"""A sample of the matrix with real processes on the real kernel: the engine is really killed at a call, the disk and the kernel really refuse,
while a numbered stream passes that none of it concerns.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
                                        lan1 --- lan2, a cable that leads nowhere else
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import CASES
from tests.kit.agent import Agent
from tests.kit.netconf import IC, OURS, Client, errors_of
from tests.kit.netns import Net, wait_until
from tests.topology.test_keeper import CONFIG, flowing

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]
KILLS = (5, 11, 19)  # calls of the commit: the file of the commit, between the renames of the journal, among vifs and entries
REFUSALS = [(at, "ENOSPC") for at in (1, 2, 4, 7, 9, 12, 14)] + [(at, "EIO") for at in (3, 5, 8, 11)] + [(at, "kernel") for at in (1, 2, 3)]


class Striking(Agent):
    """The agent of striking.py."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.striking", str(self.state_dir), str(self.socket)]
            self.process = self.inside.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        wait_until(lambda: self.engine_pid() or self.process.poll() is not None, "the engine's pid", 30)
        assert self.process.poll() is None, self.said()

    def strike(self, at: int, what: str) -> Path:
        order = self.state_dir / "strike"
        new = order.with_suffix(".new")
        new.write_text(f"{at} {what}")
        new.rename(order)
        return order


def interfaces(*names: str) -> str:
    upstream = "<interfaces><interface>wan</interface><upstream>true</upstream></interfaces>"
    return f'<igmp-proxy xmlns="{OURS}"><name>default</name>{upstream}{"".join(f"<interfaces><interface>{name}</interface></interfaces>" for name in names)}</igmp-proxy>'


WITHOUT, WITH = ("lan0",), ("lan0", "lan1")


def edit(config: str) -> str:
    return f"<edit-config><target><candidate/></target><default-operation>replace</default-operation><config>{config}</config></edit-config>"


def running(agent: Striking) -> tuple[str, ...]:
    """The downstreams of the running configuration."""
    with Client.connected(agent.socket) as client:
        found = {one.text for one in client.config().findall(f"{IC}igmp-proxy/{IC}interfaces/{IC}interface")}
    return tuple(sorted(found - {"wan"}))


def in_kernel(router) -> tuple[str, ...]:
    """The downstreams that have a vif."""
    rows = router.run("cat /proc/net/ip_mr_vif").splitlines()[1:]
    return tuple(sorted({row.split()[1] for row in rows} - {"wan"}))


def served(agent: Striking) -> bool:
    try:
        running(agent)
    except (OSError, AssertionError):
        return False
    return True


@pytest.fixture
def net():
    with Net() as net:
        net.head, net.router, net.h0 = (net.namespace(name) for name in ("head", "router", "h0"))
        net.veth(net.router, "wan", net.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        net.veth(net.router, "lan1", net.router, "lan2", "10.3.0.1/24", "10.4.0.1/24")
        yield net


def test_real_kills_and_refusals_leave_old_or_new_and_no_stream_notices(net, tmp_path):
    agent = Striking(net.router, tmp_path, CONFIG)
    with flowing(net) as stream:
        for at, what in [*REFUSALS, *((at, "kill") for at in KILLS)]:
            old = running(agent)
            new = WITH if old == WITHOUT else WITHOUT
            first = agent.engine_pid()
            order = agent.strike(at, what)
            told = commit(agent, interfaces(*new))
            if told == "dead":
                wait_until(lambda first=first: agent.engine_pid(other_than=first), "the next worker", 30)
                wait_until(lambda: served(agent), "it serves", 30)
            struck = not order.exists()
            order.unlink(missing_ok=True)
            CASES[f"real process, {what}"] += 1
            now = running(agent)
            assert struck or told == "ok", f"{what} at {at} came not to pass"
            assert now in {old, new}, f"{what} at {at}: neither old nor new"
            assert told != "ok" or now == new, f"{what} at {at}"
            assert told in {"ok", "dead"} or now == old, f"{what} at {at}: told {told}"
            wait_until(lambda now=now: in_kernel(net.router) == now, f"{what} at {at}: the kernel does something else than {now}")
            assert commit(agent, interfaces(*WITHOUT)) == "ok", f"after {what} at {at}"
        stream.passed(50)
    assert agent.stop() == 0


def commit(agent: Striking, config: str) -> str:
    try:
        with Client.connected(agent.socket) as client:
            client.ok(edit(config))
            errors = errors_of(client.rpc("<commit/>"))
            if errors:
                client.ok("<discard-changes/>")
            return errors[0].app_tag or errors[0].kind[1] if errors else "ok"
    except (OSError, AssertionError):
        return "dead"
