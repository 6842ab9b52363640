"""Who sends: sources, groups and their datagrams as they arrive, counted by the kernel.

A (*,G) entry forwards without telling whom it forwards.  So an nftables table of our own counts what arrives for
groups beyond the link, by (interface, source, group), in a dynamic set whose elements vanish after a minute without
a datagram and whose size is bounded.  It decides nothing: every packet goes on as it came.

Life cycle: `watch` makes the table with the program `nft`, in a thread, because that takes tens of milliseconds;
`flows` reads the set over netlink; `forget` removes the table.  A restart finds the counters as they were.  Without
nft or CONFIG_NF_TABLES nothing is counted, `state` says why, and everything else works.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from igmpconf.engine.effects import Note
from igmpconf.ids import IfIndex
from igmpconf.linux.netlink import Requests, attribute, attributes
from igmpconf.linux.window import TABLE as LOOK  # an agent that was killed while it looked left it behind

TABLE = "igmpconf_flows"
MOST_FLOWS = 4_096  # per family; a sender more is forwarded, but not listed
IDLE_S = 60  # a sender that is silent this long is forgotten
WATCHED = "watched"
_FRESH_S = 0.5  # a reading younger than this is not repeated
_SAID_CHARACTERS = 150  # of an error message of nft
_PATIENCE_S = 5.0  # for the program nft

# Tables of `inet` and `bridge` see both families; 224.0.0.0/24 and IPv6 scopes up to link-local never leave a link (RFC 5771 4, RFC 4291
# 2.7), the messages of IGMP and MLD are no streams, and what is looped back to ourselves did not arrive.
_PRIORITY = -310  # before connection tracking and whatever may drop; in family bridge it has no name
_CLEAN = f"""
add table inet {LOOK}
delete table inet {LOOK}
"""


def _script(family: str) -> str:
    return f"""
