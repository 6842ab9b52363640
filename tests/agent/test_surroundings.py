"""What is beside the engines, when something is missing, damaged, or from another world."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest

from igmpconf.agent.owned import FILE, OwnedFile, Setting
from igmpconf.agent.surroundings import Surroundings
from igmpconf.errors import KernelError
from igmpconf.linux.nft import Nftables
from igmpconf.linux.vlan import Link
from igmpconf.model.canon import from_plain
from igmpconf.model.config import DeviceConfig
from tests.linux.test_vlan import Links

VLAN = {"name": "tv", "interface": "ether1", "vlan-id": 7}
UPSTREAM = {"igmp-proxy": [{"name": "default", "interfaces": [{"interface": "ether1", "upstream": True}, "ether2"]}]}
RP = "net.ipv4.conf.ether1.rp_filter"


class Settings(dict):
    refuses = 0

    def read(self, name):
        return self.get(name)

    def write(self, name, value):
        if self.refuses:
            raise KernelError("set", self.refuses, "cannot be written")
        self[name] = value


class World:
    def __init__(self, state_dir) -> None:
        self.state_dir = state_dir
        self.loop = asyncio.new_event_loop()
        self.links = Links()
        self.settings = Settings({"net.ipv4.conf.all.rp_filter": 0, RP: 1})
        self.notes = []
        self.start()

    def start(self) -> None:
        self.surroundings = Surroundings(
            loop=self.loop, log=self.notes.append, state_dir=self.state_dir, firewall=Nftables("does-not-exist"), links=self.links, settings=self.settings
        )

    def replace(self, plain) -> None:
        self.surroundings.prepare(from_plain(DeviceConfig, plain))
        self.surroundings.settle()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.surroundings.close()
    made.loop.close()


def test_a_refused_part_leaves_the_other_parts_as_they_were(world):
    world.replace({})
    with pytest.raises(KernelError, match="does-not-exist is missing"):
        world.replace({"vlans": [VLAN], "firewall": {"manage": True}} | UPSTREAM)
    assert "tv" not in world.links.table
    assert world.settings[RP] == 1


def test_when_the_engines_refuse_everything_is_put_back(world):
    world.replace({})
    world.surroundings.prepare(from_plain(DeviceConfig, {"vlans": [VLAN]} | UPSTREAM))
    assert "tv" in world.links.table
    assert world.settings[RP] == 0
    world.surroundings.revert()
    assert "tv" not in world.links.table
    assert world.settings[RP] == 1


def test_at_the_start_what_is_missing_is_told_and_the_rest_is_made(world):
    world.replace({"vlans": [VLAN], "firewall": {"manage": True}} | UPSTREAM)
    assert "tv" in world.links.table
    assert world.settings[RP] == 0
    assert [note.event for note in world.notes if note.level == "error"] == ["surroundings/refused"]
    assert [(row.kind, row.name) for row in world.surroundings.deviations()] == [("firewall", "nftables")]


def test_what_was_changed_is_on_the_disk_before_it_is_changed(world):
    world.replace({})
    world.settings.refuses = errno.EIO
    with pytest.raises(KernelError, match="cannot be written"):
        world.surroundings.prepare(from_plain(DeviceConfig, UPSTREAM))
    world.settings.refuses = 0
    world.surroundings.prepare(from_plain(DeviceConfig, UPSTREAM))
    assert json.loads((world.state_dir / FILE).read_text())["settings"] == {RP: {"given": 0, "ifindex": 1, "was": 1}}


def test_a_disk_that_takes_nothing_refuses_the_change(world):
    world.replace({})
    (world.state_dir / (FILE + ".new")).mkdir()  # nothing can be written under that name
    with pytest.raises(KernelError, match="cannot write into the state directory"):
        world.surroundings.prepare(from_plain(DeviceConfig, UPSTREAM))
    assert world.settings[RP] == 1


def test_a_later_process_puts_back_what_an_earlier_one_changed(world):
    world.replace({"vlans": [VLAN]} | UPSTREAM)
    world.surroundings.close()
    world.start()
    world.replace({})
    assert "tv" not in world.links.table
    assert world.settings[RP] == 1


def test_after_a_reboot_nothing_is_ours_any_more(world):
    world.replace({"vlans": [VLAN]} | UPSTREAM)
    world.surroundings.close()
    document = json.loads((world.state_dir / FILE).read_text())
    (world.state_dir / FILE).write_text(json.dumps(document | {"world": "another boot"}))
    world.start()
    world.replace({})
    assert "tv" in world.links.table
    assert world.settings[RP] == 0


def test_a_damaged_file_is_told_and_does_not_stop_the_agent(world):
    (world.state_dir / FILE).write_text("{")
    world.replace({})
    assert [note.event for note in world.notes] == ["owned/unreadable"]
    assert OwnedFile(world.state_dir).now.settings == {}


def test_a_value_that_somebody_else_gave_meanwhile_stays_at_the_end(world):
    world.replace(UPSTREAM)
    world.settings[RP] = 2
    world.replace({})
    assert world.settings[RP] == 2


def test_an_interface_that_was_made_anew_is_not_given_the_old_ones_value(world):
    world.replace(UPSTREAM)
    world.links.table["ether1"] = Link(77, "ether1", None, True)
    world.settings[RP] = 0
    world.replace({})
    assert world.settings[RP] == 0
    assert OwnedFile(world.state_dir).now.settings == {}
    assert Setting(was=1, given=0, ifindex=1) != Setting(was=1, given=0, ifindex=77)


def test_settings_that_a_container_may_not_write_are_shown_and_refuse_nothing(world):
    world.replace({})
    world.settings.refuses = errno.EROFS
    world.replace(UPSTREAM)
    assert [(row.name, row.expected, row.found) for row in world.surroundings.deviations()] == [(RP, "0", "1")]
    world.surroundings._look()
    assert [note.event for note in world.notes] == ["surroundings/refused"]  # once
    world.settings.refuses = 0
    world.surroundings._look()
    assert world.settings[RP] == 0
    assert [note.event for note in world.notes][1:] == ["setting/changed", "surroundings/put-right"]
    world.replace({})
    assert world.settings[RP] == 1
