"""A device whose every system call can be the one that goes wrong: the real journal, store and runner over a disk, a kernel and a clock
that are ours.

    device = Device(directory)                # a disk with nothing on it, a kernel with interfaces
    device.start()                            # the agent starts
    device.faults.arm(3, refuse_files(ENOSPC))   # the third call from now on is refused
    device.commit(B)                          # "ok", an error's tag, or "dead"

Calls are counted where they leave the program: in `Files` (create, write, flush, rename ...), in the kernel's multicast tables (vifs, entries,
messages), in the links (VLANs) and in the settings.  Time passes only when everybody waits.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from igmpconf.agent.events import CancelAsked, CandidateEdited, CommitAsked
from igmpconf.agent.files import Files
from igmpconf.agent.journal import Journal
from igmpconf.agent.runner import Runner
from igmpconf.agent.store import Store
from igmpconf.agent.surroundings import Surroundings
from igmpconf.errors import KernelError
from igmpconf.ids import PersistId, SessionId
from igmpconf.model.config import DeviceConfig
from igmpconf.observe.log import LogBook
from tests.kit.fake_kernel import FakeKernel, v3_report
from tests.linux.test_vlan import Links

G = "239.1.1.1"
_IS_EX = 2
OURS, OTHER = SessionId(1), SessionId(2)


class Killed(SystemExit):
    """The process dies here: no handler of the program sees it, and nothing that it does while it unwinds reaches the world."""


class Faults:
    """Counts the calls that reach the world, and lets one of them go wrong."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_dead = False
        self._at = 0
        self._act: Callable[[str], None] | None = None
        self._lasts = False

    def arm(self, at: int, act: Callable[[str], None], *, lasts: bool = False) -> None:
        """From now on call number `at` (from 1) does `act` before anything else; with `lasts`, so does every later one."""
        self.calls, self._at, self._act, self._lasts = [], at, act, lasts

    def disarm(self) -> None:
        """The world is well again."""
        self._act = None
        self.is_dead = False

    def call(self, what: str) -> None:
        if self.is_dead:
            raise Killed
        self.calls.append(what)
        if self._act is not None and (len(self.calls) == self._at or (self._lasts and len(self.calls) > self._at)):
            self._act(what)

    def die(self, _what: str = "") -> None:
        self.is_dead = True
        raise Killed


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Inode:
    """What a file holds, and how much of that is on the disk."""

    def __init__(self) -> None:
        self.data = b""
        self.flushed: bytes | None = None  # None: never


class Disk(Files):
    """A real directory, and beside it the account of what a power cut would leave of it.

    The account is strict: content is there from its own fsync on, a name from that of its directory on; until then any part of the
    renames, in order, may have happened.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._open: dict[int, Inode] = {}
        self.names: dict[Path, Inode] = {}
        self.durable: dict[Path, Inode] = {}
        self.loose: list[tuple[Path, Inode | None]] = []  # names that changed since their directory was flushed
        self.takes_only: int | None = None  # octets that the next write takes, however many there are
        self.is_full = False

    def create(self, path: Path) -> int:
        self._faults.call("create")
        descriptor = super().create(path)
        self._open[descriptor] = inode = Inode()
        self._named(path, inode)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self._faults.call("write")
        if self.takes_only is not None:
            data, self.takes_only = data[: self.takes_only], None
        taken = super().write(descriptor, data)
        self._open[descriptor].data += bytes(data[:taken])
        return taken

    def flush(self, descriptor: int) -> None:
        self._faults.call("flush")
        self._open[descriptor].flushed = self._open[descriptor].data

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]
        super().close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._faults.call("rename")
        super().rename(old, new)
        inode = self.names[old]
        self._named(new, inode)
        self._named(old, None)

    def unlink(self, path: Path) -> None:
        self._faults.call("unlink")
        super().unlink(path)
        if path in self.names:
            self._named(path, None)

    def make_directory(self, path: Path) -> None:
        self._faults.call("make_directory")
        super().make_directory(path)

    def flush_directory(self, path: Path) -> None:
        self._faults.call("flush_directory")
        for name, inode in self.loose:
            if name.parent == path:
                _set(self.durable, name, inode)
        self.loose = [(name, inode) for name, inode in self.loose if name.parent != path]

    def _named(self, path: Path, inode: Inode | None) -> None:
        _set(self.names, path, inode)
        self.loose.append((path, inode))

    # a power cut

    def left_by_a_power_cut(self) -> list[dict[Path, bytes]]:
        """Every directory that may be found when the power comes back: path -> content.

        A file that a name leads to and that was not flushed may end anywhere; what nobody reads, or reads last, ends in three places.
        """
        found = []
        for count in range(len(self.loose) + 1):
            names = dict(self.durable)
            for path, inode in self.loose[:count]:
                _set(names, path, inode)
            whole = {path: inode.flushed or b"" for path, inode in names.items()}
            found.append(whole)
            for path, inode in names.items():
                if inode.flushed != inode.data:
                    is_read_first = path.suffix not in {".new", ".previous"}
                    lengths = range(len(inode.data) + 1) if is_read_first else {0, len(inode.data) // 2, len(inode.data)}
                    found += [whole | {path: inode.data[:length]} for length in lengths]
        return found

    def become(self, content: dict[Path, bytes]) -> None:
        """What a restart after a power cut finds."""
        for path in [path for path in self.names if path not in content]:
            path.unlink(missing_ok=True)
        self.names = {}
        for path, data in content.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.names[path] = inode = Inode()
            inode.data = inode.flushed = data
        self.durable, self.loose = dict(self.names), []


def _set(names: dict[Path, Inode], path: Path, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode


class Kernel(FakeKernel):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults
        self.opened: list[socket.socket] = []  # by the process that lives now

    def _may(self, verb: str) -> None:
        self._faults.call(f"kernel {verb}")
        super()._may(verb)

    def open_table(self, family, table, held=None):
        made = super().open_table(family, table, held)
        self.opened.append(made.socket)
        return made

    def truth(self) -> dict[tuple[str, int], Any]:
        """What the kernel does, by names: vif numbers are nobody's business."""
        found = {}
        for key, state in self.states.items():
            if not state.signal.is_held():
                continue
            name = {vif: self.interfaces[of].name for vif, of in state.vifs.items()}
            routes = {
                (source, group): (name.get(entry.parent), frozenset(name[to] for to in name if entry.ttls[to] < 255))
                for (source, group), entry in state.entries.items()
            }
            found[key] = (frozenset(name.values()), routes)
        return found


