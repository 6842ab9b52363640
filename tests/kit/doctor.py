"""The doctor's visits to an agent on the test site: `expect` waits until he finds exactly what the test broke.

The agent of a file is started once; each test has it run another configuration, and none at its end.
"""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igmpconf.apply.session import device_state
from igmpconf.cli.devices import Device
from igmpconf.cli.doctor import _visit
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.model.state import DeviceState
from igmpconf.netconf.client import NetconfClient
from igmpconf.netconf.target import UnixTarget
from igmpconf.observe.doctor import Finding
from igmpconf.schema.xml import config_to_xml
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
        """Run one instance of these downstreams; `device` is what stands beside it in the file."""
        head = {"interface": "wan", "upstream": True} | (upstream or {})
        proxy = {"name": "default", "interfaces": [head, *(interfaces or LANS)]} | {name.replace("_", "-"): value for name, value in leaves.items()}
        self.run({"igmp-proxy": [proxy]} | (device or {}))

    def run(self, config: dict[str, Any]) -> None:
        """Have the agent run this and nothing else: what was counted before is forgotten."""
        if self.agent is None:
            self.agent = Agent(self.site.router, self._directory, config)
            return
        self.rest()
        with NetconfClient.connect(self._target) as client:
            client.edit(config_to_xml(from_plain(DeviceConfig, config)))
            client.commit()

    def rest(self) -> None:
        """No instance, nothing in the kernel."""
        with NetconfClient.connect(self._target) as client:
            client.edit([])
            client.commit()

    @property
    def _target(self) -> UnixTarget:
        assert self.agent is not None
        return UnixTarget(device="router", path=str(self.agent.socket))

    def visit(self, *, group: str | None = None, symptom: str | None = None, window_ms: int = 250) -> list[Finding]:
        return _visit(Device(self._target), ipaddress.ip_address(group) if group is not None else None, symptom, window_ms).findings

    def state(self) -> DeviceState:
        with NetconfClient.connect(self._target) as client:
            return device_state(client, ("interfaces", "groups"))

    def expect_codes(self, wanted: set[str], *, ignoring: set[str], timeout_s: float = 30.0) -> list[Finding]:
        """Exactly these codes, apart from those that come and go beside what the test is about."""
        last: list[Finding] = []

        def is_so() -> bool:
            last[:] = [one for one in self.visit() if one.code not in ignoring]
            return {one.code for one in last} == wanted

        wait_until(is_so, f"{wanted}", timeout_s=timeout_s, every_s=0.02)
        return last

    def expect(self, *wanted: tuple[str, str], timeout_s: float = 30.0, **how: Any) -> list[Finding]:
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
            assert self.agent.stop() == 0, self.agent.said()
            self.agent = None


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