add table {family} {TABLE}
add set {family} {TABLE} ipv4 {{ type iface_index . ipv4_addr . ipv4_addr; size {MOST_FLOWS}; flags dynamic,timeout; timeout {IDLE_S}s; counter; }}
add set {family} {TABLE} ipv6 {{ type iface_index . ipv6_addr . ipv6_addr; size {MOST_FLOWS}; flags dynamic,timeout; timeout {IDLE_S}s; counter; }}
add chain {family} {TABLE} seen {{ type filter hook prerouting priority {_PRIORITY}; policy accept; }}
flush chain {family} {TABLE} seen
add rule {family} {TABLE} seen meta l4proto {{ igmp, icmpv6 }} return
add rule {family} {TABLE} seen ip daddr 224.0.0.0/4 ip daddr != 224.0.0.0/24 update @ipv4 {{ iif . ip saddr . ip daddr }}
add rule {family} {TABLE} seen ip6 daddr ff00::/8 ip6 daddr & 000f:: > 2:: update @ipv6 {{ iif . ip6 saddr . ip6 daddr }}
"""


# linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_GETSETELEM = 10 << 8 | 13  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETSETELEM
_NFGENMSG = struct.Struct("!BBH")  # family, version, resource
_NUMBERS = {"inet": 1, "bridge": 7}  # NFPROTO_*
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEMENT_KEY, _ELEMENT_EXPRESSION = 1, 7
_EXPRESSION_DATA = 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_PLACES = "/usr/sbin:/sbin:/usr/local/sbin"  # not on every service's path


@dataclass(frozen=True, slots=True)
class Flow:
    """One sender to one group on one interface; counters since it was first seen without a pause of IDLE_S."""

    ifindex: IfIndex
    source: bytes
    group: bytes
    packets: int
    octets: int


class Flows:
    """`log` takes notes, always on `loop`."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, log: Callable[[Note], None], program: str = "nft") -> None:
        self._loop = loop
        self._log = log
        self._program = program
        self._thread: threading.Thread | None = None
        self._requests: Requests | None = None
        self._read: tuple[float, list[Flow]] = (0.0, [])
        self._is_wanted = False
        self._families: tuple[str, ...] = ()
        self.state = "not watched: no instance is enabled"

    def watch(self, *, bridges: bool = False) -> None:
        """Have the table made, and with `bridges` that of frames among the ports of bridges; returns at once, twice is harmless."""
        families = ("inet", "bridge") if bridges else ("inet",)
        if self._is_wanted and families == self._families:
            return
        if self._is_wanted and not bridges:
            self._join()
            self._run(f"delete table bridge {TABLE}\n")
        self._is_wanted, self._families = True, families
        self._make()

    def _make(self) -> None:
        self.state = "starting"
        self._thread = threading.Thread(target=self._make_in_thread, name="flows", daemon=True)
        self._thread.start()

    def _make_in_thread(self) -> None:
        cause = self._run(_CLEAN + "".join(map(_script, self._families)))
        try:
            self._loop.call_soon_threadsafe(self._made, cause)
        except RuntimeError:
            pass  # the loop has ended meanwhile

    def _made(self, cause: str | None) -> None:
        if not self._is_wanted:
            return
        self.state = WATCHED if cause is None else f"not watched: {cause}"
        if cause is not None:
            self._log(Note("warning", "sources/not-watched", {"cause": cause, "next": "`show sources` stays empty, forwarding does not need it"}))

    def _run(self, script: str) -> str | None:
        """None, or why it did not work."""
        program = shutil.which(self._program, path=os.pathsep.join((os.environ.get("PATH", ""), _PLACES)))
        if program is None:
            return f"the program {self._program} is missing; install nftables"
        try:
            done = subprocess.run([program, "-f", "-"], input=script, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"{self._program} took longer than {_PATIENCE_S:g} s"
        except OSError as error:
            return f"{self._program}: {error.strerror}"
        if done.returncode == 0:
            return None
        said = next((line for line in done.stderr.splitlines() if "rror" in line), done.stderr.strip() or f"exit code {done.returncode}")
        return f"{self._program}: {said.removeprefix('/dev/stdin:').strip()[:_SAID_CHARACTERS]}"

    def forget(self) -> None:
        """Remove the table, if it was made; waits for nft, 5 s at most."""
        if not self._is_wanted:
            return
        self._is_wanted = False
        self._join()
        if self.state in {WATCHED, "starting"}:
            self._run("".join(f"delete table {family} {TABLE}\n" for family in self._families))
        self.state = "not watched: no instance is enabled"
        self._read = (0.0, [])

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            self._thread = None

    def close(self) -> None:
        """Let go without touching the kernel."""
        self._is_wanted = False
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def flows(self) -> list[Flow]:
        """What the kernel counted, both families; at most half a second old."""
        if self.state != WATCHED:
            return []
        now = time.monotonic()
        read_at, found = self._read
        if now - read_at < _FRESH_S:
            return found
        try:
            found = [flow for family in self._families for name, count in (("ipv4", 4), ("ipv6", 16)) for flow in self._elements(family, name, count)]
        except OSError as error:
            found = []
            if error.errno == errno.ENOENT:
                self._make()  # somebody flushed the ruleset, as firewalls do when they are loaded anew
            else:
                self._made(f"reading the counters: {error.strerror}")
        self._read = (now, found)
        return found

    def _elements(self, family: str, name: str, address_bytes: int) -> list[Flow]:
        if self._requests is None:
            self._requests = Requests(_NETLINK_NETFILTER)
        body = _NFGENMSG.pack(_NUMBERS[family], 0, 0) + attribute(_LIST_TABLE, TABLE.encode() + b"\0") + attribute(_LIST_SET, name.encode() + b"\0")
        return [
            flow
            for _, message in self._requests.dump(_GETSETELEM, body)
            for kind, elements in attributes(message, _NFGENMSG.size)
            if kind == _LIST_ELEMENTS
            for _, element in attributes(elements)
            if (flow := _flow(dict(attributes(element)), address_bytes)) is not None
        ]


def _flow(parts: dict[int, bytes], address_bytes: int) -> Flow | None:
    """An element: its key is the interface, the source and the group, one after another."""
    if _ELEMENT_KEY not in parts or _ELEMENT_EXPRESSION not in parts:
        return None
    key = parts[_ELEMENT_KEY][4:]  # behind the header of the nested value
    counter = dict(attributes(dict(attributes(parts[_ELEMENT_EXPRESSION])).get(_EXPRESSION_DATA, b"")))
    if len(key) < 4 + 2 * address_bytes or len(counter) < 2:
        return None
    (ifindex,) = struct.unpack_from("=I", key)
    source, group = key[4 : 4 + address_bytes], key[4 + address_bytes : 4 + 2 * address_bytes]
    return Flow(IfIndex(ifindex), source, group, int.from_bytes(counter[_COUNTER_PACKETS]), int.from_bytes(counter[_COUNTER_BYTES]))
