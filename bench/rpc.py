"""The agent as a program: NETCONF requests, commits with many static entries, memory, start, death, and what a stream loses meanwhile.

rpc-ask      requests on the socket and through OpenSSH
rpc-commit   commits with 10, 1,000 and 10,000 static entries
rpc-start    memory; from the interpreter to the first query; from kill -9 to an engine that works
rpc-loss     datagrams that a stream loses while the agent is killed, exchanged, upgraded, changed elsewhere
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.apply import open_sshd
from bench.probe import Probe, first_query
from igmpconf.apply.bundle import build
from igmpconf.lab.lab import Lab
from igmpconf.lab.stream import GROUPS, PORT
from igmpconf.lab.topology import ROUTER
from igmpconf.netconf.framing import Decoder, framed

MEASURES = ("rpc-ask", "rpc-commit", "rpc-start", "rpc-loss")

_BASE = "urn:ietf:params:xml:ns:netconf:base:1.0"
_OURS = "urn:igmpconf:yang:igmpconf"
_HELLO = f'<hello xmlns="{_BASE}"><capabilities><capability>urn:ietf:params:netconf:base:1.1</capability></capabilities></hello>'
_GET_CONFIG = "<get-config><source><running/></source></get-config>"
_GET_AGENT = f'<get><filter type="subtree"><state xmlns="{_OURS}"><agent/></state></filter></get>'
_STATICS = (10, 1_000, 10_000)
_PATIENCE_S = 60.0
_RATES = (1_000, 20_000)
_BEFORE_S, _AFTER_S = 0.5, 1.0

Row = dict[str, object]


def rpc_rows(lab: Lab, only: frozenset[str]) -> list[Row]:
    """The table's rows, of all measures unless `only` names some."""
    rows: list[Row] = []
    for name, measure in (("rpc-ask", _ask), ("rpc-commit", _commits), ("rpc-start", _starts), ("rpc-loss", _losses)):
        if not only or name in only:
            sys.stderr.write(f"igmpconf: {name}\n")
            lab.stop_agent()
            shutil.rmtree(lab.home / "agent", ignore_errors=True)  # each measure begins with a device that has no history
            lab.start_agent()
            rows += measure(lab)
    return rows


def _row(measure: str, value: float | None, unit: str = "") -> Row:
    return {"measure": measure, "igmpconf": value, "unit": unit}


class Session:
    """A NETCONF session that does nothing but frame: what it takes is the agent's time."""

    def __init__(self, read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
        self._read, self._write = read, write
        self._decoder = Decoder()
        self._message()
        write(framed(_HELLO.encode(), is_chunked=False))
        self._decoder.use_chunks()
        self._number = 0

    def _message(self) -> bytes:
        while (message := self._decoder.next_message()) is None:
            data = self._read(1 << 16)
            if not data:
                raise RuntimeError("the agent closed the session")
            self._decoder.feed(data)
        return message

    def tell(self, operation: str) -> None:
        self._number += 1
        self._write(framed(f'<rpc xmlns="{_BASE}" message-id="{self._number}">{operation}</rpc>'.encode(), is_chunked=True))

    def hear(self) -> bytes:
        reply = self._message()
        if b"<rpc-error>" in reply:
            raise RuntimeError(reply.decode())
        return reply

    def ask(self, operation: str) -> float:
        """Milliseconds."""
        started = time.perf_counter()
        self.tell(operation)
        self.hear()
        return (time.perf_counter() - started) * 1000


@contextlib.contextmanager
def _on_socket(lab: Lab) -> Iterator[Session]:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(lab.home / "agent.sock"))
            session = Session(connection.recv, connection.sendall)
            break
        except (OSError, RuntimeError):  # nobody there yet, or one who was about to end
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)
    with connection:
        yield session


# -- requests ----------------------------------------------------------------------------------------------------------


