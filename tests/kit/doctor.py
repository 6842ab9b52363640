"""The doctor's visits to an agent on the test site: `expect` waits until he finds exactly what the test broke."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igmpconf.cli.devices import Device
from igmpconf.cli.doctor import _visit
from igmpconf.netconf.target import UnixTarget
from igmpconf.observe.doctor import Finding
from tests.kit.agent import Agent
from tests.kit.netns import wait_until
from tests.kit.site import Site
from tests.kit.wire import Source

LANS = ({"interface": "lan0"}, {"interface": "lan1"})


class Practice:
    """One agent on the site's router, and a doctor who comes as often as asked."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self._directory = directory
        self.agent: Agent | None = None

    def start(self, *interfaces: dict[str, Any], upstream: dict[str, Any] | None = None, device: dict[str, Any] | None = None, **leaves: Any) -> None:
        """An agent with one instance of these downstreams; `device` is what stands beside it in the file."""
        head = {"interface": "wan", "upstream": True} | (upstream or {})
        proxy = {"name": "default", "interfaces": [head, *(interfaces or LANS)]} | {name.replace("_", "-"): value for name, value in leaves.items()}
        self.run({"igmp-proxy": [proxy]} | (device or {}))

    def run(self, config: dict[str, Any], *prefix: str) -> None:
        self.agent = Agent(self.site.router, self._directory, config, prefix=prefix)

    def visit(self, *, group: str | None = None, symptom: str | None = None, window_ms: int = 250) -> list[Finding]:
        assert self.agent is not None
        target = Device(UnixTarget(device="router", path=str(self.agent.socket)))
        return _visit(target, ipaddress.ip_address(group) if group is not None else None, symptom, window_ms).findings

    def expect(self, *wanted: tuple[str, str], timeout_s: float = 15.0, **how: Any) -> list[Finding]:
        """Exactly these (code, where), in order of code; what was found last is told when it does not come to that."""
        last: list[Finding] = []

        def is_so() -> bool:
            last[:] = self.visit(**how)
            return sorted((one.code, one.where) for one in last) == sorted(wanted)

        with contextlib.suppress(BaseException):
            wait_until(is_so, timeout_s=timeout_s, every_s=0.02)
        assert sorted((one.code, one.where) for one in last) == sorted(wanted), "\n".join(map(str, last))
        return sorted(last, key=lambda one: (one.code, one.where))

    def stop(self) -> None:
        if self.agent is not None:
            assert self.agent.stop() == 0


@contextlib.contextmanager
def streaming(source: Source, *groups: str, every_s: float = 0.01) -> Iterator[None]:
    """The source sends to the groups while the block runs."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(every_s):
            for group in groups:
                source.send(group)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
