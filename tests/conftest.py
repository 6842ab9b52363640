"""What holds for every test, and what `make test` needs to run them side by side.

A worker takes a whole file at a time (`--dist loadfile`): what a file has built for its tests is built once.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Laws are about values, not about how busy the machine is; pytest-timeout ends what hangs.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

MOST_WORKERS = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--only", choices=("together", "alone"), help="the tests that bear others beside them, or those marked alone")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    os.environ.pop("COLUMNS", None)  # which a worker of xdist has, or whoever exports it: tables here are as wide as what they tell
    # A worker's directories get short names: the path of a unix socket ends at 107 octets.
    if hasattr(config, "workerinput"):
        given = Path(config.option.basetemp)
        config.option.basetemp = str(given.with_name(given.name.removeprefix("popen-gw")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only = config.getoption("--only")
    if only is None:
        return
    parts: dict[str, list[pytest.Item]] = {"together": [], "alone": []}
    for item in items:
        parts["together" if item.get_closest_marker("alone") is None else "alone"].append(item)
    items[:] = parts.pop(only)
    (left_out,) = parts.values()
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: most tests of the kernel wait for a timer or another process half of their time."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many cases there were, whichever worker had them: a matrix that shrinks unseen proves nothing."""
    counts: dict[str, Counter[str]] = {"cases": Counter(), "left out": Counter()}
    for report in (one for reports in terminalreporter.stats.values() for one in reports if getattr(one, "when", None) == "teardown"):
        for name, value in report.user_properties:
            if name in counts:
                counts[name].update(value)
    if tried := counts["cases"]:
        terminalreporter.write_line(f"faults: {tried.total()} cases (" + ", ".join(f"{kind} {count}" for kind, count in tried.items()) + ")")
    if left := counts["left out"].total():
        terminalreporter.write_line(f"faults: {left} more with FAULTS=all")