def _ask(lab: Lab) -> list[Row]:
    with _on_socket(lab) as session:
        session.ask(_edit(_proxy()))
        session.ask("<commit/>")
        rows = _asked(session, "socket", 2_000)
        started = time.perf_counter()
        for _ in range(2_000):
            session.tell(_GET_CONFIG)
            session.hear()
        rows.append(_row("RPCs a second, socket, one after the other", 2_000 / (time.perf_counter() - started)))
        started = time.perf_counter()
        for _ in range(20):  # as many under way as fit a socket's buffer
            for _ in range(100):
                session.tell(_GET_CONFIG)
            for _ in range(100):
                session.hear()
        rows.append(_row("RPCs a second, socket, 100 under way", 2_000 / (time.perf_counter() - started)))
    path = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        return [*rows, _row("through OpenSSH: sshd is not installed", None)]
    with open_sshd(path, lab.home / "openssh-rpc", lab.home / "agent.sock") as inventory:
        rows += _through_openssh(inventory.parent)
    return rows


def _asked(session: Session, way: str, times: int) -> list[Row]:
    rows = []
    for name, operation in (("get-config", _GET_CONFIG), ("get of the agent's state", _GET_AGENT), ("discard-changes", "<discard-changes/>")):
        took = [session.ask(operation) for _ in range(times)]
        rows.append(_row(f"{name}, {way}, median", statistics.median(took), "ms"))
        rows.append(_row(f"{name}, {way}, p99", statistics.quantiles(took, n=100)[98], "ms"))
    return rows


def _through_openssh(home: Path) -> list[Row]:
    port = next(line.split()[1] for line in (home / "sshd_config").read_text(encoding="ascii").splitlines() if line.startswith("Port "))
    command = ["ssh", "-F", "none", "-i", str(home / "client_key"), "-p", port, "-o", f"UserKnownHostsFile={home / 'known_hosts'}", "-o", "IdentitiesOnly=yes"]
    command += ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-s", "127.0.0.1", "netconf"]
    opened = []
    for _ in range(5):
        started = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            session = Session(client.stdout.read, client.stdin.write)
            session.ask(_GET_CONFIG)
            opened.append((time.perf_counter() - started) * 1000)
            if len(opened) == 5:
                rows = _asked(session, "OpenSSH", 500)
            client.stdin.close()
    return [_row("OpenSSH: from `ssh` to the first answer, median", statistics.median(opened), "ms"), *rows]


# -- commits -----------------------------------------------------------------------------------------------------------


def _proxy(statics: int = 0, query_interval: str = "125s") -> str:
    interfaces = "<interfaces><interface>wan</interface><upstream>true</upstream></interfaces>"
    interfaces += "".join(f"<interfaces><interface>{name}</interface></interfaces>" for name in ("lan0", "lan1"))
    entries = "".join(_entry(number) for number in range(statics))
    return f'<igmp-proxy xmlns="{_OURS}"><name>default</name><query-interval>{query_interval}</query-interval>{interfaces}{entries}</igmp-proxy>'


def _entry(number: int) -> str:
    group = socket.inet_ntoa((0xEF400000 + number).to_bytes(4))
    return f"<mfc><source>10.1.0.9</source><group>{group}</group><downstream-interface>lan0</downstream-interface></mfc>"


def _edit(config: str, operation: str = "merge") -> str:
    return f"<edit-config><target><candidate/></target><default-operation>{operation}</default-operation><config>{config}</config></edit-config>"


