"""What a change does not concern does not notice it: one stream, numbered, through every kind of change of something else.

head 10.1.0.2 --- wan 10.1.0.1 [router] lan0 10.2.0.1 --- 10.2.0.2 h0
                                        lan1 10.3.0.1 --- 10.3.0.2 h1
                                        spare0, spare1: the ends of a cable that leads nowhere else
"""

from __future__ import annotations

import socket

import pytest

from igmpconf.engine.messages import RecordKind, Report
from tests.kit.conformance import covers
from tests.kit.fake_kernel import v3_report
from tests.kit.netns import Net, wait_until
from tests.kit.site import Site, instance
from tests.kit.wire import packed
from tests.topology.test_keeper import PORT, G, Stream

pytestmark = pytest.mark.kernel
GROUPS = 300  # of the upstream's database; more than one report holds
FIRST = 0xEF_10_00_00
MFC = {"source": "10.1.0.2", "group": "239.9.9.9", "downstream-interface": "lan1"}
OTHER = {"name": "other"} | instance("spare0", "spare1")


@pytest.fixture
def site():
    with Net() as net:
        made = Site(net)
        net.veth(made.router, "spare0", made.router, "spare1", "10.8.0.1/24", "10.9.0.1/24")
        yield made
        made.tidy()


def flowing(site: Site) -> Stream:
    sender, receiver = site.net.sender(site.head, "eth0"), site.net.host(site.h0, "eth0", G, PORT)

    def one() -> bool:
        sender.send(G, PORT, b"first")
        return receiver.received > 0

    wait_until(one, "the stream")
    sender.send(G, PORT, b"marker")
    wait_until(lambda: receiver.received and receiver.payloads[-1] == b"marker")
    return Stream(sender, receiver)


CHANGES = {
    "a downstream comes": [instance("wan", "lan0", "lan1")],
    "timers of the other one": [instance("wan", "lan0", {"interface": "lan1", "query-interval": "30s", "last-member-interval": "300ms"})],
    "its own timers": [instance("wan", {"interface": "lan0", "query-interval": "40s", "robustness": 3}, "lan1")],
    "the upstream's robustness": [instance({"interface": "wan", "robustness": 3}, "lan0", "lan1")],
    "rules for other groups": [instance("wan", "lan0", "lan1", groups=[{"sequence": 1, "action": "deny", "group": ["239.200.0.0/16"]}])],
    "a permanent entry": [instance("wan", "lan0", "lan1", mfc=[MFC])],
    "a static group of the other one": [instance("wan", "lan0", {"interface": "lan1", "static-groups": [{"group": "239.7.7.7"}]})],
    "the other one's threshold": [instance("wan", "lan0", {"interface": "lan1", "threshold": 9})],
    "its own threshold, which its TTL passes": [instance("wan", {"interface": "lan0", "threshold": 4}, "lan1")],
    "limits and quick leave": [instance("wan", {"interface": "lan0", "max-groups": 50, "quick-leave": "on"}, "lan1")],
    "an instance comes": [instance("wan", "lan0", "lan1"), OTHER],
    "the instance changes": [instance("wan", "lan0", "lan1"), OTHER | {"query-interval": "9s"}],
    "the instance goes": [instance("wan", "lan0", "lan1")],
    "a downstream goes": [instance("wan", "lan0")],
}


def test_a_stream_notices_no_change_of_anything_else(site):
    proxy = site.proxy(instance("wan", "lan0"))
    head = site.tap(site.head)
    with flowing(site) as stream:
        uptime = proxy.groups()["lan0", G]
        wait_until(lambda: head.reports(G), "it was reported")
        reported = len(head.reports(G))
        for what, configured in CHANGES.items():
            proxy.replace(*configured)
            stream.passed(40)
            state = proxy.groups().get(("lan0", G))
            assert state is not None, f"{what}: the membership is gone"
            assert state.uptime_s >= uptime.uptime_s, f"{what}: joined anew"
    assert not [said for said in head.reports(G)[reported:] if "TO_IN" in said], "upstream was left for a moment"


@covers("UP-25")
def test_another_upstream_hears_the_whole_database_before_the_old_one_is_left(site):
    proxy = site.proxy(instance("wan", "lan0"))
    groups = [socket.inet_ntoa((FIRST + number).to_bytes(4)) for number in range(GROUPS)]
    report_many(site, groups)
    wait_until(lambda: len(proxy.told()) >= GROUPS, "all are told upstream")
    told = {packed(group) for group in proxy.told() if ":" not in group}
    assert len(told) >= GROUPS
    proxy.tap.messages()
    seen = len(proxy.tap.packets)
    proxy.replace(instance("lan1", "lan0"))
    wait_until(lambda: left(proxy, seen), "the old one is left")
    packets = proxy.tap.packets[seen:]
    last_told = max(place for place, group in records(packets, "lan1", RecordKind.TO_EX))
    assert {group for _, group in records(packets, "lan1", RecordKind.TO_EX)} == told
    leaves = records(packets, "wan", RecordKind.TO_IN)
    assert {group for _, group in leaves} == told
    assert min(place for place, _ in leaves) > last_told, "left before the new one knew"


def report_many(site: Site, groups: list[str]) -> None:
    """One host of lan0 that joins with ordinary IGMPv3 reports, more than a kernel socket may."""
    raw = site.net.socket(site.h0, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.2.0.2"))
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((0x94, 4, 0, 0)))  # Router Alert (RFC 2113)
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    for group in groups:
        raw.sendto(v3_report(RecordKind.TO_EX, group), ("224.0.0.22", 0))


def records(packets, ifname: str, kind: RecordKind) -> list[tuple[int, bytes]]:
    """(place among the packets, group) of the records that left by an interface."""
    return [
        (place, record.group)
        for place, packet in enumerate(packets)
        if packet.ifname == ifname and packet.is_outgoing and isinstance(packet.message, Report)
        for record in packet.message.records
        if record.kind == kind and len(record.group) == 4
    ]


def left(proxy, seen: int) -> bool:
    return len({group for _, group in records(proxy.tap.packets[seen:], "wan", RecordKind.TO_IN)}) >= GROUPS