class LinkWorld(Links):
    """The VLAN interfaces; what is created here is an interface of the kernel as well."""

    def __init__(self, faults: Faults, kernel: Kernel) -> None:
        super().__init__()
        self._faults, self._kernel = faults, kernel

    def _called(self, verb: str) -> None:
        self._faults.call(f"link {verb}")

    def create(self, name, parent_ifindex, vlan_id):
        super().create(name, parent_ifindex, vlan_id)
        self._kernel.link(name, "10.7.0.1/24")

    def remove(self, ifindex):
        names = set(self.table)
        super().remove(ifindex)
        for name in names - set(self.table):
            self._kernel.unlink(name)


class SettingWorld(dict):
    def __init__(self, faults: Faults, **values: int) -> None:
        super().__init__(values)
        self._faults = faults

    def read(self, name):
        return self.get(name, 1 if name.endswith(".tv.rp_filter") else None)

    def write(self, name, value):
        try:
            self._faults.call("setting")
        except OSError as error:
            raise KernelError(f"set {name}", error.errno or errno.EIO, f"cannot set {name}: {error.strerror}") from None
        self[name] = value


class Keeper:
    """Holds copies of the routing sockets, whatever becomes of the engine."""

    def __init__(self) -> None:
        self.held: dict[str, socket.socket] = {}

    def hold(self, name: str, sock: socket.socket) -> None:
        self.held[name] = sock.dup()

    def drop(self, name: str) -> None:
        self.held.pop(name).close()

    def die(self) -> None:
        for sock in self.held.values():
            sock.close()
        self.held.clear()


class _Waits(selectors.DefaultSelector):
    """Where everybody waits, time passes at once."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None):
        ready = super().select(0)
        if not ready and timeout != 0:
            assert timeout is not None, "nothing will ever happen"
            self.loop.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        waits = _Waits()
        waits.loop = self
        super().__init__(waits)
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.now_s

    def run_in_executor(self, executor, func, *args):
        """The journal's thread: done at once, heard of with the next turn, so that other events come in between."""
        done = self.create_future()
        done.set_result(func(*args))
        return done