def _commits(lab: Lab) -> list[Row]:
    rows = []
    with _on_socket(lab) as session:
        for count in _STATICS:
            session.ask(_edit(_proxy(), "replace"))
            session.ask("<commit/>")
            name = f"{count} static entries: "
            rows.append(_row(name + "edit-config", session.ask(_edit(_proxy(count), "replace")), "ms"))
            rows.append(_row(name + "validate", session.ask("<validate><source><candidate/></source></validate>"), "ms"))
            rows.append(_row(name + "commit of them", session.ask("<commit><confirmed/></commit>"), "ms"))
            rows.append(_row(name + "confirm", session.ask("<commit/>"), "ms"))
            one = f'<igmp-proxy xmlns="{_OURS}"><name>default</name>{_entry(count)}</igmp-proxy>'
            rows.append(_row(name + "edit-config of one more", session.ask(_edit(one)), "ms"))
            rows.append(_row(name + "commit of one more", session.ask("<commit/>"), "ms"))
            rows.append(_row(name + "get-config", session.ask(_GET_CONFIG), "ms"))
            rows.append(_row(name + "state directory", sum(path.stat().st_size for path in (lab.home / "agent").rglob("*.json")) / 1e6, "MB"))
        session.ask(_edit(_proxy(), "replace"))
        rows.append(_row(f"{_STATICS[-1]} static entries: commit that removes them", session.ask("<commit/>"), "ms"))
    return rows


# -- start and death ---------------------------------------------------------------------------------------------------


def _starts(lab: Lab) -> list[Row]:
    with _on_socket(lab) as session:
        session.ask(_edit(_proxy()))
        session.ask("<commit/>")
    rows = _memory(lab)
    listener = first_query(lab, "h1")
    try:
        started, answered = [], []
        for _ in range(5):
            lab.stop_agent()
            at_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            listener.tell(after_ns=at_ns)
            lab.start_agent()
            started.append((_at(listener) - at_ns) / 1e6)
        rows.append(_row("from the start of Python to the first query on the wire, median of 5", statistics.median(started), "ms"))
        dead = []
        for _ in range(5):
            at_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            listener.tell(after_ns=at_ns)
            lab.kill_engine()
            with _on_socket(lab) as session:
                session.ask(_GET_AGENT)
                answered.append((time.clock_gettime_ns(time.CLOCK_REALTIME) - at_ns) / 1e6)
            dead.append((_at(listener) - at_ns) / 1e6)
    finally:
        listener.close()
    rows.append(_row("CPU of a start, up to there", _cpu_ms(lab), "ms"))
    rows.append(_row("from kill -9 of the engine to the query of the next one, median of 5", statistics.median(dead), "ms"))
    rows.append(_row("from kill -9 of the engine to its answer to a <get>, median of 5", statistics.median(answered), "ms"))
    rows.append(_row("CPU of `igmpconf-agent --version` from the one file", _one_file_ms(lab.home), "ms"))
    return rows


def _at(listener: Probe) -> int:
    at_ns = listener.answer()["query_ns"]
    if at_ns is None:
        raise RuntimeError("no query came")
    return at_ns


