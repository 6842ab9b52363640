"""The lab on the real kernel, without the agent: what it promises to the demo, the tests and the user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from igmpconf.lab.lab import Lab
from igmpconf.lab.namespaces import LabError
from igmpconf.lab.stream import GROUPS
from igmpconf.lab.topology import NODES

pytestmark = pytest.mark.kernel
G1, G2 = GROUPS


def wait_for(what: Callable[[], object], *, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    try:
        running = Lab.up(tmp_path, with_agent=False, tied=True)
    except LabError as missing:
        pytest.skip(f"{missing.message}: {missing.hint}")
    yield running
    running.down()


def output(lab: Lab, node: str, command: str) -> str:
    """What a shell command prints on a node."""
    file = lab.home / "output"
    assert lab.run(node, ["sh", "-c", f"({command}) >{file} 2>&1"]) == 0
    return file.read_text()


def igmp_version(lab: Lab, host: str) -> str:
    """The version the kernel of `host` speaks on eth0, from /proc/net/igmp."""
    return next(line for line in output(lab, host, "cat /proc/net/igmp").splitlines() if "eth0" in line).split()[-1]


def test_the_router_has_the_three_interfaces_and_forwards_nothing_by_itself(lab: Lab) -> None:
    interfaces = output(lab, "router", "ip -br address show up")
    assert all(f"{name} " in interfaces.replace("@", " ") for name in ("wan", "lan0", "lan1"))
    lab.send(G1, rate_per_s=200)
    lab.join("h1", G1)
    wait_for(lambda: lab.sent().get(G1, 0) > 40)
    assert lab.counts()["h1"][G1].on_wire == 0


def test_the_hosts_speak_the_versions_they_are_said_to(lab: Lab) -> None:
    assert [igmp_version(lab, host) for host in ("h1", "h2", "h3")] == ["V3", "V2", "V3"]


def test_hosts_of_one_segment_hear_each_other(lab: Lab) -> None:
    """h2 sees on the wire what h1 is sent, and only its own joins reach its sockets."""
    lab.join("h2", G1)
    send = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.setsockopt(0, socket.IP_MULTICAST_IF, socket.inet_aton('10.10.0.1'));"
        f"[s.sendto(b'x', (group, 5004)) for group in ('{G1}', '{G2}')]"
    )
    assert lab.run("router", [sys.executable, "-c", send]) == 0
    wait_for(lambda: lab.counts()["h2"][G2].on_wire == 1)
    counts = lab.counts()
    assert (counts["h1"][G1].on_wire, counts["h2"][G1].on_wire, counts["h3"][G1].on_wire) == (1, 1, 0)
    assert not counts["h2"][G2].joined


def test_join_and_leave_are_the_kernels(lab: Lab) -> None:
    lab.join("h1", G1)
    lab.join("h1", "232.1.1.1", source="192.0.2.1")
    joined = output(lab, "h1", "cat /proc/net/igmp /proc/net/mcfilter")
    assert "010101EF" in joined
    assert "0xe8010101" in joined
    with pytest.raises(LabError, match="already joined"):
        lab.join("h1", G1)
    lab.leave("h1", G1)
    assert "010101EF" not in output(lab, "h1", "cat /proc/net/igmp")
    with pytest.raises(LabError, match="has not joined"):
        lab.leave("h1", G1)


def test_sources_are_joined_and_left_one_by_one(lab: Lab) -> None:
    for source in ("192.0.2.1", "192.0.2.9"):
        lab.join("h1", "232.1.1.1", source=source)
    assert output(lab, "h1", "cat /proc/net/mcfilter").count("0xe8010101") == 2
    lab.leave("h1", "232.1.1.1", source="192.0.2.9")
    assert output(lab, "h1", "cat /proc/net/mcfilter").count("0xe8010101") == 1
    assert lab.counts()["h1"]["232.1.1.1"].joined


def test_the_head_end_keeps_its_rate_and_its_numbers(lab: Lab) -> None:
    lab.send(G1, rate_per_s=1000)
    wait_for(lambda: lab.sent().get(G1, 0) > 200)
    lab.send(G1, rate_per_s=0)
    stopped = lab.sent()[G1]
    lab.send(G1, rate_per_s=1000)
    wait_for(lambda: lab.sent()[G1] > stopped)


@pytest.mark.parametrize(("group", "complaint"), [("not-a-group", "no IPv4 address"), ("10.0.0.1", "no multicast group"), ("ff05::1", "no IPv4 address")])
def test_a_join_that_cannot_be_is_told(lab: Lab, group: str, complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        lab.join("h1", group)
    assert group not in lab.counts()["h1"]


def test_what_the_kernel_refuses_is_told_with_its_host(lab: Lab) -> None:
    lab.run("h1", ["sh", "-c", "echo 0 >/proc/sys/net/ipv4/igmp_max_memberships"])
    with pytest.raises(LabError, match="h1: No buffer space"):
        lab.join("h1", G1)
    assert not lab.counts()["h1"][G1].joined


def test_a_command_gives_its_exit_code(lab: Lab) -> None:
    assert lab.run("h1", ["sh", "-c", "exit 7"]) == 7
    assert lab.run("h1", ["sh", "-c", "kill -9 $$"]) == 128 + 9
    assert lab.run("h1", ["no-such-program"]) == 127
    with pytest.raises(LabError, match="no host 'h9'"):
        lab.run("h9", ["true"])


def test_only_one_lab_in_one_place(lab: Lab) -> None:
    with pytest.raises(LabError, match="running already"):
        Lab.up(lab.home, with_agent=False, tied=True)


def test_down_leaves_nothing(tmp_path: Path) -> None:
    running = Lab.up(tmp_path, with_agent=False)
    pid = int((tmp_path / "lab.pid").read_text())
    assert supervised(tmp_path)
    running.down()
    assert not Path(f"/proc/{pid}").exists()
    assert not supervised(tmp_path)
    assert not (tmp_path / "control.sock").exists()
    with pytest.raises(LabError, match="no lab is running"):
        Lab.at(tmp_path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_lab_leaves_no_process_and_can_be_built_again(tmp_path: Path, how: signal.Signals) -> None:
    Lab.up(tmp_path, with_agent=False)._connection.close()
    pid = int((tmp_path / "lab.pid").read_text())
    assert len(supervised(tmp_path)) == len(NODES) + 2
    os.kill(pid, how)
    os.waitpid(pid, 0)
    wait_for(lambda: not supervised(tmp_path) and not answers(tmp_path))
    Lab.up(tmp_path, with_agent=False).down()


def test_a_tied_lab_ends_with_its_owner(tmp_path: Path) -> None:
    """Even when the owner is killed and can clean up nothing."""
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from pathlib import Path; from igmpconf.lab.lab import Lab; lab = Lab.up(Path({str(tmp_path)!r}), with_agent=False, tied=True); print(1, flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"1\n"
        assert supervised(tmp_path)
        owner.kill()
        wait_for(lambda: not supervised(tmp_path))


def answers(home: Path) -> bool:
    try:
        Lab.at(home)._connection.close()
    except LabError:
        return False
    return True


def supervised(home: Path) -> list[int]:
    """Processes of the lab under `home`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"igmpconf.lab.supervisor" in command and os.fsencode(home) + b"\0" in command:
                found.append(int(entry.name))
    return found


