"""One apply through real OpenSSH on loopback: the whole command, and what its parts take."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.ours import igmpconf
from igmpconf.apply.device import LadderPolicy
from igmpconf.apply.executor import Execution
from igmpconf.apply.journal import Journal
from igmpconf.apply.rollout import Rollout
from igmpconf.apply.session import DeviceSession
from igmpconf.cli.desired import of_files
from igmpconf.cli.devices import named_device
from igmpconf.cli.plan import make_plan
from igmpconf.ids import PersistId
from igmpconf.lab import example
from igmpconf.lab.keys import write_access
from igmpconf.lab.lab import Lab

_RUNS = 10
_PATIENCE_S = 10


def apply_rows(lab: Lab) -> list[dict[str, object]]:
    """The table's rows; a row that says why when OpenSSH is missing."""
    path = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        return [{"measure": "apply over OpenSSH: sshd is not installed", "unit": "ms"}]
    lab.start_agent()
    with open_sshd(path, lab.home / "openssh", lab.home / "agent.sock") as inventory:
        files = []
        for name, text in (("a.yaml", example.HOME), ("b.yaml", example.SLOWER_QUERIES)):
            files.append(lab.home / name)
            files[-1].write_text(text, encoding="utf-8")
        igmpconf(lab, "apply", "-f", str(files[0]), "--yes", inventory=inventory)
        whole = []
        for number in range(_RUNS):
            started = time.perf_counter()
            igmpconf(lab, "apply", "-f", str(files[(number + 1) % 2]), "--yes", inventory=inventory)
            whole.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-m", "igmpconf.cli.main", "apply", "--help"], check=True, stdout=subprocess.DEVNULL)
        start_ms = (time.perf_counter() - started) * 1000
        parts = _parts(inventory, files)
    rows = [{"measure": "one apply over OpenSSH, whole command", "igmpconf": statistics.median(whole), "unit": "ms"}]
    rows.append({"measure": "  of which: start of Python, imports", "igmpconf": start_ms, "unit": "ms"})
    return [*rows, *({"measure": f"  of which: {step}", "igmpconf": took_ms, "unit": "ms"} for step, took_ms in parts.items())]


def _parts(inventory: Path, files: list[Path]) -> dict[str, float]:
    """Median milliseconds of each step, in the order of the ladder; a step that is done twice counts with its sum."""
    device = named_device("router", inventory)
    taken: dict[str, list[float]] = {}
    for number in range(_RUNS):
        started = time.perf_counter()
        plan = make_plan((device,), [of_files([files[(number + 1) % 2]])])
        taken.setdefault("plan (connect, read, compare)", []).append((time.perf_counter() - started) * 1000)
        rollout = Rollout(plan=plan, persist_id=PersistId(plan.plan_id), policy=LadderPolicy(confirm_timeout_s=60), atomic="device")
        (name,) = rollout.ladders
        session = DeviceSession(target=device.target, plan=rollout.ladders[name].plan, plan_id=plan.plan_id)
        journal = Journal.create(rollout.persist_id, plan, atomic="device", confirm_timeout_s=60, targets={})
        try:
            Execution(rollout, {name: session}, journal).run()
        finally:
            journal.close()
        total: dict[str, float] = {}
        for timing in session.timings:
            step = "connect twice (SSH; sshd starts the relay)" if timing.step == "connect" else timing.step
            total[step] = total.get(step, 0) + timing.took_ms
        for step, took_ms in total.items():
            taken.setdefault(step, []).append(took_ms)
    return {step: statistics.median(times) for step, times in taken.items()}


@contextlib.contextmanager
def open_sshd(path: str, home: Path, agent_socket: Path) -> Iterator[Path]:
    """OpenSSH with `Subsystem netconf` on a free port; yields an inventory that leads there."""
    home.mkdir()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what its init script does
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    write_access(home, port)
    lines = (
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {home / 'host_key'}",
        f"AuthorizedKeysFile {home / 'authorized_keys'}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        f"Subsystem netconf {sys.executable} -m igmpconf.agent.main netconf --socket {agent_socket}",
    )
    (home / "sshd_config").write_text("\n".join(lines) + "\n", encoding="ascii")
    with (home / "sshd.log").open("wb") as log, subprocess.Popen([path, "-D", "-e", "-f", str(home / "sshd_config")], stderr=log) as process:
        try:
            deadline = time.monotonic() + _PATIENCE_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("sshd does not start: " + (home / "sshd.log").read_text(encoding="utf-8"))
                time.sleep(0.02)
            yield home / "inventory.yaml"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