def _cpu_ms(lab: Lab) -> float:
    """Of the engine that started last, so far."""
    engine = lab.engine_pid()
    probe = Probe(lab, ROUTER, lambda _: {"us": sum(map(_scheduled_ns, Path(f"/proc/{engine}/task").iterdir())) // 1000})
    try:
        return (probe.ask()["us"] or 0) / 1000
    finally:
        probe.close()


def _scheduled_ns(task: Path) -> int:
    return int((task / "schedstat").read_text(encoding="ascii").split()[0])


def _memory(lab: Lab) -> list[Row]:
    engine = lab.engine_pid()

    def serve(_: dict[str, object]) -> object:
        parent = int(Path(f"/proc/{engine}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
        return {"engine": _resident(str(engine)), "keeper": _resident(str(parent))}

    probe = Probe(lab, ROUTER, serve)
    try:
        told = probe.ask()
    finally:
        probe.close()
    return [_row(f"resident, {name}", (told[name] or 0) / 1024, "MB") for name in ("engine", "keeper")]


def _resident(pid: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _one_file_ms(home: Path) -> float:
    file = home / "igmpconf-agent.pyz"
    build(file)
    before = os.times()
    subprocess.run([sys.executable, "-I", str(file), "--version"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user - before.children_user + after.children_system - before.children_system) * 1000


# -- loss --------------------------------------------------------------------------------------------------------------


def _losses(lab: Lab) -> list[Row]:
    rows = []
    with _on_socket(lab) as session:
        session.ask(_edit(_proxy()))
        session.ask("<commit/>")
    lab.join("h1", GROUPS[0])
    router, host = _counter(lab, ROUTER, "wan"), _counter(lab, "h1", "eth0")
    try:
        for rate in _RATES:
            for name, event in _EVENTS:
                lost, sent = _lost(lab, rate, event, router, host)
                rows.append(_row(f"datagrams lost of {sent} at {rate:,}/s: {name}", lost))
    finally:
        router.close()
        host.close()
        lab.leave("h1", GROUPS[0])
    return rows


def _lost(lab: Lab, rate: int, event: Callable[[Lab], None], router: Probe, host: Probe) -> tuple[int, int]:
    """What arrived at the router and not at the host, and what arrived at the router; both counted by the kernel."""
    _quiet(router)
    came, went = _count(router), _count(host)
    lab.send(GROUPS[0], rate_per_s=rate)
    try:
        time.sleep(_BEFORE_S)
        if _count(host) == went:
            raise RuntimeError("the stream does not reach the host")
        event(lab)
        time.sleep(_AFTER_S)
    finally:
        lab.send(GROUPS[0], rate_per_s=0)
    _quiet(router)
    arrived = _count(router) - came
    return arrived - (_count(host) - went), arrived


def _quiet(router: Probe) -> None:
    seen = -1
    while (now := _count(router)) != seen:
        seen = now
        time.sleep(0.1)


def _exchanged(lab: Lab, how: Callable[[], int]) -> None:
    old = how()
    deadline = time.monotonic() + _PATIENCE_S
    while lab.engine_pid() in (old, None):
        if time.monotonic() > deadline:
            raise RuntimeError("the engine did not come back")
        time.sleep(0.01)


def _kill(lab: Lab) -> None:
    _exchanged(lab, lab.kill_engine)


def _renew(lab: Lab) -> None:
    _exchanged(lab, lab.renew_engine)


def _change_elsewhere(lab: Lab) -> None:
    """Timers of the other downstream, a downstream less and more, an upstream-side setting: none of it concerns the stream."""
    lan1 = f'<igmp-proxy xmlns="{_OURS}"><name>default</name><interfaces%s><interface>lan1</interface>%s</interfaces></igmp-proxy>'
    remove = ' xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="delete"'
    with _on_socket(lab) as session:
        for config in (lan1 % ("", "<query-interval>60s</query-interval>"), lan1 % (remove, ""), lan1 % ("", ""), _proxy(query_interval="60s"), _proxy()):
            session.ask(_edit(config))
            session.ask("<commit/>")


_EVENTS: Sequence[tuple[str, Callable[[Lab], None]]] = (
    ("nothing happens", lambda _: None),
    ("kill -9 of the engine", _kill),
    ("another engine in its place (reload, upgrade)", _renew),
    ("five commits that concern others", _change_elsewhere),
)


def _counter(lab: Lab, node: str, interface: str) -> Probe:
    """The kernel's count of the stream's datagrams that arrive on an interface."""
    table = (
        "table netdev bench {\n"
        "  chain arriving {\n"
        f"    type filter hook ingress device {interface} priority 0\n"
        f"    ip daddr {GROUPS[0]} udp dport {PORT} counter\n"
        "  }\n"
        "}\n"
    )
    made: list[bool] = []

    def serve(_: dict[str, object]) -> object:
        if not made:
            subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True)
            made.append(True)
        told = subprocess.run(["nft", "list", "table", "netdev", "bench"], check=True, capture_output=True, text=True).stdout
        return {"packets": int(told.partition("counter packets ")[2].split()[0])}

    return Probe(lab, node, serve)


def _count(counter: Probe) -> int:
    return int(counter.ask()["packets"] or 0)
