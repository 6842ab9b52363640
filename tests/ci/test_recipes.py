"""The CI recipes do what they say: every shell step of both, over OpenSSH, against agents.

A change is validated, planned into a comment, approved, applied; a device that is changed behind our back is found.
"""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path

import pytest
import yaml

from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from igmpconf.netconf.client import NetconfClient
from igmpconf.schema.xml import config_to_xml
from tests.apply.agents import running_agent
from tests.ci.runners import RECIPES, Forge, GitHub, GitLab
from tests.kit.openssh import SSHD, Sshd

pytestmark = [
    pytest.mark.skipif(
        SSHD is None or not all(map(shutil.which, ("ssh", "curl", "bash"))), reason="OpenSSH or curl is not installed (Debian: openssh-server, curl)"
    ),
    pytest.mark.timeout(300),  # ten programs one after the other, each of which starts two SSH sessions
]

DESIRED = """\
igmp-proxy:
  - name: default
    interfaces:
      - {interface: wan, upstream: yes}
      - {interface: lan0, robustness: ROBUSTNESS}
"""


@pytest.fixture
def agents(tmp_path):
    """Two devices behind OpenSSH."""
    servers = []
    with running_agent(_made(tmp_path / "a")) as a, running_agent(_made(tmp_path / "b")) as b:
        try:
            for agent in (a, b):
                servers.append(Sshd(_made(agent.directory / "sshd"), agent.socket_path))
                shutil.copy(servers[0].home / "user.pub", servers[-1].home / "authorized_keys")
                servers[-1].start()
            yield (a, b), servers
        finally:
            for server in servers:
                server.stop()


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture(params=[GitHub, GitLab])
def runner(request, agents, tmp_path):
    _, servers = agents
    project = _made(tmp_path / "project")
    hosts = {name: {"ansible_host": "127.0.0.1", "ansible_port": server.port} for name, server in zip(("r1", "r2"), servers, strict=True)}
    everywhere = {"ansible_user": getpass.getuser(), "igmpconf_config": "../desired.yaml"}
    _made(project / "inventory")
    (project / "inventory" / "hosts.yaml").write_text(yaml.safe_dump({"all": {"vars": everywhere, "hosts": hosts}}))
    (project / "desired.yaml").write_text(DESIRED.replace("ROBUSTNESS", "2"))
    known = [f"[127.0.0.1]:{server.port} {' '.join((server.home / 'host.pub').read_text().split()[:2])}" for server in servers]
    forge = Forge()
    try:
        yield request.param(project, _made(tmp_path / "jobs"), forge, (servers[0].home / "user").read_text().rstrip("\n"), "\n".join(known))
    finally:
        forge.close()


def robustness(agent) -> list[int | None]:
    return [entry.robustness for proxy in agent.engine.config.proxies for entry in proxy.interfaces if entry.interface == "lan0"]


def interfaces(agent) -> list[str]:
    return [entry.interface for entry in agent.engine.config.proxies[0].interfaces]


def changed_at_the_device(agent, text: str = DESIRED.replace("ROBUSTNESS", "9")) -> None:
    """Somebody commits over NETCONF, without a plan."""
    changed = from_plain(DeviceConfig, yaml.safe_load(text))
    with NetconfClient.connect(agent.target) as client:
        client.lock()
        client.edit(config_to_xml(changed))
        client.commit()
        client.unlock()


def test_a_change_goes_from_a_push_to_the_devices_and_the_night_finds_what_was_changed_behind_it(runner, agents):
    (a, b), _ = agents
    desired = runner.project / "desired.yaml"

    desired.write_text(DESIRED.replace("ROBUSTNESS", "300"))
    said = runner.validate()
    assert said.code == 3
    assert said.said.startswith("desired.yaml:5:39: error: ")

    for value in ("3", "4"):
        desired.write_text(DESIRED.replace("ROBUSTNESS", value))
        reviewed = runner.plan(is_review=True)
        assert reviewed.code == 0, reviewed.said
        (comment,) = runner.forge.comments  # kept up to date, not one for each push
        assert "r1, r2 (2 devices alike)" in comment
        assert f"robustness {value}" in comment
    assert {line.removeprefix("Bearer ") for line in runner.forge.authorized} == {"token-of-the-job"}
    assert (robustness(a), robustness(b)) == ([], [])

    merged = runner.plan(is_review=False)
    assert len(runner.forge.comments) == 1
    applied = runner.apply(merged)
    assert applied is not None
    assert applied.code == 0, applied.said
    assert (robustness(a), robustness(b)) == ([4], [4])
    if isinstance(runner, GitHub):
        again = runner.plan(is_review=False)
        assert again.outputs == {"changes": "no"}
        assert runner.apply(again) is None  # nothing to approve

    changed_at_the_device(a)
    night = runner.drift()
    assert night.code == 2
    assert f"by {getpass.getuser()}" in night.said
    assert "robustness" in night.said + night.summary

    assert all((place / "pip").read_text() == "install igmpconf==0.1.0\n" for place in runner.work.glob("job*"))


@pytest.mark.parametrize("runner", [GitLab], indirect=True)
def test_an_approved_plan_that_interrupts_streams_is_refused_and_so_is_a_device_that_has_changed_since(runner, agents):
    (a, b), _ = agents
    watched = {device.engine: dict(device.engine.groups) for device in (a, b)}
    for device in (a, b):
        changed_at_the_device(device, DESIRED.replace("ROBUSTNESS", "2"))
        device.engine.groups.clear()
    runner.project.joinpath("desired.yaml").write_text(DESIRED.replace("lan0", "lan1").replace("ROBUSTNESS", "2"))
    assert runner.plan(is_review=False).code == 0
    changed_at_the_device(a)
    refused = runner.apply(None)
    assert refused.code == 4, refused.said
    assert robustness(a) == [9]
    assert interfaces(b) == ["lan1", "wan"]  # devices stand alone unless --atomic fleet

    for engine, groups in watched.items():
        engine.groups.update(groups)  # somebody watches on lan0 of a again, which the plan takes away
    assert runner.plan(is_review=False).code == 0
    refused = runner.apply(None)
    assert refused.code == 1
    assert "interrupts 239.1.1.1 on lan0" in refused.said
    assert interfaces(a) == ["lan0", "wan"]


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_recipes_ask_for_the_same_and_take_no_text_of_others_as_shell(name):
    text = (RECIPES / name).read_text()
    assert "pull_request_target" not in text
    assert text.count('igmpconf apply plan.json -i inventory --yes --max-impact "$IGMPCONF_MAX_IMPACT"') == 1
    if name == "github-actions.yml":  # a branch may be named $(reboot)
        assert not any("${{" in step.get("run", "") for job in GitHub.recipe["jobs"].values() for step in job["steps"])
