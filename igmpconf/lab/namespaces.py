"""Linux namespaces through libc: making them, entering them, and saying why that is not possible here.

Python has `os.unshare` and `os.setns` only since 3.12, and the lab must run on 3.11.  Everything here acts on the
calling process, which has to be single-threaded (user_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from pathlib import Path

from igmpconf.errors import IgmpconfError

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MS_REC_PRIVATE = 0x4000 | 0x40000  # linux/mount.h: MS_REC | MS_PRIVATE

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(IgmpconfError):
    """The lab cannot do what was asked; the hint says what is missing."""


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """Put this process (CLONE_NEWPID: its future children) into new namespaces.  Raises OSError."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    """Enter the namespace behind `fd`, of `kind` CLONE_NEW… (0: any).  Raises OSError."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends (prctl PR_SET_PDEATHSIG)."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    """mount(2).  Raises OSError."""
    _checked(_libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None), f"mount {target}")


def own_mounts() -> None:
    """Fit the mounts of new mount and pid namespaces: changes stay inside, /proc shows the new processes.

    Where that cannot be, the old /proc stays, which shows the processes by their outer numbers: a container may hide
    parts of it, and then the kernel refuses a fresh one; in a chroot, `/` is no mount whose changes could be kept in.
    """
    try:
        mount("none", "/", "", _MS_REC_PRIVATE)
        mount("proc", "/proc", "proc")
    except OSError as refused:
        if refused.errno not in (errno.EPERM, errno.EACCES, errno.EINVAL):
            raise


def new_world() -> bool:
    """Move into fresh user, mount, pid and network namespaces; True if a user namespace was among them.

    Root without user namespaces gets the others alone.  The pid namespace counts for the children to come.
    Raises LabError that says what the kernel lacks.
    """
    uid, gid = os.geteuid(), os.getegid()
    wanted = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET
    try:
        unshare(CLONE_NEWUSER | wanted)
    except OSError as refused:
        if uid != 0:
            raise LabError(f"this kernel lets {_user()} make no user namespace ({refused.strerror})", hint=_forbidden_by() or _GENERAL) from None
        try:
            unshare(wanted)
        except OSError as again:
            container = "this looks like a container without CAP_SYS_ADMIN: start it with --privileged, or use a virtual machine"
            raise LabError(f"root may make no namespaces here ({again.strerror})", hint=_forbidden_by() or container) from None
        return False
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")  # user_namespaces(7): before gid_map, when unprivileged
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
    return True


def _user() -> str:
    return f"user {os.environ.get('USER') or os.geteuid()}"


_GENERAL = "run the lab as root, or allow unprivileged user namespaces (CONFIG_USER_NS; containers often forbid them)"

# The switches that forbid it: where they stand, the value that forbids, and what to type.
_SWITCHES = (
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1, or run the lab as root"),
    ("/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000, or run the lab as root"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run the lab as root"),
    ("/proc/sys/user/max_net_namespaces", "0", "sudo sysctl user.max_net_namespaces=10000"),
)


def _forbidden_by() -> str | None:
    """The first switch that forbids namespaces, with its cure."""
    for path, forbids, cure in _SWITCHES:
        try:
            value = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == forbids:
            return f"{path} is {value}: {cure}"
    return None
