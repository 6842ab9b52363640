"""A fleet: igmpconf beside Ansible's netconf_config and plain ncclient over real OpenSSH; then how one controller scales.

Every contender changes the same leaf of the same fifty agents, each behind an sshd of its own port on this machine, so
the devices' side takes the same from all.  The scale is measured over unix sockets through a relay that adds 50 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fleet_agents import more_files, names, socket_of
from bench.fleet_peers import CONFIG
from bench.machine import described
from bench.relay import Relay
from igmpconf.inventory import desired
from igmpconf.inventory.fleet import load

DEVICES = 50
SIZES = (10, 100, 1_000)
ROUND_TRIP_S = 0.05
MEASURES = ("fleet", "fleet-ssh", "fleet-scale", "fleet-render")
ANSIBLE = Path.home() / ".cache" / "igmpconf-bench" / "ansible"  # half a gigabyte, so it is kept
_PATIENCE_S = 60
_MOST_PORTS = 16  # of one sshd (MAX_LISTEN_SOCKS)
_MARKER = "<!-- the table: make bench ARGS='fleet --markdown docs/reference/measurements-fleet.md' -->"
_INTERVALS = ("60s", "90s")

# What `igmpconf-agent netconf` does, without the start of a Python for each session: fifty devices on the same two cores would
# be all that is measured.
# It names the constants of Linux by number: to load Perl's Socket takes five times as long as the rest of it.
_RELAY = r"""socket(S, 1, 1, 0) && connect(S, pack("Sa108", 1, $ARGV[0])) || exit 5;
sub put { my ($to, $data) = @_; while (length $data) { my $n = syswrite($to, $data); exit 0 unless defined $n; substr($data, 0, $n, ""); } }
my $want = ""; vec($want, 0, 1) = 1; vec($want, fileno(S), 1) = 1;
while (1) {
    select(my $ready = $want, undef, undef, undef);
    if (vec($ready, fileno(S), 1)) { my $n = sysread(S, my $data, 65536); exit 0 unless $n; put(*STDOUT, $data); }
    if (vec($ready, 0, 1)) { my $n = sysread(STDIN, my $data, 65536); if ($n) { put(*S, $data); } else { shutdown(S, 1); vec($want, 0, 1) = 0; } }
}
"""

Row = dict[str, object]


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    elsewhere_s: float  # CPU that the machine spent meanwhile on anything else: the devices, when it is quiet


def measured(command: Sequence[str], **keywords: object) -> Cost:
    """Run it; its own time and memory and those of its children.  Raises RuntimeError with what it said when it fails."""
    started, busy_s = time.perf_counter(), _busy_s()
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said, **keywords) as process:  # type: ignore[call-overload]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s, busy_s = time.perf_counter() - started, _busy_s() - busy_s
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {said.read().decode(errors='replace')[-3000:]}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Cost(wall_s, cpu_s, usage.ru_maxrss / 1024, busy_s - cpu_s)


def _busy_s() -> float:
    """What all cores have worked since the machine was started (proc(5), /proc/stat)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _wanted(interval: str) -> str:
    return f"igmp-proxy:\n  interfaces:\n    - {{interface: wan, upstream: yes}}\n    - {{interface: lan0, query-interval: {interval}}}\n"


