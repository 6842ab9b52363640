"""What a device runs becomes its desired state: a plan of it is empty, and adopting twice changes no byte."""

from __future__ import annotations

import pytest

RUNS = """\
igmp-proxy:
  - name: tv
    query-interval: 31.25s
    groups: [{action: allow, group: 239.0.0.0/8}, {action: deny}]
    interfaces:
      - {interface: wan, upstream: yes, alternative-subnets: [198.51.100.0/24, 10.0.0.0/8]}
      - {interface: lan0, static-groups: [239.1.1.9]}
    mfc: {source: 192.168.100.5, group: 239.255.1.1, downstream-interface: lan0}
firewall:
  rules: [{chain: input, action: accept, protocol: igmp, comment: "IGMP: 'all' of it"}]
logging: {topics: [igmp-proxy, debug], action: memory}
"""


@pytest.fixture
def runs(igmpconf, agent, place):
    (place / "runs.yaml").write_text(RUNS)
    assert igmpconf("apply", "-f", "runs.yaml", "--yes").code == 0
    return agent


@pytest.fixture
def inventory(place, agent, monkeypatch):
    monkeypatch.delenv("IGMPCONF_DEVICE")
    (place / "inventory" / "host_vars").mkdir(parents=True)
    (place / "inventory" / "hosts.yaml").write_text(
        f"all: {{vars: {{ansible_connection: local, igmpconf_config: ../other.yaml}}, hosts: {{r1: {{igmpconf_socket: {agent.socket_path}}}}}}}\n"
    )
    (place / "other.yaml").write_text("igmp-proxy: {interfaces: [{interface: wan, upstream: yes}, lan0]}\n")
    return place


def test_what_is_adopted_plans_no_change_and_comes_out_the_same_again(igmpconf, runs, place):
    first = igmpconf("adopt", f"unix:{runs.socket_path}")
    assert first.code == 0, first.err
    (place / "adopted.yaml").write_text(first.out)
    said = igmpconf("plan", "-f", "adopted.yaml", "--detailed-exitcode")
    assert said.code == 0, said.out
    assert igmpconf("adopt").out == first.out  # the default device
    assert igmpconf("adopt", "-o", "out.yaml").err.endswith("out.yaml: written\n")
    assert (place / "out.yaml").read_text().partition("\n")[2] == first.out
    assert igmpconf("adopt", "-o", "out.yaml").err.endswith("out.yaml: unchanged\n")
    assert igmpconf("plan", "-f", "out.yaml", "--detailed-exitcode").code == 0


def test_a_device_without_configuration_is_adopted_as_nothing_wanted(igmpconf, agent, place):
    said = igmpconf("adopt", "-o", "empty.yaml")
    assert said.code == 0, said.err
    assert igmpconf("plan", "-f", "empty.yaml", "--detailed-exitcode").code == 0


def test_into_the_inventory_and_the_plan_is_empty(igmpconf, runs, inventory):
    assert igmpconf("plan", "--detailed-exitcode").code == 2
    said = igmpconf("adopt", "r1", "--into-inventory")
    assert said.code == 0, said.err
    assert (inventory / "inventory" / "host_vars" / "r1.yaml").read_text() == "igmpconf_config: ../desired/r1.yaml\n"
    assert igmpconf("plan", "--detailed-exitcode").code == 0
    before = (inventory / "desired" / "r1.yaml").read_bytes()
    assert "the inventory says this already" in igmpconf("adopt", "r1", "--into-inventory").err
    (inventory / "desired" / "r1.yaml").unlink()
    (inventory / "desired" / "r1.yaml").write_text("{}\n")
    assert igmpconf("adopt", "-l", "all", "--into-inventory").code == 0
    assert (inventory / "desired" / "r1.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("r1.yml", ("# who: me\nsite: x # here\nlist:\n  - a\n", "# who: me\nsite: x # here\nlist:\n  - a\nigmpconf_config: ../desired/r1.yaml\n")),
        ("r1", ("igmpconf_config: [a.yaml, b.yaml] # old\nsite: x\n", "igmpconf_config: ../desired/r1.yaml\nsite: x\n")),
        ("r1.yaml", ("site: x\nigmpconf_config: other.yaml", "site: x\nigmpconf_config: ../desired/r1.yaml")),
        ("r1/site.yaml", ("site: x\n", "site: x\n")),
    ],
)
def test_what_else_host_vars_say_stays_as_it_is_written(igmpconf, runs, inventory, name, texts):
    before, after = texts
    file = inventory / "inventory" / "host_vars" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(before)
    said = igmpconf("adopt", "r1", "--into-inventory")
    assert said.code == 0, said.err
    assert file.read_text() == after
    if "/" in name:
        assert (file.parent / "igmpconf.yaml").read_text() == "igmpconf_config: ../desired/r1.yaml\n"
    assert igmpconf("plan", "--detailed-exitcode").code == 0


@pytest.mark.parametrize(
    "before",
    ["{site: x}\n", "igmpconf_config:\n  - a.yaml\n  - b.yaml\n", "igmpconf_config: &a x.yaml\nother: *a\n", "text: |\n  x\n  igmpconf_config: y\n---\n"],
)
def test_what_cannot_be_changed_without_touching_more_is_left_and_told(igmpconf, runs, inventory, before):
    file = inventory / "inventory" / "host_vars" / "r1.yaml"
    for group_wide in ("a.yaml", "b.yaml", "x.yaml"):
        (inventory / "inventory" / group_wide).write_text("igmp-proxy: {interfaces: [{interface: wan, upstream: yes}, lan0]}\n")
        (inventory / "inventory" / group_wide).rename(inventory / group_wide)
    file.write_text(before)
    said = igmpconf("adopt", "r1", "--into-inventory")
    assert said.code == 3
    assert file.read_text() == before
    assert not (inventory / "desired").exists()


def test_what_cannot_be_is_a_usage_error(igmpconf, runs, inventory):
    assert igmpconf("adopt", "r1", "-l", "all").code == 64
    assert igmpconf("adopt", "r1", "-o", "x", "--into-inventory").code == 64
    said = igmpconf("adopt", f"unix:{runs.socket_path}", "--into-inventory")
    assert said.code == 3
    assert "is not in an inventory" in said.err
