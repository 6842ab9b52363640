"""Network namespaces for tests on the real kernel, without root.

    with Net() as net:
        head, router = net.namespace("head"), net.namespace("router")
        net.veth(head, "eth0", router, "wan", "10.1.0.2/24", "10.1.0.1/24")
        head.run("ip route add default via 10.1.0.1")
        sock = head.socket(AF_INET, SOCK_DGRAM)          # lives in head, used from the test
        router.call(function, argument)                  # a forked child inside router, its result comes back

A namespace is held by a process that waits for its standard input to end, so that nothing outlives the test, however
it dies.  All of them belong to one user namespace, in which we are root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

_HOLDER = "import os, sys; os.write(1, b'x'); sys.stdin.buffer.read()"


def wait_until(condition: Callable[[], Any], what: str = "", timeout_s: float = 10.0, every_s: float = 0.01) -> Any:
    """The first true value of `condition`; fails the test after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what or condition}")
        time.sleep(every_s)


class Namespace:
    """One network namespace, held by a process."""

    def __init__(self, name: str, enter: list[str]) -> None:
        self.name = name
        self.pid = 0
        self._programs: list[subprocess.Popen[Any]] = []
        self._holder = subprocess.Popen(
            [*enter, sys.executable, "-S", "-E", "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
        )
        assert self._holder.stdout is not None
        ready = self._holder.stdout.read(1)
        if ready != b"x":
            assert self._holder.stderr is not None
            reason = self._holder.stderr.read().decode(errors="replace").strip()
            self.close()
            raise PermissionError(reason or "the namespace could not be made")
        self.pid = self._holder.pid

    def close(self) -> None:
        """End what still runs inside, which a failed test may have left, then the namespace."""
        if self.pid:
            for pid in self.inside():
                if pid not in {self.pid, os.getpid()}:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        for program in self._programs:
            program.wait(10)
        for pipe in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
        self._holder.wait(10)

    def inside(self) -> list[int]:
        """The processes that live in this namespace."""
        here = Path(f"/proc/{self.pid}/ns/net").readlink()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "ns/net").readlink() == here:
                        found.append(int(entry.name))
        return found

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.pid), *(() if self._shares("user") else ("-U",)), "-n", "--preserve-credentials"]

    def _shares(self, kind: str) -> bool:
        """We are in this namespace already, as a child of another namespace of the same net is in the user namespace."""
        return Path(f"/proc/self/ns/{kind}").readlink() == Path(f"/proc/{self.pid}/ns/{kind}").readlink()

    def run(self, command: str, *, check: bool = True) -> str:
        """A command line (no shell) inside; its standard output."""
        done = subprocess.run([*self._enter, *shlex.split(command)], capture_output=True, text=True, check=False, timeout=30)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def popen(self, command: list[str], **keywords: Any) -> subprocess.Popen[Any]:
        """A program that goes on inside; it is ended with the namespace at the latest.  The pid is the program's own (nsenter executes it)."""
        program = subprocess.Popen([*self._enter, *command], **keywords)
        self._programs.append(program)
        return program

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` in a forked child inside; its result comes back pickled, an exception as AssertionError."""
        reader, writer = socket.socketpair()
        pid = self._fork(lambda: writer.sendall(_outcome(function, arguments)))
        writer.close()
        data = b""
        while piece := reader.recv(1 << 16):
            data += piece
        reader.close()
        os.waitpid(pid, 0)
        assert data, f"{self.name}: the child died without a result"
        ok, value = pickle.loads(data)
        if ok:
            return value
        if value.startswith("SKIP "):
            pytest.skip(value[5:])
        raise AssertionError(f"in {self.name}:\n{value}")

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives inside, for use from here."""
        reader, writer = socket.socketpair()

        def make() -> None:
            with socket.socket(family, kind, protocol) as inside:
                socket.send_fds(writer, [b"x"], [inside.fileno()])

        pid = self._fork(make)
        writer.close()
        _, fds, _, _ = socket.recv_fds(reader, 1, 1)
        reader.close()
        os.waitpid(pid, 0)
        assert fds, f"{self.name}: no socket of family {family}, kind {kind}"
        return socket.socket(fileno=fds[0])

    def _fork(self, body: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            self._move_in()
            body()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked child must not go on as pytest
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _move_in(self) -> None:
        for kind, flag in (("user", _CLONE_NEWUSER), ("net", _CLONE_NEWNET)):
            if self._shares(kind):
                continue
            fd = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY)
            if _libc.setns(fd, flag):
                raise OSError(ctypes.get_errno(), f"setns {kind}")
            os.close(fd)


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        return pickle.dumps((True, function(*arguments)))
    except pytest.skip.Exception as reason:
        return pickle.dumps((False, f"SKIP {reason}"))
    except BaseException:  # noqa: BLE001 - it is raised in the test
        return pickle.dumps((False, traceback.format_exc()))


class Net:
    """A set of namespaces and the cables between them."""

    def __init__(self) -> None:
        self._namespaces: list[Namespace] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            self._root = self.namespace("root")
        except (PermissionError, FileNotFoundError) as error:
            pytest.skip(f"no unprivileged network namespaces here: {error}")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None) -> None:
        for sock in self._sockets:
            sock.close()
        for namespace in reversed(self._namespaces):
            namespace.close()

    def namespace(self, name: str) -> Namespace:
        enter = ["unshare", "-Urn"] if not self._namespaces else [*self._root._enter, "unshare", "-n"]
        made = Namespace(name, enter)
        self._namespaces.append(made)
        made.run("ip link set lo up")
        # hosts and routers with addresses at once: no duplicate address detection to wait for
        made.call(_write, "/proc/sys/net/ipv6/conf/default/accept_dad", "0")
        return made

    def veth(self, a: Namespace, a_name: str, b: Namespace, b_name: str, a_address: str = "", b_address: str = "") -> None:
        """A cable from `a` to `b`, up, with an address at either end."""
        self._root.run(f"ip link add name {a_name} netns {a.pid} type veth peer name {b_name} netns {b.pid}")
        for end, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
            if address:
                end.run(f"ip addr add {address} dev {name}")
            end.run(f"ip link set {name} up")
        for end, name in ((a, a_name), (b, b_name)):
            wait_until(lambda end=end, name=name: "LOWER_UP" in end.run(f"ip link show {name}"), f"{name} up")

    def socket(self, inside: Namespace, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket inside that is closed with the net."""
        made = inside.socket(family, kind, protocol)
        self._sockets.append(made)
        return made

    def host(self, inside: Namespace, ifname: str, group: str, port: int, *, source: str | None = None) -> Receiver:
        """An application on a host that joined `group` with an ordinary socket."""
        sock = self.socket(inside, socket.AF_INET, socket.SOCK_DGRAM)
        return Receiver(sock, inside.call(socket.if_nametoindex, ifname), group, port, source)

    def sender(self, inside: Namespace, ifname: str, *, ttl: int = 16) -> Sender:
        sock = self.socket(inside, socket.AF_INET, socket.SOCK_DGRAM)
        return Sender(sock, inside.call(socket.if_nametoindex, ifname), ttl)


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="ascii")


def sysctl(inside: Namespace, name: str, value: int) -> None:
    """Set a network sysctl, named with slashes: `ipv4/conf/eth0/force_igmp_version`."""
    inside.call(_write, f"/proc/sys/net/{name}", str(value))


_IP_MULTICAST_IF, _IP_ADD_MEMBERSHIP, _IP_DROP_MEMBERSHIP = 32, 35, 36
_MCAST_JOIN_SOURCE_GROUP = 46
_ETH_P_ALL = 3


class Receiver:
    """A joined UDP socket that counts what arrives."""

    def __init__(self, sock: socket.socket, ifindex: int, group: str, port: int, source: str | None) -> None:
        self._socket = sock
        self._request = socket.inet_aton(group) + bytes(4) + ifindex.to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((group, port))
        sock.setblocking(False)
        self.payloads: list[bytes] = []
        if source is None:
            sock.setsockopt(socket.IPPROTO_IP, _IP_ADD_MEMBERSHIP, self._request)
        else:
            request = ifindex.to_bytes(4, sys.byteorder) + bytes(4) + _storage(group) + _storage(source)
            sock.setsockopt(socket.IPPROTO_IP, _MCAST_JOIN_SOURCE_GROUP, request)

    def leave(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_DROP_MEMBERSHIP, self._request)

    @property
    def received(self) -> int:
        """Datagrams so far."""
        while True:
            try:
                self.payloads.append(self._socket.recv(2_048))
            except BlockingIOError:
                return len(self.payloads)


def _storage(address: str) -> bytes:
    return (int(socket.AF_INET).to_bytes(2, sys.byteorder) + bytes(2) + socket.inet_aton(address)).ljust(128, b"\0")


class Sender:
    def __init__(self, sock: socket.socket, ifindex: int, ttl: int) -> None:
        self._socket = sock
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_IF, bytes(8) + ifindex.to_bytes(4, sys.byteorder))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)

    def bind(self, address: str) -> None:
        self._socket.bind((address, 0))

    def send(self, group: str, port: int, payload: bytes = b"frame") -> None:
        self._socket.sendto(payload, (group, port))


class Wire:
    """Every IP packet that passes on an interface, without its link header."""

    def __init__(self, net: Net, inside: Namespace, ifname: str) -> None:
        self._socket = net.socket(inside, socket.AF_PACKET, socket.SOCK_DGRAM)
        self._socket.bind((ifname, _ETH_P_ALL))
        self._socket.setblocking(False)
        self._packets: list[bytes] = []

    @property
    def packets(self) -> list[bytes]:
        """Those so far."""
        while True:
            try:
                self._packets.append(self._socket.recv(65_536))
            except BlockingIOError:
                return self._packets

    def igmp(self, kind: int, source: str | None = None) -> list[bytes]:
        """IGMP messages of a type (0x11 query, 0x16 v2 report, 0x17 leave, 0x22 v3 report), from their type octet on."""
        found = []
        for packet in self.packets:
            header = (packet[0] & 15) * 4
            if packet[0] >> 4 == 4 and packet[9] == 2 and packet[header] == kind and source in {None, socket.inet_ntoa(packet[12:16])}:
                found.append(packet[header:])
        return found
