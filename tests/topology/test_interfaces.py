"""Links and addresses as the kernel tells them."""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path

import pytest

from igmpconf.engine.events import InterfaceAddress
from igmpconf.linux.facts import Links
from tests.kit.netns import Net

pytestmark = pytest.mark.kernel


@pytest.fixture
def net():
    with Net() as net:
        net.router = net.namespace("router")
        yield net


class Watch:
    """Folds what `Links` says into a picture, as the runner does."""

    def __init__(self) -> None:
        self.links = Links()
        self.picture = {one.ifindex: one for one in self.links.current()}

    def until(self, condition):
        deadline = time.monotonic() + 5
        while not condition(self.picture):
            assert time.monotonic() < deadline, self.picture
            if select.select([self.links], [], [], 0.1)[0]:
                news = self.links.read()
                for ifindex in news.removed:
                    del self.picture[ifindex]
                self.picture.update((one.ifindex, one) for one in news.changed)

    def named(self, name):
        return next((one for one in self.picture.values() if one.name == name), None)


def ip(net, command):
    net.router.run(f"ip {command}")


def test_an_interface_comes_changes_and_goes(net):
    def body():
        watch = Watch()
        ip(net, "link add name lan0 type veth peer name far mtu 1400")
        watch.until(lambda _: watch.named("lan0"))
        assert not watch.named("lan0").is_up
        ip(net, "link set lan0 up")
        ip(net, "link set far up")
        watch.until(lambda _: watch.named("lan0").is_up)
        ip(net, "link set far down")  # the carrier goes
        watch.until(lambda _: not watch.named("lan0").is_up)
        ip(net, "link set far up")
        ip(net, "link set lan0 mtu 1300")
        watch.until(lambda _: watch.named("lan0").is_up and watch.named("lan0").mtu == 1300)
        index = watch.named("lan0").ifindex
        assert index == socket.if_nametoindex("lan0")
        ip(net, "link set lan0 down")
        ip(net, "link set lan0 name wan9")
        watch.until(lambda _: watch.named("wan9"))
        assert watch.named("wan9").ifindex == index
        ip(net, "link del wan9")
        watch.until(lambda picture: index not in picture)

    net.router.call(body)


def test_addresses_come_and_go_primary_first(net):
    def address(text, length):
        return InterfaceAddress(socket.inet_aton(text), length)

    def body():
        watch = Watch()
        ip(net, "link add name lan0 type veth peer name far")
        ip(net, "addr add 10.2.0.1/24 dev lan0")
        ip(net, "addr add 10.2.0.9/24 dev lan0")
        ip(net, "addr add 10.3.0.1/16 dev lan0")
        watch.until(lambda _: watch.named("lan0") and len(watch.named("lan0").ipv4) == 3)
        assert watch.named("lan0").ipv4 == (address("10.2.0.1", 24), address("10.3.0.1", 16), address("10.2.0.9", 24))
        ip(net, "addr del 10.3.0.1/16 dev lan0")
        watch.until(lambda _: len(watch.named("lan0").ipv4) == 2)
        fresh = Links()
        assert {one.name: one for one in fresh.current()}["lan0"] == watch.named("lan0")
        ip(net, "addr add 10.9.0.1 peer 10.9.0.2/32 dev lan0")
        watch.until(lambda _: address("10.9.0.1", 32) in watch.named("lan0").ipv4)

    net.router.call(body)


def test_a_tentative_ipv6_address_is_told_when_it_may_be_used(net):
    def body():
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("1")
        watch = Watch()
        ip(net, "link add name lan0 type veth peer name far")
        ip(net, "link set far up")
        ip(net, "link set lan0 up")
        watch.until(lambda _: watch.named("lan0") and watch.named("lan0").is_up)
        assert watch.named("lan0").ipv6 == ()
        watch.until(lambda _: watch.named("lan0").ipv6)
        (found,) = watch.named("lan0").ipv6
        assert (found.address[:2], found.prefix_length) == (b"\xfe\x80", 64)

    net.router.call(body)


def test_leaving_a_bridge_is_no_removal(net):
    def body():
        watch = Watch()
        ip(net, "link add name br0 type bridge")
        ip(net, "link add name lan0 type veth peer name far")
        ip(net, "link set lan0 master br0")
        ip(net, "link set lan0 nomaster")
        ip(net, "link set lan0 mtu 1290")
        watch.until(lambda _: watch.named("lan0") and watch.named("lan0").mtu == 1290)
        assert watch.named("lan0").ifindex == socket.if_nametoindex("lan0")

    net.router.call(body)


def test_lost_announcements_are_made_good(net):
    def body():
        watch = Watch()
        ip(net, "link add name keep type veth peer name far")
        ip(net, "link add name gone type veth peer name gone2")
        watch.until(lambda _: watch.named("gone"))
        watch.links._monitor.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        read, readings = watch.links._monitor.read, []
        watch.links._monitor.read = lambda: readings.append(read()) or readings[-1]
        ip(net, "link del gone")
        for number in range(60):
            ip(net, f"link set keep mtu {1300 + number}")
        ip(net, "link add name late type veth peer name late2")
        watch.until(lambda _: watch.named("late") and not watch.named("gone") and watch.named("keep").mtu == 1359)
        assert None in readings, "nothing was lost, so nothing was tested"

    net.router.call(body)
