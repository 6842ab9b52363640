"""The fake kernel forwards as the real one does: random tables, random datagrams, the same outcome.

h0 10.1.0.2 --- v0 [router] v1 --- 10.2.0.2 h1
                            v2 --- 10.3.0.2 h2
"""

from __future__ import annotations

import random
import socket

import pytest

from igmpconf.engine.family import IGMP
from igmpconf.ids import TableId, VifIndex
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF
from igmpconf.linux.system import SystemKernel
from tests.kit.fake_kernel import FakeKernel
from tests.kit.netns import Net, wait_until

pytestmark = pytest.mark.kernel
PORT = 5000
GROUPS = ("239.1.1.1", "239.1.1.2")
MARKER = "239.9.9.9"
TRIALS = 40


@pytest.fixture
def net():
    with Net() as net:
        net.router = net.namespace("router")
        net.hosts = [net.namespace(f"h{number}") for number in range(3)]
        for number, host in enumerate(net.hosts):
            net.veth(net.router, f"v{number}", host, "eth0", f"10.{number + 1}.0.1/24", f"10.{number + 1}.0.2/24")
        yield net


def some_ttls(draw: random.Random) -> bytes:
    made = bytearray((NOT_AN_OIF,)) * MAX_VIFS
    for vif in range(3):
        made[vif] = draw.choice((0, 1, 1, 8, 254, NOT_AN_OIF))
    return bytes(made)


def packed(text: str | None) -> bytes | None:
    return socket.inet_aton(text) if text else None


@pytest.mark.parametrize("seed", range(4))
def test_the_model_and_the_kernel_agree(net, seed):
    def body():
        draw = random.Random(seed)
        real = SystemKernel().open_table(IGMP, TableId(0))
        fake_kernel = FakeKernel()
        fake = fake_kernel.open_table(IGMP, TableId(0))
        for number in range(3):
            real.add_vif(VifIndex(number), socket.if_nametoindex(f"v{number}"))
            fake.add_vif(VifIndex(number), fake_kernel.link(f"v{number}"))
        receivers = [{group: net.host(host, "eth0", group, PORT) for group in (*GROUPS, MARKER)} for host in net.hosts]
        senders = [{ttl: net.sender(host, "eth0", ttl=ttl) for ttl in (1, 2, 8, 9, 64)} for host in net.hosts]
        for number in range(3):  # what tells that everything before it has passed
            others = bytes(1 if vif != number and vif < 3 else NOT_AN_OIF for vif in range(MAX_VIFS))
            real.set_route(packed(f"10.{number + 1}.0.2"), packed(MARKER), VifIndex(number), others)
        for trial in range(TRIALS):
            keys = [(None, None), *((source, group) for group in GROUPS for source in (None, "10.1.0.2", "10.2.0.2"))]
            for source, group in draw.sample(keys, draw.randint(1, 5)):
                parent, ttls = VifIndex(draw.randrange(3)), some_ttls(draw)
                real.set_route(packed(source), packed(group), parent, ttls)
                fake.set_route(packed(source), packed(group), parent, ttls)
            # a new (S,G) entry first forwards what waited for it (ipmr_cache_resolve); the model has no such queue
            earlier = counters(real), counters(fake)
            expected: dict[bytes, set[str]] = {}
            for number in range(20):
                host, group, ttl = draw.randrange(3), draw.choice(GROUPS), draw.choice((1, 2, 8, 9, 64))
                payload = b"%d.%d.%d" % (trial, number, host)
                senders[host][ttl].send(group, PORT, payload)
                # a host takes no datagram with its own source address, which an (S,G) that lists its parent sends back
                expected[payload] = fake_kernel.forwarded(f"v{host}", f"10.{host + 1}.0.2", group, ttl=ttl, octets=len(payload) + 28) - {f"v{host}"}
            for host in range(3):
                senders[host][64].send(MARKER, PORT, b"%d from %d" % (trial, host))
            for to in range(3):
                marks = {b"%d from %d" % (trial, host) for host in range(3) if host != to}
                wait_until(lambda to=to, marks=marks: receivers[to][MARKER].received and marks <= set(receivers[to][MARKER].payloads), "the markers")
            arrived: dict[bytes, set[str]] = {payload: set() for payload in expected}
            for to in range(3):
                for group in GROUPS:
                    assert receivers[to][group].received >= 0
                    for payload in receivers[to][group].payloads:
                        if payload in arrived:
                            arrived[payload].add(f"v{to}")
            assert arrived == expected, f"trial {trial}: {real.routes()}"
            assert since(counters(real), earlier[0]) == since(counters(fake), earlier[1])
            for source, group in keys:
                if (packed(source), packed(group)) in fake_kernel.states["ipv4", 0].entries and draw.random() < 0.4:
                    real.clear_route(packed(source), packed(group))
                    fake.clear_route(packed(source), packed(group))
        fake.close()
        fake_kernel.close()
        real.close()

    net.router.call(body)


def counters(table):
    found = {(entry.source, entry.group): (entry.packets, entry.octets, entry.wrong_if) for entry in table.routes()}
    return {key: value for key, value in found.items() if key[1] != packed(MARKER)}


def since(now, earlier):
    return {key: tuple(a - b for a, b in zip(now[key], earlier[key], strict=True)) for key in now}