class Life:
    """One run of the agent's worker."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.loop = VirtualLoop(device.now_s)
        self.journal: Journal | None = None
        self.runner: Runner | None = None
        self.store: Store | None = None
        self.notes: list[Any] = []
        self.held: dict[str, socket.socket] = {}

    def start(self) -> None:
        device, loop = self.device, self.loop
        self.journal = Journal(device.state_dir, device.disk)
        surroundings = Surroundings(
            loop=loop, log=self.notes.append, state_dir=device.state_dir, links=device.links, settings=device.settings, files=device.disk
        )
        self.held = {name: sock.dup() for name, sock in device.keeper.held.items()}
        self.runner = Runner(
            device.kernel,
            loop=loop,
            log=self.notes.append,
            holder=device.keeper,
            held=self.held,
            clock=lambda: int(loop.time() * 1000),  # type: ignore[arg-type]
            surroundings=surroundings,
        )
        self._run(self._start_store())

    async def _start_store(self) -> None:
        assert self.journal is not None
        assert self.runner is not None
        self.store = Store(self.journal, self.runner, LogBook())
        await self.store.start()

    def _run(self, what) -> Any:
        task = self.loop.create_task(what)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        return self.loop.run_until_complete(task)

    def ask(self, question: Any) -> str:
        assert self.store is not None
        error = self._run(self.store.ask(question))
        return "ok" if error is None else error.app_tag or error.tag

    def pass_time(self, seconds: float) -> None:
        self._run(asyncio.sleep(seconds))

    def hand_over(self) -> None:
        """What the worker does when the next one is to take over (worker.py)."""
        assert self.store is not None
        assert self.runner is not None
        assert self.journal is not None
        self.store.refuse()
        self._run(self.store.close())
        self.journal.close()
        self.journal = None
        self.runner.hand_over()
        self.runner = None

    def end(self) -> None:
        """The kernel takes back what a process had open."""
        if self.journal is not None:
            self.journal.close()
        if self.runner is not None:
            self.runner._links.close()
        for sock in (*self.device.kernel.opened, *self.held.values()):
            sock.close()
        self.device.kernel.opened.clear()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.device.now_s = self.loop.now_s
        self.loop.close()


class Device:
    """Disk, kernel, keeper, and one life of the agent after the other."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.faults = Faults()
        self.disk = Disk(self.faults)
        self.kernel = Kernel(self.faults)
        for number, name in enumerate(("ether1", "ether2", "wan", "lan0", "lan1", "lan2")):
            self.kernel.link(name, f"10.{number}.0.1/24")
        self.links = LinkWorld(self.faults, self.kernel)
        self.settings = SettingWorld(self.faults, **{f"net.ipv4.conf.{name}.rp_filter": 1 for name in ("ether1", "wan")}, **{"net.ipv4.conf.all.rp_filter": 0})
        self._settings = dict(self.settings)
        self.keeper = Keeper()
        self.now_s = 1_000.0
        self.life: Life | None = None
        self.persist: PersistId | None = None

    @property
    def store(self) -> Store:
        assert self.life is not None
        assert self.life.store is not None
        return self.life.store

    @property
    def running(self) -> DeviceConfig:
        return self.store.machine.running

    @property
    def is_pending(self) -> bool:
        return self.store.machine.pending(self.store.now_ms()) is not None

    # life and death

    def start(self) -> None:
        self.life = Life(self)
        self.life.start()

    def lose_worker(self) -> None:
        if self.life is not None:
            life, self.life = self.life, None
            life.end()

    def lose_all(self) -> None:
        self.lose_worker()
        self.keeper.die()

    def lose_power(self, content: dict[Path, bytes]) -> None:
        """The disk has `content` afterwards; the next boot knows nothing of VLANs and settings."""
        self.faults.disarm()
        self.lose_all()
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
        self.disk.become({path: data.replace(boot, b"the boot before") for path, data in content.items()})
        for name in set(self.links.table) - {"ether1", "ether2"}:
            del self.links.table[name]
            self.kernel.unlink(name)
        self.settings.update(self._settings)

    def close(self) -> None:
        self.faults.disarm()
        self.lose_all()
        self.kernel.close()

    # what is asked of it

    def hosts_report(self) -> None:
        """The hosts that want G say so, as they do when they are asked."""
        for name, sender in (("lan0", "10.3.0.2"),):
            state = next(iter(self.kernel.states.values()), None)
            if state is not None and self.kernel.index(name) in state.vifs.values():
                self.kernel.deliver(name, sender, v3_report(_IS_EX, G))

    def edit(self, config: DeviceConfig) -> str:
        assert self.life is not None
        machine = self.store.machine
        return self.life.ask(CandidateEdited(token=self.store.token(), session=OURS, base=machine.candidate, config=config))

    def commit(self, config: DeviceConfig | None = None, **more: Any) -> str:
        """Edit and commit; without `config` only commit what is running (a confirmation)."""
        assert self.life is not None
        if config is not None:
            answer = self.edit(config)
            if answer != "ok":
                return answer
        return self.life.ask(CommitAsked(token=self.store.token(), session=OURS, candidate=self.store.machine.candidate, user="anna", **more))

    def cancel(self) -> str:
        assert self.life is not None
        return self.life.ask(CancelAsked(token=self.store.token(), session=OURS, user="anna", persist_id=self.persist))

    def pass_time(self, seconds: float) -> None:
        assert self.life is not None
        self.life.pass_time(seconds)


def packed(group: str) -> bytes:
    return ipaddress.ip_address(group).packed
