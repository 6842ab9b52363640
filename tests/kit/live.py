"""The runner with its engines on the real kernel, in a process of its own inside a namespace; no NETCONF, no keeper.

    proxy = LiveProxy(net, net.router, {"interfaces": [{"interface": "wan", "upstream": True}, "lan0"]})
    proxy.groups()["lan0", "239.1.1.1"].version

What it says about itself comes back over a pipe, whole; what it does is seen on the cables.  `tests/kit/agent.py` has
the whole agent for tests that need its other parts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from igmpconf.agent.runner import Runner
from igmpconf.agent.surroundings import Surroundings
from igmpconf.engine.effects import Note
from igmpconf.errors import KernelError
from igmpconf.linux.system import SystemKernel
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState, GroupRow, InterfaceRow, MfcRow, UpstreamRow
from tests.kit.netns import Namespace, Net, wait_until
from tests.kit.wire import Tap


class Refused(Exception):
    """The kernel did not take a configuration; the text is the message with its hint."""


def device(*proxies: dict[str, Any]) -> DeviceConfig:
    return from_plain(DeviceConfig, {"igmp-proxy": [{"name": "default"} | one for one in proxies]})


class LiveProxy:
    """One running proxy; ends with its namespace at the latest.  `tap` sees all that passes on its interfaces."""

    def __init__(self, net: Net, inside: Namespace, *proxies: dict[str, Any], state_dir: Path | None = None) -> None:
        self._inside = inside
        self.tap = Tap(net, inside)
        self._pipe, theirs = multiprocessing.Pipe()
        self._pid = inside._fork(lambda: _run(theirs, state_dir))
        theirs.close()
        self.is_running = True
        if proxies:
            self.replace(*proxies)

    def _ask(self, *words: Any) -> Any:
        self._pipe.send(words)
        kind, value = self._pipe.recv()
        if kind == "refused":
            raise Refused(value)
        return value

    def replace(self, *proxies: dict[str, Any]) -> None:
        """Make this the configuration.  Raises Refused."""
        self._ask("replace", device(*proxies))

    def configure(self, plain: dict[str, Any]) -> None:
        """Make this the whole configuration, with what is beside the engines (needs a state directory).  Raises Refused."""
        self._ask("replace", from_plain(DeviceConfig, plain))

    def state(self) -> DeviceState:
        return self._ask("state")

    def notes(self) -> list[Note]:
        """All that was logged so far."""
        return self._ask("notes")

    def noted(self, event: str) -> list[Note]:
        return [one for one in self.notes() if one.event == event]

    def groups(self) -> dict[tuple[str, str], GroupRow]:
        return {(row.interface, str(row.group)): row for row in self.state().groups}

    def told(self) -> dict[str, UpstreamRow]:
        """What upstream was told, by group."""
        return {str(row.group): row for row in self.state().upstream}

    def mfc(self) -> dict[tuple[str, str], MfcRow]:
        return {(str(row.source), str(row.group)): row for row in self.state().mfc}

    def interface(self, name: str, family: str = "ipv4") -> InterfaceRow:
        return next(row for row in self.state().interfaces if (row.interface, row.family) == (name, family))

    def counter(self, name: str, interface: str, family: str = "ipv4") -> int:
        return next((one.value for one in self.interface(interface, family).counters if one.name == name), 0)

    def is_querier(self, name: str, family: str = "ipv4") -> bool:
        querier = self.interface(name, family).querier
        return querier is not None and querier.self_

    def ready(self) -> None:
        """Wait until every interface that is configured has its part."""
        wait_until(lambda: all(row.up for row in self.state().interfaces), "all interfaces up")

    def stop(self) -> None:
        """Leave politely; returns when everything has been sent and the kernel is clean."""
        self._ask("stop")
        self._gone()

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._gone()

    def _gone(self) -> None:
        os.waitpid(self._pid, 0)
        self._pipe.close()
        self.is_running = False


def _run(pipe: Connection, state_dir: Path | None) -> None:
    """In the child: what the test has open is not ours, a membership would outlive its application."""
    keep = pipe.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 65_536)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    notes: list[Note] = []
    errors: list[str] = []
    loop.set_exception_handler(lambda _, context: errors.append(f"{context.get('message')}: {context.get('exception')!r}"))
    surroundings = Surroundings(loop=loop, log=notes.append, state_dir=state_dir, look_every_s=0.3) if state_dir is not None else None
    runner = Runner(SystemKernel(), loop=loop, log=notes.append, surroundings=surroundings)

    def asked() -> None:
        try:
            word, *rest = pipe.recv()
        except EOFError:
            loop.stop()
            return
        try:
            assert not errors, errors
            answer = None
            if word == "replace":
                runner.replace(*rest)
            elif word == "state":
                answer = runner.snapshot()
            elif word == "notes":
                answer = list(notes)
            elif word == "stop":
                runner.close()
                loop.stop()
            pipe.send(("done", answer))
        except KernelError as error:
            pipe.send(("refused", f"{error.message}; {error.hint}" if error.hint else error.message))
        except Exception as error:  # noqa: BLE001 - it is raised in the test
            pipe.send(("refused", f"bug: {error!r}"))

    loop.add_reader(pipe.fileno(), asked)
    loop.run_forever()