@contextlib.contextmanager
def agents(home: Path, count: int) -> Iterator[None]:
    """A process of their own."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.fleet_agents", str(home), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError("the agents did not start")
            yield
        finally:
            process.stdin.close()
            process.wait(_PATIENCE_S)


# Over OpenSSH --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fleet:
    """Ports of sshd; which one is asked decides which agent answers."""

    home: Path
    ports: tuple[int, ...]

    @property
    def key(self) -> Path:
        return self.home / "user"


@contextlib.contextmanager
def behind_openssh(home: Path, count: int) -> Iterator[Fleet]:
    """Agents, and OpenSSH before them; yields what a client must know."""
    path = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        raise RuntimeError("sshd is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what its init script does
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    shutil.copy(home / "user.pub", home / "authorized_keys")
    with contextlib.ExitStack() as probes:
        ports = tuple(probes.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count))
    for port, name in zip(ports, names(count), strict=True):
        (home / str(port)).symlink_to(home / name)
    # The last word of SSH_CONNECTION is the port that was asked.
    agent = f"{home}/${{SSH_CONNECTION##* }}/agent.sock"
    perl = shutil.which("perl")
    (home / "relay.pl").write_text(_RELAY, encoding="ascii")
    relay = f"exec {perl} {home / 'relay.pl'} {agent}" if perl else f"exec {sys.executable} -m igmpconf.agent.main netconf --socket {agent}"
    lines = [
        "ListenAddress 127.0.0.1",
        f"HostKey {home / 'host'}",
        f"AuthorizedKeysFile {home / 'authorized_keys'}",
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 300",
        f"Subsystem netconf {relay}",
    ]
    host_key = " ".join((home / "host.pub").read_text(encoding="ascii").split()[:2])
    (home / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {host_key}\n" for port in ports), encoding="ascii")
    with (home / "sshd.log").open("wb") as log, agents(home, count), contextlib.ExitStack() as servers:
        for at in range(0, count, _MOST_PORTS):
            config = home / f"sshd_config-{at}"
            config.write_text("\n".join((*(f"Port {port}" for port in ports[at : at + _MOST_PORTS]), *lines)) + "\n", encoding="ascii")
            process = servers.enter_context(subprocess.Popen([*_without_bashrc(), path, "-D", "-e", "-f", str(config)], stderr=log))
            servers.callback(process.terminate)
        deadline = time.monotonic() + _PATIENCE_S
        while not all(_answers(port) for port in ports):
            if time.monotonic() > deadline:
                raise RuntimeError("sshd does not start: " + (home / "sshd.log").read_text(encoding="utf-8"))
        yield Fleet(home, ports)


def _without_bashrc() -> list[str]:
    """A command that runs the rest where root has no .bashrc.

    sshd runs a subsystem through the user's shell, and bash then reads that file; what a developer has in it (a fifth of a
    second here) is no part of a device.
    """
    bashrc = Path.home() / ".bashrc"
    if os.geteuid() != 0 or not bashrc.exists() or shutil.which("unshare") is None:
        return []
    return ["unshare", "--mount", "sh", "-c", 'mount --bind /dev/null "$0" && exec "$@"', str(bashrc)]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        time.sleep(0.05)
        return False


def ssh_rows(home: Path, runs: int) -> list[Row]:
    """Wall and CPU per device of each contender; CPU is that of the controller alone."""
    with behind_openssh(home, DEVICES) as fleet:
        inventory = _inventory(fleet)
        found: dict[str, list[Cost]] = {}
        for number in range(runs):
            _say(f"igmpconf, {DEVICES} devices, run {number + 1}")
            (home / "wanted.yaml").write_text(_wanted(_INTERVALS[number % 2]), encoding="ascii")
            command = [sys.executable, "-m", "igmpconf.cli.main", "apply", "-i", str(inventory), "--yes"]
            found.setdefault("igmpconf", []).append(measured(command, env={**os.environ, "XDG_STATE_HOME": str(home / "state-home")}))
        for name, threads in (("plain ncclient, one after the other", 1), ("plain ncclient, 32 threads", 32)):
            _say(name)
            command = [sys.executable, "-W", "ignore", "-m", "bench.fleet_peers", "120s" if threads == 1 else "150s", str(threads), str(fleet.key)]
            found[name] = [measured([*command, *map(str, fleet.ports)])]
        playbook = _ansible_playbook()
        if playbook is not None:
            for name, tasks in (("Ansible netconf_config, 32 forks", _ONE_TASK), ("Ansible reads, commits provisionally, reads, confirms; 32 forks", _CAREFUL)):
                _say(name)
                found[name] = [_ansible(playbook, fleet, tasks)]
    ours = statistics.median(cost.wall_s for cost in found["igmpconf"])
    rows: list[Row] = []
    for name, costs in found.items():
        wall_s, cpu_s, elsewhere_s = (statistics.median(getattr(cost, what) for cost in costs) for what in ("wall_s", "cpu_s", "elsewhere_s"))
        rows.append(
            {
                "measure": f"{DEVICES} devices over OpenSSH: {name}",
                "wall, s": round(wall_s, 2),
                "per device, ms": round(wall_s / DEVICES * 1000),
                "CPU per device, ms": round(cpu_s / DEVICES * 1000),
                "CPU of a device, ms": round(elsewhere_s / DEVICES * 1000),
                "times ours": round(wall_s / ours, 1),
            }
        )
    return rows


def _inventory(fleet: Fleet) -> Path:
    lines = ["all:", "  vars:", f"    ansible_user: {getpass.getuser()}", f"    ansible_ssh_private_key_file: {fleet.key}", "    ansible_host: 127.0.0.1"]
    lines += [f"    ansible_ssh_common_args: -o UserKnownHostsFile={fleet.home / 'known_hosts'}", "    igmpconf_config: wanted.yaml", "  hosts:"]
    lines += [f"    {name}: {{ansible_port: {port}}}" for name, port in zip(names(len(fleet.ports)), fleet.ports, strict=True)]
    path = fleet.home / "hosts.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def _ansible_playbook() -> Path | None:
    """Its program; installed the first time, because half a gigabyte is nothing to develop with."""
    named = os.environ.get("IGMPCONF_BENCH_ANSIBLE")
    program = Path(named) if named else ANSIBLE / "bin" / "ansible-playbook"
    if program.exists():
        return program
    _say(f"installing Ansible into {ANSIBLE}")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(ANSIBLE)], check=True)
        subprocess.run([str(ANSIBLE / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "ansible>=10", "ncclient", "paramiko"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        _say(f"Ansible cannot be installed: {error}; it is left out")
        return None
    return program


Task = dict[str, dict[str, object]]
# The module as its documentation uses it: lock, edit, validate, commit.
_ONE_TASK: tuple[Task, ...] = (
    {"ansible.netcommon.netconf_config": {"content": CONFIG.format("200s"), "lock": "always", "validate": True, "target": "candidate"}},
)


def _rpc(name: str, content: str | None = None) -> Task:
    parameters: dict[str, object] = {"rpc": name, "xmlns": "urn:ietf:params:xml:ns:netconf:base:1.0"}
    return {"ansible.netcommon.netconf_rpc": {**parameters, "content": content} if content is not None else parameters}


_READ: Task = {"ansible.netcommon.netconf_get": {"filter": '<state xmlns="urn:igmpconf:yang:igmpconf"/>'}}
# As near to what igmpconf does as the modules come: netconf_config's own `confirm` fails with ncclient 0.7, and none of them can
# confirm over another session than the one that committed.
_CAREFUL: tuple[Task, ...] = (
    _READ,
    _rpc("edit-config", "<target><candidate/></target>" + CONFIG.format("210s")),
    _rpc("commit", "<confirmed/><confirm-timeout>600</confirm-timeout>"),
    _READ,
    _rpc("commit"),
)


def _ansible(program: Path, fleet: Fleet, tasks: Sequence[Task]) -> Cost:
    play = [{"hosts": "all", "gather_facts": False, "connection": "ansible.netcommon.netconf", "tasks": tasks}]
    (fleet.home / "play.yml").write_text(json.dumps(play), encoding="ascii")
    hosts = {name: {"ansible_port": port} for name, port in zip(names(len(fleet.ports)), fleet.ports, strict=True)}
    variables = {
        "ansible_host": "127.0.0.1",
        "ansible_user": getpass.getuser(),
        "ansible_network_os": "default",
        "ansible_ssh_private_key_file": str(fleet.key),
        "ansible_host_key_checking": False,
        "ansible_python_interpreter": str(program.parent / "python3"),
    }
    (fleet.home / "ansible.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}), encoding="ascii")
    environment = {
        **os.environ,
        "HOME": str(fleet.home),
        "ANSIBLE_HOME": str(fleet.home / "ansible-home"),
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
    }
    return measured([str(program), "-f", "32", "-i", str(fleet.home / "ansible.yml"), str(fleet.home / "play.yml")], env=environment, cwd=str(fleet.home))


# Scale --------------------------------------------------------------------------------------------------------------------


def scale_rows(home: Path) -> list[Row]:
    """Plan and apply over a line with distance: devices a second, memory and threads of the controller."""
    more_files()
    rows: list[Row] = []
    with agents(home, max(SIZES)), Relay(ROUND_TRIP_S) as relay:
        far = home / "far"
        far.mkdir()
        for name in names(max(SIZES)):
            relay.unix(far / name, socket_of(home, name))
        for number, size in enumerate(SIZES):
            _say(f"{size} devices, {ROUND_TRIP_S * 1000:g} ms away")
            cost = _scaled(home, far, size, f"{300 + number}s")
            rows.append(
                {
                    "measure": f"{size} devices, {ROUND_TRIP_S * 1000:g} ms away",
                    "plan, devices/s": round(size / cost["plan_s"]),
                    "apply, devices/s": round(size / cost["apply_s"]),
                    "CPU per device, ms": round(cost["cpu_s"] / size * 1000, 1),
                    "peak memory, MB": round(cost["peak_mb"]),
                    "most threads": round(cost["threads"]),
                }
            )
    return rows


def _scaled(home: Path, far: Path, size: int, interval: str) -> dict[str, float]:
    lines = ["all:", "  vars: {ansible_connection: local, igmpconf_config: wanted.yaml}", "  hosts:"]
    lines += [f"    {name}: {{igmpconf_socket: {far / name}}}" for name in names(size)]
    (home / "hosts.yaml").write_text("\n".join(lines) + "\n", encoding="ascii")
    (home / "wanted.yaml").write_text(_wanted(interval), encoding="ascii")
    environment = {**os.environ, "XDG_STATE_HOME": str(home / "state-home")}
    done = subprocess.run(
        [sys.executable, "-m", "bench.fleet_controller", str(home / "hosts.yaml")], check=True, capture_output=True, text=True, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# Rendering ----------------------------------------------------------------------------------------------------------------


def render_rows(home: Path, count: int = 1_000) -> list[Row]:
    """Validation and rendering of an inventory whose hosts come from a template."""
    lines = ["all:", "  vars: {ansible_connection: local, igmpconf_config: router.yaml.j2}", "  hosts:"]
    lines += [f"    {name}: {{uplink: wan{number % 7}, interval: {60 + number % 60}s}}" for number, name in enumerate(names(count))]
    (home / "hosts.yaml").write_text("\n".join(lines) + "\n", encoding="ascii")
    template = (
        "igmp-proxy:\n  interfaces:\n    - {interface: {{ uplink }}, upstream: yes}\n"
        "{% for number in range(4) %}    - {interface: lan{{ number }}, query-interval: {{ interval }}}\n{% endfor %}"
    )
    (home / "router.yaml.j2").write_text(template, encoding="ascii")
    started = time.perf_counter()
    cpu = time.process_time()
    hosts = load(home / "hosts.yaml").select(None)
    made = desired.of_hosts(hosts)
    assert len(made) == count
    wall_ms, cpu_ms = (time.perf_counter() - started) * 1000, (time.process_time() - cpu) * 1000
    return [{"measure": f"{count} hosts rendered and validated", "wall per host, ms": round(wall_ms / count, 2), "CPU per host, ms": round(cpu_ms / count, 2)}]


# ------------------------------------------------------------------------------------------------------------------------


def run(wanted: set[str], options: argparse.Namespace) -> int:
    """The parts of this file that are wanted; prints, and writes what the options ask for."""
    tables: list[list[Row]] = []
    parts = {"fleet-ssh": lambda home: ssh_rows(home, runs=3), "fleet-scale": scale_rows, "fleet-render": render_rows}
    for name, part in parts.items():
        if wanted & {"fleet", name}:
            with tempfile.TemporaryDirectory(prefix="igmpconf-fleet-") as home:
                tables.append(part(Path(home)))
    text = "\n\n".join("\n".join(_table(rows)) for rows in tables)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        words, marker, _ = options.markdown.read_text(encoding="utf-8").partition(_MARKER)
        if not marker:
            raise SystemExit(f"{options.markdown} has no line {_MARKER}")
        options.markdown.write_text(f"{words}{marker}\n\n{described()}\n\n{text}\n", encoding="utf-8")
    return 0


def _table(rows: Sequence[Row]) -> list[str]:
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*lines, *("| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows)]


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def peak_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
