"""One controller, measured from inside: `python -m bench.fleet_controller INVENTORY` plans and applies, and prints what it took as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.fleet import peak_mb
from igmpconf import api


def main(inventory: str) -> None:
    """Plan, apply, tell."""
    devices = api.devices(inventory)
    most = 0

    def progress(_device: str, _phase: api.Phase) -> None:
        nonlocal most
        most = max(most, threading.active_count())

    started, cpu = time.perf_counter(), time.process_time()
    plan = api.plan(devices)
    planned = time.perf_counter()
    assert all(device.changes for device in plan.devices)
    api.apply(plan, devices, progress=progress).raise_if_bad()
    took = {
        "plan_s": planned - started,
        "apply_s": time.perf_counter() - planned,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "threads": most,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1])
