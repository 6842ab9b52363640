"""The Python interface against real agents; the example of docs/api.md runs as it stands."""

from __future__ import annotations

import dataclasses
import inspect
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from igmpconf import api
from igmpconf.errors import IgmpconfError, InputError, RpcFailed, StalePlan
from tests.fleet.agents import Fleet

DOC = (Path(__file__).parents[1] / "docs" / "api.md").read_text()


def block(head: str) -> str:
    found = re.search(rf"```{re.escape(head)}\n(.*?)```", DOC, re.DOTALL)
    assert found is not None, head
    return found[1]


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    for directory in ("agents", "work/inventory"):
        (tmp_path / directory).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with Fleet(tmp_path / "agents", ["north", "south"]) as made:
        hosts = block("yaml inventory/hosts.yaml")
        for name, member in made.members.items():
            hosts = hosts.replace("{" + name + "}", str(member.socket_path))
        Path("inventory/hosts.yaml").write_text(hosts)
        Path("home.yaml").write_text(block("yaml home.yaml"))
        yield made


def test_the_example_of_the_documentation_runs_and_says_what_it_says(fleet, capsys):
    exec(compile(block("python"), "docs/api.md", "exec"), {})
    assert re.sub(r"in \d+ ms", "in ... ms", capsys.readouterr().out) == block("text output")


def test_every_function_and_parameter_is_documented():
    functions = {name for name in api.__all__ if inspect.isfunction(getattr(api, name))}
    table = DOC.partition("## Functions")[2].partition("## Parameters")[0]
    assert functions == set(re.findall(r"`(\w+)\(", table))
    parameters = re.findall(r"^\| `(\w+)` ", DOC.partition("## Parameters of `apply`")[2], re.MULTILINE)
    assert parameters == [name for name in inspect.signature(api.apply).parameters if name not in {"plan", "devices"}]


def test_complaints_come_as_values(tmp_path):
    (tmp_path / "bad.yaml").write_text("igmp-proxy: {interfaces: [{interface: wan, upstraem: yes}]}\n")
    (found, *_) = api.validate(tmp_path / "bad.yaml")
    assert found.is_error
    assert found.line == 1
    with pytest.raises(InputError):
        api.render(tmp_path / "bad.yaml")


def test_what_needs_no_inventory_needs_none(fleet, tmp_path):
    one = api.device(f"unix:{fleet['north'].socket_path}")
    plan = api.plan([one], "home.yaml")
    assert "query-interval: 31.25s" in api.render("home.yaml")
    result = api.apply(plan, [one], leave_unconfirmed=True)
    assert result.having(api.Phase.LEFT)
    assert api.confirm(result.rollout_id).outcomes[0].phase is api.Phase.CONFIRMED
    Path("home.yaml").write_text(Path("home.yaml").read_text().replace("31.25s", "60s"))
    left = api.apply(api.plan([one], "home.yaml"), [one], leave_unconfirmed=True)
    assert api.cancel(left.rollout_id, [one]) is None
    assert not api.plan([one], "home.yaml").is_empty, "the cancelled change is still to be made"
    assert len(api.history(one)) == 4, "confirmed, confirm; confirmed, rollback-cancel"
    with pytest.raises(StalePlan):
        api.apply(_stale(plan), [one]).raise_if_bad()


def _stale(plan):
    (only,) = plan.devices
    return dataclasses.replace(plan, devices=(dataclasses.replace(only, target_digest=only.base_digest, base_digest=f"sha256:{'0' * 64}"),))


def test_errors_of_devices_are_told_each(fleet):
    devices = api.devices("inventory")
    fleet.kill("south")
    rows = api.show(devices, "groups")
    assert isinstance(rows["south"], IgmpconfError)
    assert rows["north"] == []
    with pytest.raises(InputError, match="there is no table"):
        api.show(devices, "gruops")
    with pytest.raises(IgmpconfError, match="the agent is not running"):
        api.plan(devices)


def test_a_refusal_is_in_the_result_and_raised_on_demand(fleet):
    devices = api.devices("inventory")
    fleet["south"].engine.refuse = lambda config: bool(config.proxies)
    seen = []
    result = api.apply(api.plan(devices), devices, progress=lambda name, phase: seen.append((name, phase)))
    assert {outcome.device: outcome.phase for outcome in result.outcomes} == {"north": api.Phase.CONFIRMED, "south": api.Phase.REFUSED}
    assert ("north", api.Phase.VERIFIED) in seen
    with pytest.raises(RpcFailed):
        result.raise_if_bad()
    with pytest.raises(InputError, match="neither a number"):
        api.apply(api.plan(devices), devices, canary="0%")


def test_any_executor_will_do(fleet):
    """Processes: every leg is pickled, and nothing but the plan and the address goes along."""
    devices = api.devices("inventory")
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as executor:
        result = api.apply(api.plan(devices), devices, atomic="fleet", executor=executor)
    result.raise_if_bad()
    assert [member.interfaces() for member in fleet.members.values()] == [["lan0", "wan"]] * 2
