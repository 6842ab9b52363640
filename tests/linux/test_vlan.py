"""VLAN interfaces over links that are a model: created, changed, adopted, refused, removed; and the refusals of a real kernel."""

from __future__ import annotations

import errno

import pytest

from igmpconf.errors import KernelError
from igmpconf.linux.vlan import Link, Owned, VlanLinks, deviations, perform, released, steps
from igmpconf.model.config import VlanConfig
from tests.kit.netns import Net

IPTV = VlanConfig(name="vlan100-ipTV", interface="ether1", vlan_id=100)
OURS = Owned(interface="ether1", vlan_id=100, is_created=True)


class Links:
    """A namespace with ether1 and ether2; `refuse` is the errno of the next verb of that name."""

    def __init__(self, *more: Link) -> None:
        self.table = {one.name: one for one in (Link(1, "ether1", None, True), Link(2, "ether2", None, True), *more)}
        self.refuse: dict[str, int] = {}
        self.calls: list[str] = []

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        if verb in self.refuse:
            raise OSError(self.refuse[verb], "")

    def links(self):
        return dict(self.table)

    def create(self, name, parent_ifindex, vlan_id):
        self._called("create")
        parent = next(one.name for one in self.table.values() if one.ifindex == parent_ifindex)
        index = max(one.ifindex for one in self.table.values()) + 1
        self.table[name] = Link(index, name, "vlan", False, parent, vlan_id)

    def remove(self, ifindex):
        self._called("remove")
        self.table = {name: one for name, one in self.table.items() if one.ifindex != ifindex}

    def set_up(self, ifindex, *, is_up):
        self._called("up" if is_up else "down")
        for name, one in self.table.items():
            if one.ifindex == ifindex:
                self.table[name] = Link(one.ifindex, one.name, one.kind, is_up, one.parent, one.vlan_id)


def made(links: Links, *wanted: VlanConfig, owned=None) -> dict[str, Owned]:
    todo = steps(wanted, links.links(), owned or {})
    perform(links, todo)
    return todo.owned


def test_created_up_and_nothing_the_second_time():
    links = Links()
    owned = made(links, IPTV)
    assert owned == {"vlan100-ipTV": OURS}
    assert links.table["vlan100-ipTV"] == Link(3, "vlan100-ipTV", "vlan", True, "ether1", 100)
    links.calls.clear()
    assert made(links, IPTV, owned=owned) == owned
    assert links.calls == []
    assert deviations((IPTV,), links.links()) == []


@pytest.mark.parametrize(
    "changed",
    [VlanConfig(name="vlan100-ipTV", interface="ether2", vlan_id=100), VlanConfig(name="vlan100-ipTV", interface="ether1", vlan_id=200)],
)
def test_ours_is_made_anew_when_its_parent_or_id_changes(changed):
    links = Links()
    owned = made(links, changed, owned=made(links, IPTV))
    link = links.table["vlan100-ipTV"]
    assert (link.parent, link.vlan_id, link.is_up) == (changed.interface, changed.vlan_id, True)
    assert made(links, owned=owned) == {}
    assert set(links.table) == {"ether1", "ether2"}


def test_another_name_for_the_same_vlan():
    links = Links()
    made(links, VlanConfig(name="tv", interface="ether1", vlan_id=100), owned=made(links, IPTV))
    assert set(links.table) == {"ether1", "ether2", "tv"}


def test_a_foreign_one_that_matches_is_adopted_and_left_at_the_end():
    links = Links(Link(9, "vlan100-ipTV", "vlan", True, "ether1", 100))
    assert made(links, IPTV) == {}
    assert links.calls == []
    assert made(links) == {}
    assert "vlan100-ipTV" in links.table


def test_a_foreign_one_that_was_down_is_set_up_and_let_down_again():
    links = Links(Link(9, "vlan100-ipTV", "vlan", False, "ether1", 100))
    owned = made(links, IPTV)
    assert links.table["vlan100-ipTV"].is_up
    assert made(links, IPTV, owned=owned) == owned
    assert [link.name for link in released(links.links(), owned, ())] == ["vlan100-ipTV"]
    made(links, owned=owned)
    assert "vlan100-ipTV" in links.table


@pytest.mark.parametrize(
    ("foreign", "what"),
    [
        (Link(9, "vlan100-ipTV", "bridge", True), "is a bridge interface"),
        (Link(9, "vlan100-ipTV", None, True), "is a physical interface"),
        (Link(9, "vlan100-ipTV", "vlan", True, "ether2", 100), "is VLAN 100 of ether2"),
        (Link(9, "vlan100-ipTV", "vlan", True, "ether1", 101), "is VLAN 101 of ether1"),
        (Link(9, "eth1.100", "vlan", True, "ether1", 100), "exists already under the name eth1.100"),
    ],
)
@pytest.mark.parametrize("owned", [{}, {"vlan100-ipTV": OURS}])
def test_a_foreign_one_that_differs_is_refused_with_the_reason_and_nothing_is_touched(foreign, what, owned):
    links = Links(foreign)
    with pytest.raises(KernelError, match=what):
        made(links, IPTV, owned=owned)
    assert links.calls == []
    assert made(links, owned=owned) == {}  # what only has the name of ours stays
    assert foreign.name in links.table


def test_a_parent_that_comes_late_is_waited_for():
    links = Links()
    del links.table["ether1"]
    owned = made(links, IPTV)
    assert [row.found for row in deviations((IPTV,), links.links())] == ["absent: ether1 does not exist"]
    links.table["ether1"] = Link(1, "ether1", None, True)
    made(links, IPTV, owned=owned)
    assert deviations((IPTV,), links.links()) == []


def test_a_parent_that_is_down_is_told_and_does_not_refuse_the_change():
    links = Links()
    links.table["ether1"] = Link(1, "ether1", None, False)
    links.refuse["up"] = errno.ENETDOWN
    made(links, IPTV)
    assert [row.found for row in deviations((IPTV,), links.links())] == ["down: ether1 is down"]


@pytest.mark.parametrize(("code", "word"), [(errno.EOPNOTSUPP, "CONFIG_VLAN_8021Q"), (errno.EPERM, "not permitted"), (errno.ENOMEM, "Cannot allocate")])
def test_a_refusal_says_what_is_missing(code, word):
    links = Links()
    links.refuse["create"] = code
    with pytest.raises(KernelError, match=word) as refused:
        made(links, IPTV)
    assert "create vlan100-ipTV, VLAN 100 of ether1" in refused.value.message


@pytest.mark.kernel
def test_the_interfaces_of_a_real_kernel_are_read_as_they_are():
    def body():
        table = VlanLinks()
        found = table.links()
        table.close()
        return found

    with Net() as net:
        router, other = net.namespace("router"), net.namespace("other")
        net.veth(router, "ether1", other, "eth0")
        router.run("ip link add br0 type bridge")
        links = router.call(body)
    assert (links["ether1"].kind, links["ether1"].is_up, links["ether1"].vlan_id) == ("veth", True, None)
    assert (links["br0"].kind, links["br0"].is_up, links["br0"].described) == ("bridge", False, "a bridge interface")
    assert links["lo"].kind is None
