"""A plan for some of the hosts sees what it has to do with the others, of whom nobody is asked."""

from __future__ import annotations

import pytest

from igmpconf import api
from igmpconf.errors import InputError
from igmpconf.inventory import desired
from igmpconf.inventory.fleet import load
from tests.fleet.agents import Fleet

TEMPLATE = """\
igmp-proxy:
  interfaces:
    - {interface: wan, upstream: yes}
    - {interface: lan0{% if says is defined %}, source-address: {{ says }}{% endif %}}
{% if twice | default(false) %}
  forward-when-non-querier: yes
{% endif %}
{% if source is defined %}
  mfc: [{source: {{ source }}, group: 239.1.1.1, downstream-interface: lan0}]
{% endif %}
"""


@pytest.fixture
def fleet(tmp_path, place):
    """r1 and r2 answer, the others are words of an inventory; lan0 of r1 and r2 is on one LAN each."""
    (tmp_path / "agents").mkdir()
    (place / "proxy.yaml.j2").write_text(TEMPLATE)
    with Fleet(tmp_path / "agents", ["r1", "r2"]) as made:
        for number in (1, 2):
            made[f"r{number}"].engine.addresses = (f"wan 10.0.0.{number}/24", f"lan0 10.{number}.0.1/24")
        yield made


@pytest.fixture
def inventory(fleet, place):
    def write(**others: str):
        hosts = {name: f"igmpconf_socket: {member.socket_path}" for name, member in fleet.members.items()}
        for name, words in others.items():
            hosts[name] = f"{hosts[name]}, {words}" if name in hosts else f"igmpconf_socket: {place}/nobody.sock, {words}"
        text = "".join(f"    {name}: {{{words}}}\n" for name, words in hosts.items())
        (place / "hosts.yaml").write_text(f"all:\n  vars: {{ansible_connection: local, igmpconf_config: proxy.yaml.j2}}\n  hosts:\n{text}")

    return write


def findings(said) -> list[str]:
    return [line.partition("[fleet/")[2].rstrip("]") for line in said.err.splitlines() if "[fleet/" in line]


def test_a_group_that_another_host_has_from_another_source(igmpconf, inventory):
    inventory(r1="source: 192.0.2.1", far="source: 192.0.2.9", further="source: 192.0.2.8")
    said = igmpconf("plan", "-i", "hosts.yaml", "-l", "r1")
    assert (said.code, findings(said)) == (0, ["group-sourced-twice"]), said.err
    assert "239.1.1.1 comes from 192.0.2.1 on r1 and from 192.0.2.9 on far" in said.err
    other = igmpconf("plan", "-i", "hosts.yaml", "-l", "r2")
    assert (other.code, findings(other)) == (0, []), "far and further have nothing to do with r2"
    inventory(r2="source: 192.0.2.1", far="source: 192.0.2.9")
    shard = igmpconf("plan", "-i", "hosts.yaml", "-l", "r1,r2", "--shard", "2/2")
    assert (shard.code, findings(shard)) == (0, ["group-sourced-twice"]), shard.err


def test_the_other_half_of_a_shard_is_seen_by_what_is_wanted_of_it(igmpconf, inventory):
    inventory(r1="source: 192.0.2.1", r2="source: 192.0.2.9")
    for shard in ("1/2", "2/2"):
        assert findings(igmpconf("plan", "-i", "hosts.yaml", "--shard", shard)) == ["group-sourced-twice"]


def test_a_router_that_another_host_names_on_the_lan_of_a_chosen_one(igmpconf, inventory):
    inventory(far="says: 10.1.0.9")
    said = igmpconf("plan", "-i", "hosts.yaml", "-l", "r1")
    assert (said.code, findings(said)) == (0, ["two-queriers"]), said.err
    assert "2 devices serve 10.1.0.0/24: lan0 of r1 (10.1.0.1), lan0 of far (10.1.0.9)" in said.err
    assert findings(igmpconf("plan", "-i", "hosts.yaml", "-l", "r2")) == []
    inventory(far="says: 10.1.0.1")
    assert findings(igmpconf("plan", "-i", "hosts.yaml", "-l", "r1")).count("duplicate-address") == 1
    inventory(far="says: 10.1.0.9, igmpconf_site: elsewhere")
    assert findings(igmpconf("plan", "-i", "hosts.yaml", "-l", "r1")) == []


