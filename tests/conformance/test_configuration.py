"""Requirements that a configuration can break, and the clock that everything runs on."""

from __future__ import annotations

import ast
import asyncio
import time
from pathlib import Path

import pytest

from igmpconf.machine import Machine
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.runtime import Clock, Driver
from igmpconf.schema.load import load_text
from igmpconf.schema.semantic import check
from tests.kit.conformance import covers

ROOT = Path(__file__).resolve().parents[2]
WAN = {"interface": "wan", "upstream": True}


def told(*interfaces, **leaves) -> list[tuple[str, str]]:
    plain = {"igmp-proxy": [{"interfaces": list(interfaces) or [WAN, "lan0"]} | {name.replace("_", "-"): value for name, value in leaves.items()}]}
    return [(one.severity, one.code) for one in check(from_plain(DeviceConfig, plain))]


@covers("QRY-06")
@pytest.mark.parametrize(("interval", "response", "refused"), [("10s", "9.999s", False), ("10s", "10s", True), ("10s", "11s", True)])
def test_the_response_interval_is_below_the_query_interval(interval, response, refused):
    of_instance = told(query_interval=interval, query_response_interval=response)
    of_interface = told(WAN, {"interface": "lan0", "query-interval": interval, "query-response-interval": response})
    for found in (of_instance, of_interface):
        assert (("error", "querier/response-exceeds-interval") in found) is refused


@covers("QRY-07")
@pytest.mark.parametrize(("robustness", "expected"), [(0, "value/invalid"), (1, "querier/robustness-one"), (2, None)])
def test_robustness_0_is_refused_and_1_is_warned_about(robustness, expected):
    text = f"igmp-proxy: [{{robustness: {robustness}, interfaces: [{{interface: wan, upstream: yes}}, lan0]}}]\n"
    loaded = load_text(text.encode(), "device.yaml")
    assert [one.code for one in loaded.diagnostics] == ([expected] if expected else [])
    assert [one.severity for one in loaded.diagnostics] == {0: ["error"], 1: ["warning"], 2: []}[robustness]


@covers("FWD-11")
@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ((WAN, {"interface": "wan2", "upstream": True}), ("error", "upstream/several")),
        (({"interface": "e*", "upstream": True}, "et*"), ("error", "interface/both-roles")),
        ((WAN, "w*"), ("warning", "interface/exact-wins")),
    ],
)
def test_no_interface_is_upstream_and_downstream_at_once(interfaces, expected):
    assert expected in told(*interfaces)


class _Waits(Machine[str, str]):
    """Has one deadline, and notes when it came."""

    def __init__(self) -> None:
        self.due_ms: int | None = None

    def handle(self, event: str, now_ms: int) -> list[str]:
        if event == "start":
            self.due_ms = now_ms + 30
        elif self.due_ms is not None and now_ms >= self.due_ms:
            self.due_ms = None
            return ["fired"]
        return []

    def next_deadline_ms(self) -> int | None:
        return self.due_ms


@covers("ROB-05")
@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_a_step_of_the_wall_clock_moves_no_timer(monkeypatch, step_s):
    loop, fired, clock = asyncio.new_event_loop(), [], Clock()

    def perform(effects):
        fired.extend((effect, clock()) for effect in effects)
        loop.stop()
        return ()

    driver = Driver(_Waits(), perform, "time", clock=clock, loop=loop)
    driver.feed(("start",))
    begun = clock()
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + step_s)
    loop.call_later(30, loop.stop)
    loop.run_forever()
    driver.close()
    loop.close()
    ((effect, at_ms),) = fired
    assert effect == "fired"
    assert 30 <= at_ms - begun < 20_000


@covers("ROB-05")
def test_nothing_that_decides_about_time_reads_the_wall_clock():
    paths = [*(ROOT / "igmpconf" / "engine").glob("*.py"), ROOT / "igmpconf" / "runtime.py", ROOT / "igmpconf" / "agent" / "runner.py"]
    read = [
        (path.name, node.attr)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"time", "time_ns", "now", "utcnow", "today", "clock_gettime"}
        and getattr(node.value, "id", "") in {"time", "datetime"}
    ]
    assert read == []
