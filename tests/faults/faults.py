"""What can go wrong at a call, and to which calls it can happen."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.world import OURS, Device, refused

_FILES = frozenset({"create", "write", "flush", "rename", "unlink", "make_directory", "flush_directory"})
_TAKES_SPACE = frozenset({"create", "write", "rename", "make_directory"})
_FLUSHES = frozenset({"flush", "flush_directory"})

Act = Callable[[Device], Callable[[str], None]]


def _is_file(call: str) -> bool:
    return call in _FILES


def _is_kernel(call: str) -> bool:
    return not _is_file(call)


@dataclass(frozen=True)
class Fault:
    """`act` makes what happens at the call; with `lasts` it happens to every later call that it `strikes` as well."""

    name: str
    act: Act
    strikes: Callable[[str], bool] = lambda _: True
    lasts: bool = False
    dies: str = ""  # "worker" or "all": who is dead afterwards
    loses_session: bool = False


def _die(device: Device) -> Callable[[str], None]:
    return device.faults.die


def _end_session(device: Device) -> Callable[[str], None]:
    """The connection is lost while the call runs; the agent hears of it as soon as its loop has a turn."""

    def act(_: str) -> None:
        assert device.life is not None
        if device.life.store is not None:
            device.life.loop.call_soon(device.life.store.session_ended, OURS)

    return act


def _refuse(code: int, strikes: Callable[[str], bool]) -> Act:
    def for_device(_: Device) -> Callable[[str], None]:
        def act(call: str) -> None:
            if strikes(call):
                raise refused(code)

        return act

    return for_device


def _short_write(device: Device) -> Callable[[str], None]:
    """The disk takes a part, then it is full."""

    def act(call: str) -> None:
        if call == "write":
            if device.disk.takes_only is None and not device.disk.is_full:
                device.disk.takes_only, device.disk.is_full = 7, True
            else:
                raise refused(errno.ENOSPC)

    return act


def _refusal(name: str, code: int, strikes: Callable[[str], bool], *, lasts: bool = False) -> Fault:
    return Fault(name, _refuse(code, strikes), strikes, lasts)


FAULTS = (
    Fault("kill -9 of the engine", _die, dies="worker"),
    Fault("kill -9 of the agent", _die, dies="all"),
    Fault("session lost", _end_session, loses_session=True),
    _refusal("no space, once", errno.ENOSPC, lambda call: call in _TAKES_SPACE),
    _refusal("no space from here on", errno.ENOSPC, lambda call: call in _TAKES_SPACE - {"rename"}, lasts=True),
    Fault("no space in the middle of a write", _short_write, lambda call: call == "write", lasts=True),
    _refusal("EIO on fsync, once", errno.EIO, lambda call: call in _FLUSHES),
    _refusal("EIO on fsync from here on", errno.EIO, lambda call: call in _FLUSHES, lasts=True),
    _refusal("disk read-only from here on", errno.EROFS, _is_file, lasts=True),
    _refusal("kernel refuses, once", errno.ENOBUFS, _is_kernel),
    _refusal("kernel refuses from here on", errno.ENOMEM, _is_kernel, lasts=True),
    _refusal("kernel fails for a moment", errno.EAGAIN, _is_kernel),
)