# What a kernel forbids is tried in a user namespace of ours, whose limits are ours to set.
BUILD = "from pathlib import Path; from igmpconf.lab.lab import Lab; lab = Lab.up(Path({!r}), with_agent=False, tied=True); lab.join('h1', '239.1.1.1'); assert lab.run('h1', ['true']) == 0; lab.down(); print('built')"


def build_after(tmp_path: Path, limits: str, wrapper: str = "") -> subprocess.CompletedProcess[str]:
    script = f'{limits}; exec {wrapper} {sys.executable} -c "{BUILD.format(str(tmp_path))}"'
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    return done


def test_root_needs_no_user_namespace(tmp_path: Path) -> None:
    done = build_after(tmp_path, "echo 0 >/proc/sys/user/max_user_namespaces")
    assert done.stdout == "built\n", done.stderr


def test_a_container_may_hide_parts_of_proc(tmp_path: Path) -> None:
    """Then the kernel refuses a fresh /proc, and processes have other numbers in the old one."""
    done = build_after(tmp_path, "mount -t tmpfs none /proc/bus")
    assert done.stdout == "built\n", done.stderr


def test_a_kernel_that_forbids_is_named_with_the_cure(tmp_path: Path) -> None:
    done = build_after(tmp_path, "echo 0 >/proc/sys/user/max_net_namespaces")
    assert "LabError: root may make no namespaces here" in done.stderr
    assert (
        lab_hint(tmp_path, "echo 0 >/proc/sys/user/max_net_namespaces") == "/proc/sys/user/max_net_namespaces is 0: sudo sysctl user.max_net_namespaces=10000"
    )


def test_a_container_without_capabilities_is_recognised(tmp_path: Path) -> None:
    limits, wrapper = "echo 0 >/proc/sys/user/max_user_namespaces", "setpriv --bounding-set -all --inh-caps -all"
    assert "LabError: root may make no namespaces here" in build_after(tmp_path, limits, wrapper).stderr


def lab_hint(tmp_path: Path, limits: str) -> str:
    script = "import igmpconf.lab.namespaces as namespaces\ntry: namespaces.new_world()\nexcept namespaces.LabError as complaint: print(complaint.hint)"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", f"{limits}; exec {sys.executable} -c '{script}'"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