def test_an_error_keeps_the_chosen_device_from_being_changed(igmpconf, inventory, fleet):
    inventory(far="says: 10.1.0.9, twice: true")
    for verb in ("plan", "apply"):
        said = igmpconf(verb, "-i", "hosts.yaml", "-l", "r1", *(["--yes"] if verb == "apply" else []))
        assert (said.code, findings(said)) == (3, ["forwarded-twice"]), said.err
    assert fleet["r1"].interfaces() == []
    assert igmpconf("apply", "-i", "hosts.yaml", "-l", "r2", "--yes").code == 0
    with pytest.raises(InputError, match="1 error in the fleet"):
        api.plan(api.devices("hosts.yaml", "r1"))
    assert len(api.plan(api.devices("hosts.yaml", "r2")).devices) == 1


def test_the_mistakes_of_others_are_theirs_and_are_named(igmpconf, inventory, place):
    inventory(r1="source: 192.0.2.1", far="source: 192.0.2.9", broken="says: nonsense", silent="igmpconf_config: []", lost="igmpconf_config: none.yaml")
    said = igmpconf("plan", "-i", "hosts.yaml", "-l", "r1")
    assert (said.code, findings(said)) == (0, ["group-sourced-twice"]), said.err
    assert "not compared with broken, lost: what is wanted of them cannot be read, `igmpconf validate` says why" in said.err


def test_a_chosen_device_that_does_not_answer_is_compared_by_what_is_wanted_of_it(igmpconf, inventory, fleet):
    inventory(r1="source: 192.0.2.1", r2="source: 192.0.2.9")
    fleet.kill("r2")
    said = igmpconf("plan", "-i", "hosts.yaml", "--skip-unreachable")
    assert (said.code, findings(said)) == (0, ["group-sourced-twice"]), said.err


def test_offline_too(igmpconf, inventory):
    inventory(r1="source: 192.0.2.1", far="source: 192.0.2.9")
    assert findings(igmpconf("validate", "-i", "hosts.yaml", "-l", "r1")) == ["group-sourced-twice"]
    assert findings(igmpconf("validate", "-i", "hosts.yaml", "-l", "r2")) == []


def test_only_hosts_of_the_same_sites_are_read(inventory, place, monkeypatch):
    inventory(r1="igmpconf_site: here", near="igmpconf_site: here", far="igmpconf_site: there", further="source: 192.0.2.9")
    hosts = load(place / "hosts.yaml").select("r1")
    (wanted,) = desired.of_hosts(hosts)
    read: list[str] = []
    plain = desired._Reader.read
    monkeypatch.setattr(desired._Reader, "read", lambda reader, host, files: (read.append(host.name), plain(reader, host, files))[1])
    found = desired.fellows_of([desired.Planned(name="r1", wanted=wanted, host=hosts[0])])
    assert ([one.name for one in found.known], found.unread, read) == (["near"], (), ["near"])


def test_so_many_others_are_not_read_for_one_and_that_is_said(inventory, igmpconf, monkeypatch):
    """Without sites every host of a large inventory is a fellow, and a plan of one device would wait for all of them."""
    monkeypatch.setattr(desired, "_MOST_FELLOWS", 2)
    monkeypatch.setattr(desired, "_MOST_EACH", 2)
    others = {f"far{number}": "source: 192.0.2.9" for number in range(3)}
    inventory(r1="source: 192.0.2.1", **others)
    said = igmpconf("validate", "-i", "hosts.yaml", "-l", "r1")
    assert (said.code, findings(said)) == (0, [])
    assert "not compared with the 4 other hosts of the inventory; igmpconf_site says which belong together" in said.err
    assert findings(igmpconf("validate", "-i", "hosts.yaml", "-l", "r1,far0")) == ["group-sourced-twice"], "for two it is worth while"
