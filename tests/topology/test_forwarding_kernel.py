"""What the kernel does with our entries, asked through our own verbs (no engine).

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
                                        lan1 10.3.0.1 --- 10.3.0.2 h1
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from igmpconf.engine.effects import SendPacket
from igmpconf.engine.events import CacheMissed, PacketReceived
from igmpconf.engine.family import IGMP, MLD
from igmpconf.errors import KernelError
from igmpconf.ids import IfIndex, TableId, VifIndex
from igmpconf.linux.kernel import MAX_VIFS, NOT_AN_OIF
from igmpconf.linux.mroute import Table
from igmpconf.linux.netlink import RTM_GETROUTE, Requests
from igmpconf.linux.system import SystemKernel
from tests.kit.netns import Net, Wire, wait_until

pytestmark = pytest.mark.kernel
G, PORT = "239.1.1.1", 5000
GROUP6 = socket.inet_pton(socket.AF_INET6, "ff0e::1")
GROUP, HEAD = socket.inet_aton(G), socket.inet_aton("10.1.0.2")
VIFS = {"wan": VifIndex(0), "lan0": VifIndex(1), "lan1": VifIndex(2)}


def ttls(**wanted: int) -> bytes:
    made = bytearray((NOT_AN_OIF,)) * MAX_VIFS
    for name, ttl in wanted.items():
        made[VIFS[name]] = ttl
    return bytes(made)


def index(name: str) -> IfIndex:
    return IfIndex(socket.if_nametoindex(name))


@pytest.fixture
def net():
    with Net() as net:
        net.head, net.router, net.h0, net.h1 = (net.namespace(name) for name in ("head", "router", "h0", "h1"))
        net.veth(net.router, "wan", net.head, "eth0", "10.1.0.1/24", "10.1.0.2/24")
        net.veth(net.router, "lan0", net.h0, "eth0", "10.2.0.1/24", "10.2.0.2/24")
        net.veth(net.router, "lan1", net.h1, "eth0", "10.3.0.1/24", "10.3.0.2/24")
        yield net


def a_table(family=IGMP, table=0):
    made = SystemKernel().open_table(family, TableId(table))
    for name, vif in VIFS.items():
        made.add_vif(vif, index(name))
    return made


def a_proxying_table():
    """With the (*,*) entry of every proxy; without it a (*,G) takes datagrams only from its own oifs (ipmr_cache_find_any)."""
    made = a_table()
    made.set_route(None, None, VIFS["wan"], ttls(wan=1, lan0=1, lan1=1))
    return made


def test_a_star_g_entry_forwards_the_first_packet_without_an_upcall(net):
    def body():
        table = a_proxying_table()
        table.set_route(None, GROUP, VIFS["wan"], ttls(lan0=1, lan1=1))
        on_h0, on_h1 = net.host(net.h0, "eth0", G, PORT), net.host(net.h1, "eth0", G, PORT)
        head = net.sender(net.head, "eth0")
        for _ in range(100):
            head.send(G, PORT)
        wait_until(lambda: on_h0.received == 100 and on_h1.received == 100)
        (entry,) = [entry for entry in table.routes() if entry.group]
        assert (entry.source, entry.group, entry.packets, entry.wrong_if) == (None, GROUP, 100, 0)
        assert not [arrival for arrival in table.receive(1000) if isinstance(arrival, CacheMissed)]

    net.router.call(body)


def test_star_star_takes_a_downstreams_stream_to_the_upstream_only(net):
    def body():
        table = a_proxying_table()
        on_head, on_h1 = net.host(net.head, "eth0", G, PORT), net.host(net.h1, "eth0", G, PORT)
        h0 = net.sender(net.h0, "eth0")
        for _ in range(50):
            h0.send(G, PORT)
        wait_until(lambda: on_head.received == 50)
        assert on_h1.received == 0
        net.sender(net.head, "eth0").send(G, PORT)  # unwanted downstream: dropped, without an upcall
        wait_until(lambda: sum(entry.packets + entry.wrong_if for entry in table.routes()) >= 51)
        assert on_h1.received == 0
        assert not [arrival for arrival in table.receive(1000) if isinstance(arrival, CacheMissed)]

    net.router.call(body)


def test_an_exact_entry_wins_over_star_g(net):
    def body():
        table = a_proxying_table()
        table.set_route(None, GROUP, VIFS["wan"], ttls(lan0=1, lan1=1))
        table.set_route(HEAD, GROUP, VIFS["wan"], ttls(lan1=1))
        on_h0, on_h1 = net.host(net.h0, "eth0", G, PORT), net.host(net.h1, "eth0", G, PORT)
        head = net.sender(net.head, "eth0")
        for _ in range(20):
            head.send(G, PORT)
        wait_until(lambda: on_h1.received == 20)
        assert on_h0.received == 0
        table.clear_route(HEAD, GROUP)
        head.send(G, PORT)
        wait_until(lambda: on_h0.received == 1)

    net.router.call(body)


@pytest.mark.parametrize(("threshold", "arriving", "passes"), [(1, 2, True), (1, 1, False), (15, 16, True), (16, 16, False)])
def test_a_packet_passes_if_its_ttl_is_greater_than_the_threshold(net, threshold, arriving, passes):
    def body():
        table = a_proxying_table()
        table.set_route(None, GROUP, VIFS["wan"], ttls(lan0=threshold, lan1=1))
        on_h0, on_h1 = net.host(net.h0, "eth0", G, PORT), net.host(net.h1, "eth0", G, PORT)
        net.sender(net.head, "eth0", ttl=arriving).send(G, PORT)
        net.sender(net.head, "eth0", ttl=64).send(G, PORT, b"last")
        wait_until(lambda: on_h1.received and on_h1.payloads[-1] == b"last")
        if threshold < 64:
            wait_until(lambda: on_h0.received and on_h0.payloads[-1] == b"last")
        assert (on_h0.received == 2) is passes

    net.router.call(body)


@pytest.mark.parametrize("family", [IGMP, MLD], ids=lambda family: family.name)
@pytest.mark.parametrize("number", [0, 4605])
def test_an_entry_moves_to_another_parent_in_place_and_a_held_table_is_found_as_it_was(net, family, number):
    group = GROUP if family is IGMP else GROUP6
    source = HEAD if family is IGMP else socket.inet_pton(socket.AF_INET6, "2001:db8::2")

    def body():
        table = a_table(family, number)
        for key in ((None, None), (None, group), (source, group)):
            table.set_route(*key, VIFS["lan0"], ttls(lan1=1))
            table.set_route(*key, VIFS["wan"], ttls(lan0=1, lan1=1))
        table.del_vif(VIFS["lan1"])
        held = table.socket.dup()
        table.close()
        again = SystemKernel().open_table(family, TableId(number), held)
        assert again.vifs() == {index("wan"): VIFS["wan"], index("lan0"): VIFS["lan0"]}
        entries = again.routes()
        assert {(entry.source, entry.group) for entry in entries} == {(None, None), (None, group), (source, group)}
        assert len(entries) == 3
        assert all(entry.iif == index("wan") and entry.oifs == ((index("lan0"), 1),) for entry in entries)
        for key in ((None, None), (None, group), (source, group)):
            again.clear_route(*key)
        assert again.routes() == []

    net.router.call(body)


@pytest.mark.parametrize("family", [IGMP, MLD], ids=lambda family: family.name)
def test_a_held_table_is_read_once_however_many_entries_it_has(net, family):
    class Counted(Requests):
        asked: list[int] = []  # noqa: RUF012 - of one object

        def dump(self, kind, body):
            self.asked.append(kind)
            return super().dump(kind, body)

    def body():
        table = a_table(family)
        for number in range(1, 300):
            table.set_route(None, (GROUP if family is IGMP else GROUP6)[:-2] + number.to_bytes(2), VIFS["wan"], ttls(lan0=1))
        requests = Counted()
        again = Table(family, TableId(0), requests, table.socket.dup())
        assert again.vifs() == {index(name): vif for name, vif in VIFS.items()}
        assert requests.asked.count(RTM_GETROUTE) == 1
        assert len(again.routes()) == 299
        again.close()
        table.close()

    net.router.call(body)


def test_a_second_router_is_told_who_holds_the_table(net):
    def body():
        table = a_table()
        with pytest.raises(KernelError) as refused:
            SystemKernel().open_table(IGMP, TableId(0))
        assert refused.value.exit_code == 9
        assert "already holds the IGMP multicast routing socket" in refused.value.message
        assert refused.value.hint
        assert "stop that program" in refused.value.hint
        table.close()
        a_table().close()

    net.router.call(body)


def test_the_other_program_is_named(net):
    program = net.router.popen(
        ["python3", "-c", "import socket,sys; s=socket.socket(2,3,2); s.setsockopt(0,200,1); print(1,flush=True); sys.stdin.read()"], stdin=-1, stdout=-1
    )
    try:
        assert program.stdout.readline()

        def body():
            with pytest.raises(KernelError) as refused:
                SystemKernel().open_table(IGMP, TableId(0))
            return refused.value.message

        assert f"(pid {program.pid})" in net.router.call(body)
    finally:
        program.stdin.close()
        program.stdout.close()
        program.wait(10)


SENT_SOURCES: list[tuple[bytes | None, str]] = [(None, "10.2.0.1"), (socket.inet_aton("10.9.9.9"), "10.9.9.9"), (bytes(4), "0.0.0.0")]


@pytest.mark.parametrize(("source", "seen"), SENT_SOURCES, ids=[seen for _, seen in SENT_SOURCES])
@pytest.mark.parametrize("destination", ["224.0.0.1", "239.1.1.1"])
def test_igmp_leaves_with_router_alert_ttl_1_and_the_source_that_was_asked_for(net, source, seen, destination):
    query = bytes.fromhex("1164ee9b00000000")

    def body():
        table = a_table()
        wire = Wire(net, net.h0, "eth0")
        table.send(SendPacket(index("lan0"), socket.inet_aton(destination), query, source))
        wait_until(lambda: wire.igmp(0x11, seen), "the query on the wire")
        (packet,) = [packet for packet in wire.packets if packet[24:] == query]
        assert packet[:2] == b"\x46\xc0"
        assert packet[8] == 1
        assert packet[16:20] == socket.inet_aton(destination)
        assert packet[20:24] == bytes.fromhex("94040000")
        words = [int.from_bytes(packet[at : at + 2], "big") for at in range(0, 24, 2)]
        assert sum(words) % 0xFFFF == 0  # RFC 791: the header checksum is right
        assert not [arrival for arrival in table.receive(100) if isinstance(arrival, PacketReceived) and arrival.payload == query]

    net.router.call(body)


def test_reports_of_kernel_hosts_arrive_with_their_interface(net):
    def body():
        table = a_table()
        table.join_routers(index("lan0"))
        table.join_routers(index("lan0"))
        net.host(net.h0, "eth0", G, PORT)
        seen: list[PacketReceived] = []

        def report() -> PacketReceived | None:
            seen.extend(arrival for arrival in table.receive(100) if isinstance(arrival, PacketReceived))
            return next((one for one in seen if GROUP in one.payload), None)

        arrived = wait_until(report, "the host's report")
        assert arrived.ifindex == index("lan0")
        assert arrived.sender == socket.inet_aton("10.2.0.2")
        assert arrived.destination == socket.inet_aton("224.0.0.22")
        assert arrived.payload[0] == 0x22
        assert arrived.ttl == 1
        assert arrived.router_alert

    net.router.call(body)


def test_thirty_one_downstreams_join_the_router_groups_despite_the_kernels_limit_of_20(net):
    for number in range(29):
        net.router.run(f"ip link add name x{number} type veth peer name y{number}")
        net.router.run(f"ip link set x{number} up")

    def body():
        table = a_table()
        names = ["lan0", "lan1", *(f"x{number}" for number in range(29))]
        for number, name in enumerate(names):
            if name.startswith("x"):
                table.add_vif(VifIndex(number + 1), index(name))
            table.join_routers(index(name))
        with pytest.raises(OSError, match="Too many open files in system"):  # ENFILE: MAXVIFS
            table.add_vif(VifIndex(32), index("y0"))
        table.close()

    net.router.call(body)


def test_without_an_entry_the_kernel_asks(net):
    def body():
        table = a_table()
        net.sender(net.head, "eth0").send(G, PORT)
        assert wait_until(lambda: [one for one in table.receive(100) if isinstance(one, CacheMissed)]) == [CacheMissed(index("wan"), HEAD, GROUP)]

    net.router.call(body)


def test_mld_of_both_versions_arrives_and_leaves(net):
    def body():
        table = a_table(MLD)
        table.join_routers(index("lan0"))
        query = bytes((130, 0, 0, 0, 0x27, 0x10)) + bytes(18) + bytes((2, 125, 0, 0))

        def sent() -> bool:  # the link-local address may still be on its way
            try:
                table.send(SendPacket(index("lan0"), MLD.all_hosts, query))
            except OSError:
                return False
            return True

        wire = Wire(net, net.h0, "eth0")
        wait_until(sent)
        (packet,) = wait_until(lambda: [one for one in wire.packets if one[0] >> 4 == 6 and one[-28] == 130])
        assert packet[7] == 1
        assert packet[40:48] == bytes((58, 0, 5, 2, 0, 0, 1, 0))  # hop-by-hop: Router Alert "MLD"
        assert packet[0] & 15 == 0xC
        assert packet[1] >> 4 == 0  # traffic class Internetwork Control
        arrived: list[PacketReceived] = []

        def answer() -> PacketReceived | None:
            arrived.extend(one for one in table.receive(100) if isinstance(one, PacketReceived))
            return next((one for one in arrived if one.payload[0] == 143 and one.ifindex == index("lan0") and one.router_alert), None)

        found = wait_until(answer, "an MLDv2 report of the host")
        assert found.ttl == 1
        assert found.sender[:2] == b"\xfe\x80"
        assert found.destination == MLD.all_report_routers

    net.router.call(body)


def raised(function: Callable[[], object]) -> str:
    try:
        function()
    except KernelError as error:
        return error.message
    return ""


def test_without_capabilities_the_message_says_which(net):
    script = (
        "from igmpconf.engine.family import IGMP\nfrom igmpconf.linux.system import SystemKernel\nfrom igmpconf.errors import KernelError\n"
        "try: SystemKernel().open_table(IGMP, 0)\nexcept KernelError as error: print(error.message)"
    )
    import sys

    program = net.router.popen(["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", script], stdout=-1, stderr=-1, text=True)
    out, err = program.communicate(timeout=20)
    assert "lacks CAP_NET_ADMIN and CAP_NET_RAW" in out, err
