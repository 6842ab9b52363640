"""Why the kernel said no, in words a person can act on: every `KernelError` about multicast routing is made here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from igmpconf.engine.family import Family
from igmpconf.errors import KernelError
from igmpconf.ids import TableId

_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13  # linux/capability.h

# These end a change; anything else (an interface that just vanished) is the engine's to retry.
PERMANENT = frozenset(
    {errno.EPERM, errno.EACCES, errno.EADDRINUSE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMFILE}
)


def missing_capabilities() -> tuple[str, ...]:
    """Which of the two capabilities that routing multicast needs this process lacks."""
    effective = 0
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    wanted = (("CAP_NET_ADMIN", _CAP_NET_ADMIN), ("CAP_NET_RAW", _CAP_NET_RAW))
    return tuple(name for name, bit in wanted if not effective >> bit & 1)


def lacking(verb: str, names: tuple[str, ...], code: int = errno.EPERM) -> KernelError:
    """The error for a process without `names`."""
    return KernelError(
        verb,
        code,
        f"cannot {verb}: this process lacks {' and '.join(names)}",
        hint="run the agent as root or under the systemd unit that grants CAP_NET_ADMIN and CAP_NET_RAW, or inside `unshare -Urn` for a trial",
    )


def refused(verb: str, error: OSError, family: Family, table: TableId | None = None) -> KernelError:
    """The error for a refusal of `verb` ("become the IPv4 multicast router", "add lan0 as a multicast interface")."""
    code = error.errno or errno.EIO
    said = os.strerror(code)
    if code in {errno.EPERM, errno.EACCES}:
        return lacking(verb, missing_capabilities() or ("CAP_NET_ADMIN",), code)
    if code in {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}:
        option = "CONFIG_IP_MROUTE" if family.address_bytes == 4 else "CONFIG_IPV6_MROUTE"
        if table:
            option += "_MULTIPLE_TABLES (a second instance needs a table of its own)"
        return KernelError(verb, code, f"cannot {verb}: this kernel is built without {option}", hint="use a kernel with that option, as every Debian kernel is")
    if code == errno.EADDRINUSE:
        holders = routing_socket_holders(family)
        who = " and ".join(holders) if holders else "another program"
        return KernelError(
            verb,
            code,
            f"cannot {verb}: {who} already {'hold' if len(holders) > 1 else 'holds'} the {family.protocol} multicast routing socket",
            hint="stop that program (igmpproxy, smcroute, pimd, FRR, another agent), then try again; nothing was changed"
            + ("" if holders else "; `ss -lwp` as root shows which it is"),
        )
    if code == errno.ENFILE:
        return KernelError(
            verb,
            code,
            f"cannot {verb}: all 32 multicast interfaces of the table are taken",
            hint="the kernel keeps 32 per table and family (MAXVIFS); move interfaces to a second instance",
        )
    if code in {errno.ENOBUFS, errno.ENOMEM}:
        return KernelError(
            verb, code, f"cannot {verb}: {said}", hint="raise net.ipv4.igmp_max_memberships to 2 or more and net.core.optmem_max, or free some memory"
        )
    return KernelError(verb, code, f"cannot {verb}: {said}")


def routing_socket_holders(family: Family) -> tuple[str, ...]:
    """`igmpproxy (pid 412)` for each other process that `raw_socket_holders` knows."""
    return tuple(f"{name} (pid {pid})" for pid, name in raw_socket_holders(family))


def raw_socket_holders(family: Family) -> tuple[tuple[int, str], ...]:
    """Pid and name of each other process that has a raw IGMP (ICMPv6) socket, as far as /proc may be read.

    The kernel does not say whose socket did MRT_INIT; multicast routers are the programs that keep such sockets.
    """
    path, protocol = ("/proc/self/net/raw", 2) if family.address_bytes == 4 else ("/proc/self/net/raw6", 58)
    inodes = {f"socket:[{fields[9]}]" for fields in _rows(path) if int(fields[1].rpartition(":")[2], 16) == protocol}
    found = []
    own = os.getpid()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        try:
            if any(str(fd.readlink()) in inodes for fd in (entry / "fd").iterdir()):
                name = (entry / "comm").read_text(encoding="utf-8", errors="replace").strip()
                found.append((int(entry.name), name))
        except OSError:
            continue  # not ours to look into, or gone meanwhile
    return tuple(sorted(found))


def _rows(path: str) -> list[list[str]]:
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()[1:]
    except OSError:
        return []
    return [fields for line in lines if len(fields := line.split()) > 9]
