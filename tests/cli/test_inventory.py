"""The example fleet of the repository, and what the commands make of an inventory."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_the_example_fleet_is_valid(igmpconf):
    said = igmpconf("validate", "-i", ROOT / "inventory")
    assert said.code == 0, said.err
    assert said.err == "8 hosts valid\n"


def test_a_host_is_rendered_from_its_template_and_the_file_that_is_laid_over_it(igmpconf):
    plain = yaml.safe_load(igmpconf("render", "hotel-floor1", "-i", ROOT / "inventory").out)
    interfaces = {entry["interface"]: entry for entry in plain["igmp-proxy"][0]["interfaces"]}
    assert set(interfaces) == {"vlan200", "room101", "room102", "room103"}
    assert interfaces["room101"] == {"interface": "room101", "max-groups": 4, "static-groups": [{"group": "239.10.0.1", "source": "*"}]}
    as_json = json.loads(igmpconf("render", "home-02", "-i", ROOT / "inventory", "--format", "json").out)
    assert as_json["vlans"] == [{"name": "vlan4", "interface": "eth0", "vlan-id": 4}]


@pytest.fixture
def fleet(place, agent, monkeypatch):
    monkeypatch.delenv("IGMPCONF_DEVICE")
    (place / "inventory").mkdir()
    (place / "inventory" / "hosts.yaml").write_text(
        f"all:\n  vars: {{ansible_connection: local, igmpconf_config: t.yaml.j2, down: lan0}}\n"
        f"  hosts:\n    r1: {{igmpconf_socket: {agent.socket_path}}}\n    dead: {{igmpconf_socket: {place}/none.sock}}\n"
    )
    (place / "inventory" / "t.yaml.j2").write_text("igmp-proxy: {interfaces: [{interface: wan, upstream: yes}, {{ down }}]}\n")
    return place


def test_the_desired_state_comes_from_the_inventory(igmpconf, fleet, agent):
    assert igmpconf("apply", "-l", "r1", "--yes").code == 0
    assert [entry.interface for entry in agent.engine.config.proxies[0].interfaces] == ["lan0", "wan"]
    assert igmpconf("drift", "-l", "r1").code == 0


def test_devices_that_cannot_be_asked_are_told_beside_those_that_can(igmpconf, fleet):
    igmpconf("apply", "-l", "r1", "--yes")
    said = igmpconf("show", "groups", "--format", "json")
    assert said.code == 5
    r1, dead = json.loads(said.out)["devices"]
    assert r1["rows"][0]["group"] == "239.1.1.1"
    assert "not running" in dead["error"]
    assert "2 hosts of ./inventory" in said.err


def test_an_apply_that_cannot_read_every_device_changes_none(igmpconf, fleet, agent):
    assert igmpconf("apply", "--yes").code == 5
    assert agent.engine.config.proxies == ()


def test_a_mistake_in_a_template_names_the_template_and_the_host(igmpconf, fleet):
    (fleet / "inventory" / "t.yaml.j2").write_text("igmp-proxy: {interfaces: [{interface: wan, upstreem: yes}, {{ down }}]}\n")
    said = igmpconf("validate")
    assert said.code == 3
    assert "inventory/t.yaml.j2:1:1: error: igmp-proxy[default]/interfaces[wan]/upstreem: unknown key 'upstreem' (for r1, dead)" in said.err
    assert "did you mean 'upstream'" in said.err


def test_one_file_is_not_applied_to_many(igmpconf, fleet):
    said = igmpconf("apply", "-f", "home.yaml", "--yes")
    assert said.code == 64
    assert "2 are chosen" in said.err


def test_a_running_lab_comes_before_the_inventory_but_not_before_what_is_named(igmpconf, fleet, agent, tmp_path):
    lab = tmp_path / "state-home" / "igmpconf" / "lab"
    lab.mkdir(parents=True)
    (lab / "inventory.yaml").write_text(f"all: {{hosts: {{router: {{ansible_connection: local, igmpconf_socket: {agent.socket_path}}}}}}}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as supervisor:
        supervisor.bind(str(lab / "control.sock"))
        supervisor.listen()
        said = igmpconf("plan", "-f", "home.yaml")
        assert said.code == 0
        assert "router of the running lab" in said.err
        assert igmpconf("plan", "-f", "home.yaml", "-d", "lab").code == 0
        assert igmpconf("plan", "-f", "home.yaml", "-d", "dead").code == 5
        assert igmpconf("plan").code == 5  # the desired state comes from the inventory, and so do the devices
    said = igmpconf("plan", "-f", "home.yaml")  # what a killed lab left is nobody's device
    assert "running lab" not in said.err


def test_without_anything_the_device_is_this_machine(igmpconf, place):
    said = igmpconf("show", "groups")
    assert "device: local" in said.err
    assert said.code == 5


def test_a_floor_of_the_example_takes_31_rooms_and_not_one_more(igmpconf, place):
    for name in ("inventory", "templates"):
        shutil.copytree(ROOT / name, place / name)
    file = place / "inventory" / "host_vars" / "hotel-floor2.yaml"
    file.write_text('rooms: "{{ range(101, 132) | list }}"\n')
    assert igmpconf("validate", "-l", "hotel-floor2").code == 0
    file.write_text('rooms: "{{ range(101, 133) | list }}"\n')
    said = igmpconf("validate", "-l", "hotel-floor2")
    assert said.code == 3
    assert "templates/desired/hotel-floor.yaml.j2:13:" in said.err
    assert "interfaces has 33 entries, the limit is 32" in said.err
    assert "MAXVIFS" in said.err
