"""A look at what passes for a moment: streams that arrive and leave, and which rule of the packet filter drops what.

A table of our own counts datagrams to groups by (interface, sender, group, TTL) as they arrive and by (interface,
sender, group) as they leave, at the kernel's own speed, and marks a sample of them and of the membership messages
for nftables' tracing, which then tells of each by which rule it went.  It decides nothing; sets are bounded, and
marks limited to RATE a second.  Life cycle: `open`, `read_for`, `close`; a table that a killed agent left behind is
replaced by the next one.  Blocks: for a thread, not for the agent's loop.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from igmpconf.linux.netlink import attributes

TABLE = "igmpconf_doctor"
RATE = 100  # packets a second that are followed through the rules, of streams and of messages each
MOST_FLOWS = 4_096  # per set
MOST_DROPS = 256  # kinds of drops that are told apart

# 224.0.0.0/24 and IPv6 scopes up to link-local never leave a link (RFC 5771 4, RFC 4291 2.7): no streams
_SCRIPT = f"""
add table inet {TABLE}
delete table inet {TABLE}
add table inet {TABLE}
add set inet {TABLE} arrived4 {{ typeof iif . ip saddr . ip daddr . ip ttl; size {MOST_FLOWS}; flags dynamic; counter; }}
add set inet {TABLE} arrived6 {{ typeof iif . ip6 saddr . ip6 daddr . ip6 hoplimit; size {MOST_FLOWS}; flags dynamic; counter; }}
add set inet {TABLE} left4 {{ typeof oif . ip saddr . ip daddr; size {MOST_FLOWS}; flags dynamic; counter; }}
add set inet {TABLE} left6 {{ typeof oif . ip6 saddr . ip6 daddr; size {MOST_FLOWS}; flags dynamic; counter; }}
add chain inet {TABLE} messages
add rule inet {TABLE} messages limit rate {RATE}/second burst {RATE} packets meta nftrace set 1
add chain inet {TABLE} arriving {{ type filter hook prerouting priority raw - 11; policy accept; }}
add rule inet {TABLE} arriving meta l4proto igmp goto messages
add rule inet {TABLE} arriving icmpv6 type {{ 130-132, 143 }} goto messages
add rule inet {TABLE} arriving meta l4proto icmpv6 return
add rule inet {TABLE} arriving ip daddr 224.0.0.0/4 ip daddr != 224.0.0.0/24 update @arrived4 {{ iif . ip saddr . ip daddr . ip ttl }}
add rule inet {TABLE} arriving ip daddr 224.0.0.0/4 ip daddr != 224.0.0.0/24 limit rate {RATE}/second burst {RATE} packets meta nftrace set 1
add rule inet {TABLE} arriving ip6 daddr ff00::/8 ip6 daddr & 000f:: > 2:: update @arrived6 {{ iif . ip6 saddr . ip6 daddr . ip6 hoplimit }}
add rule inet {TABLE} arriving ip6 daddr ff00::/8 ip6 daddr & 000f:: > 2:: limit rate {RATE}/second burst {RATE} packets meta nftrace set 1
add chain inet {TABLE} sending {{ type filter hook output priority raw - 11; policy accept; }}
add rule inet {TABLE} sending meta l4proto igmp goto messages
add rule inet {TABLE} sending icmpv6 type {{ 130-132, 143 }} goto messages
add chain inet {TABLE} leaving {{ type filter hook postrouting priority 400; policy accept; }}
add rule inet {TABLE} leaving meta l4proto {{ igmp, icmpv6 }} return
add rule inet {TABLE} leaving ip daddr 224.0.0.0/4 ip daddr != 224.0.0.0/24 update @left4 {{ oif . ip saddr . ip daddr }}
add rule inet {TABLE} leaving ip6 daddr ff00::/8 ip6 daddr & 000f:: > 2:: update @left6 {{ oif . ip6 saddr . ip6 daddr }}
"""  # noqa: S608 - for nft

# linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER, _NFNLGRP_NFTRACE = 12, 9
_HEADER = struct.Struct("=IHHII")
_NFGENMSG_BYTES = 4
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID, _NETWORK, _IIF, _OIF, _POLICY = 1, 2, 3, 4, 5, 6, 8, 10, 12, 16
_VERDICT_CODE = 1
_OF_POLICY = 1
_DROP = 0
_MOST_REMEMBERED = 4_096  # packets under way
_PLACES = "/usr/sbin:/sbin:/usr/local/sbin"  # not on every service's path
_PATIENCE_S = 5.0  # for the program nft
_SAID_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Arrived:
    """Datagrams of one flow with one TTL, as nft names their interface."""

    interface: str
    source: str
    group: str
    ttl: int
    packets: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """One kind of packet that one rule, or the policy (`handle` None), dropped; `ifindex` 0: none."""

    table: str
    chain: str
    handle: int | None
    arrives: int
    leaves: int
    header: bytes  # of the IP packet, the first octets


class Window:
    """`why_not` says what is missing when there is nothing to look through."""

    def __init__(self) -> None:
        self.why_not: str | None = None
        self.is_full = False  # a set took no more
        self.drops: dict[Dropped, int] = {}
        self._under_way: dict[bytes, tuple[int, int, bytes]] = {}
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Make the table and listen; raises nothing."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
            self._socket.bind((0, 1 << _NFNLGRP_NFTRACE - 1))
        except OSError as error:
            self.why_not = f"the packet filter: {error.strerror}"
            return
        _, self.why_not = nft("-f", "-", text=_SCRIPT)

    def read_for(self, window_s: float, others: Mapping[socket.socket, Callable[[], bool]], cancelled: Event) -> None:
        """Take in traces, and let `others` read when they can until they say False; ends with the time, or when `cancelled`."""
        until_s = time.monotonic() + window_s
        readers = dict(others)
        if self._socket is not None and self.why_not is None:
            readers[self._socket] = self._read
        with selectors.DefaultSelector() as selector:
            for sock, read in readers.items():
                selector.register(sock, selectors.EVENT_READ, read)
            while (left_s := until_s - time.monotonic()) > 0 and not cancelled.is_set():
                for key, _ in selector.select(min(left_s, 0.2)):
                    if not key.data():
                        selector.unregister(key.fileobj)

    def _read(self) -> bool:
        assert self._socket is not None
        for _ in range(64):  # then the clock is looked at
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more came than fits: a sample is what was promised
                    raise
                continue
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, *_ = _HEADER.unpack_from(data, offset)
                if length < _HEADER.size:
                    break
                self._traced(dict(attributes(data[offset + _HEADER.size + _NFGENMSG_BYTES : offset + length])))
                offset += (length + 3) & ~3
        return True

    def _traced(self, said: dict[int, bytes]) -> None:
        """One step of one packet; headers come with the first step of each chain only."""
        packet = said.get(_ID, b"")
        if _NETWORK in said:
            if len(self._under_way) >= _MOST_REMEMBERED:
                self._under_way.clear()
            self._under_way[packet] = (_number(said.get(_IIF)), _number(said.get(_OIF)), said[_NETWORK])
        verdict = dict(attributes(said.get(_VERDICT, b"")))
        is_policy = _number(said.get(_TYPE)) == _OF_POLICY
        code = _number(said.get(_POLICY), default=1) if is_policy else _number(verdict.get(_VERDICT_CODE), default=1)
        known = self._under_way.get(packet)
        table = _text(said.get(_TABLE))
        if code != _DROP or known is None or table == TABLE:
            return
        handle = None if is_policy else int.from_bytes(said.get(_HANDLE, b""))
        drop = Dropped(table, _text(said.get(_CHAIN)), handle, known[0], known[1], _told_apart(known[2]))
        if drop in self.drops or len(self.drops) < MOST_DROPS:
            self.drops[drop] = self.drops.get(drop, 0) + 1

    def flows(self) -> tuple[list[Arrived], list[Arrived]]:
        """What arrived and what left so far (its TTL is 0: not looked at)."""
        said, self.why_not = nft("-j", "list", "table", "inet", TABLE)
        sets = {body["name"]: body.get("elem", []) for item in json.loads(said)["nftables"] for kind, body in item.items() if kind == "set"} if said else {}
        self.is_full = any(len(elements) >= MOST_FLOWS for elements in sets.values())
        arrived = [Arrived(*row) for name in ("arrived4", "arrived6") for row in _rows(sets.get(name, []), 4)]
        left = [
            Arrived(interface, source, group, 0, packets) for name in ("left4", "left6") for interface, source, group, packets in _rows(sets.get(name, []), 3)
        ]
        return arrived, left

    def close(self) -> None:
        """Remove the table."""
        if self._socket is not None:
            self._socket.close()
            nft("-f", "-", text=f"add table inet {TABLE}\ndelete table inet {TABLE}\n")


def _rows(elements: list[Any], columns: int) -> Iterator[list[Any]]:
    """Key columns and packets of each element; while it grows, a set may list one twice."""
    found: dict[tuple[Any, ...], int] = {}
    for element in elements:
        body = element.get("elem", {}) if isinstance(element, dict) else {}
        key = body.get("val", {}).get("concat", []) if isinstance(body.get("val"), dict) else []
        if len(key) == columns:
            with contextlib.suppress(KeyError, TypeError):
                place = (str(key[0]), *key[1:])
                found[place] = max(found.get(place, 0), body["counter"]["packets"])
    return ([*place, packets] for place, packets in found.items())


def _told_apart(header: bytes) -> bytes:
    """What tells kinds of packets apart: version, protocol and addresses; everything else may differ from one to the next."""
    if header[:1] and header[0] >> 4 == 4:
        return bytes((4, header[9])) + header[12:20]
    return bytes((6, header[6])) + header[8:40]


def _number(data: bytes | None, default: int = 0) -> int:
    return int.from_bytes(data) if data is not None else default


def _text(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode(errors="replace")


def nft(*arguments: str, text: str | None = None) -> tuple[str, str | None]:
    """What the program says, and why it did not work."""
    program = shutil.which("nft", path=os.pathsep.join((os.environ.get("PATH", ""), _PLACES)))
    if program is None:
        return "", "the packet filter: the program nft is missing; install nftables"
    try:
        done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "", f"the packet filter: nft took longer than {_PATIENCE_S:g} s"
    except OSError as error:
        return "", f"the packet filter: nft: {error.strerror}"
    if done.returncode == 0:
        return done.stdout, None
    said = next((line for line in done.stderr.splitlines() if "rror" in line), f"exit code {done.returncode}")
    return "", f"the packet filter: nft: {said.removeprefix('/dev/stdin:').strip()[:_SAID_CHARACTERS]}"
