"""Two televisions behind one interface, and what quick-leave makes of it when one is switched off.

head --- wan [router] lan0 --- switch --- tv1, tv2
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from igmpconf.engine.messages import Report
from tests.kit.conformance import covers
from tests.kit.live import LiveProxy
from tests.kit.netns import Net, sysctl, wait_until
from tests.kit.site import cable, flows, instance, plug, switch
from tests.kit.wire import PORT, Member, Source, Tap, packed

pytestmark = [pytest.mark.kernel, pytest.mark.alone]
BOTH = pytest.mark.parametrize(("group", "head"), [pytest.param("239.1.1.1", "10.1.0.2", id="igmp"), pytest.param("ff15::1", "fd00:1::2", id="mld")])
RATE_PER_S = 500


@pytest.fixture(scope="module")
def places():
    with Net() as net:
        made = SimpleNamespace(net=net, **{name: net.namespace(name) for name in ("head", "router", "tv1", "tv2")})
        cable(net, 1, made.router, "wan", made.head, "eth0")
        middle = switch(net, "switch")
        for port, device, ifname, host in (("p0", made.router, "lan0", 1), ("p1", made.tv1, "eth0", 11), ("p2", made.tv2, "eth0", 12)):
            plug(net, middle, port, device, ifname, 2, host)
        yield made


class Evening:
    """Both televisions show the group; a numbered stream runs in the background until `over`."""

    def __init__(self, places: SimpleNamespace, group: str, head: str, **leaves) -> None:
        self.group = group
        self.tvs = [Member(places.net, inside, "eth0", group) for inside in (places.tv1, places.tv2)]
        self.segment = Tap(places.net, places.tv2, "eth0")
        self.upstream = Tap(places.net, places.head, "eth0")
        self.proxy = LiveProxy(places.net, places.router, instance("wan", "lan0", query_response_interval="100ms", **leaves))
        self.proxy.ready()
        self.source = Source(places.net, places.head, "eth0", head)
        for tv in self.tvs:
            tv.join()
        flows(self.source, group, self.segment)
        wait_until(lambda: self.row().hosts == 2, "both are known")
        wait_until(lambda: time.time() - self._asked_s() > 0.2, "whoever was there before the engine has had its response time")
        wait_until(lambda: all(tv.received for tv in self.tvs))
        self.sent = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._stream)
        self._thread.start()
        self.passed(100)

    @property
    def family(self) -> str:
        return "ipv6" if ":" in self.group else "ipv4"

    def _asked_s(self) -> float:
        """When the first general query was on the cable."""
        return next((one.at_s for one in self.segment.packets if one.destination == ("ff02::1" if self.family == "ipv6" else "224.0.0.1")), time.time())

    def row(self):
        return self.proxy.groups().get(("lan0", self.group))

    def _stream(self) -> None:
        start = time.monotonic()
        while not self._is_over.wait(0.001):
            while self.sent < (time.monotonic() - start) * RATE_PER_S:
                self.source.send(self.group, b"%d" % self.sent)
                self.sent += 1

    def passed(self, number: int) -> None:
        """Wait until so many more were sent; the televisions go on reading."""
        goal = self.sent + number
        wait_until(lambda: all(tv.received for tv in self.tvs) and self.sent >= goal)

    def shown(self, tv: Member) -> list[int]:
        assert tv.received
        return [int(one) for one in tv.payloads if one.isdigit()]

    def silence(self) -> float:
        """When the last datagram was on the cable; waits until there has been none for 150 ms."""

        def ended() -> bool:
            self.passed(0)
            return self.last_s() < time.time() - 0.15

        wait_until(ended, "the stream ends")
        return self.last_s()

    def last_s(self) -> float:
        return max((one.at_s for one in self.segment.packets if one.destination == self.group and int.from_bytes(one.payload[2:4], "big") == PORT), default=0.0)

    def left_s(self, address: str) -> float:
        """When the host said that it leaves."""
        for one in self.segment.packets:
            if one.source == address and isinstance(one.message, Report):
                for record in one.message.records:
                    if record.group == packed(self.group) and record.kind.name == "TO_IN":
                        return one.at_s
        return 0.0

    def over(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()


@pytest.fixture
def evening(places):
    made: list[Evening] = []

    def start(group: str, head: str, **leaves) -> Evening:
        made.append(Evening(places, group, head, **leaves))
        return made[-1]

    yield start
    for one in made:
        one.over()
        one.proxy.stop()
        for tv in one.tvs:
            tv.close()
    sysctl(places.tv1, "ipv4/conf/eth0/force_igmp_version", 0)
    sysctl(places.tv2, "ipv4/conf/eth0/force_igmp_version", 0)


TV2 = {"ipv4": "10.2.0.12", "ipv6": "fe80::12"}


@covers("LEA-04", "QRY-17", "UP-02", "UP-26", "R023", "R039")
@BOTH
def test_one_leaves_and_the_other_loses_nothing_then_the_last_one_ends_it_at_once(evening, group, head):
    it = evening(group, head)
    one, other = it.tvs
    queries = len(it.segment.queries())
    one.leave()
    wait_until(lambda: it.row().hosts == 1, "the leave")
    it.passed(500)  # longer than a last-member query time of 400 ms
    assert len([query for query in it.segment.queries()[queries:] if query.group is not None]) == 0  # nobody needed to be asked
    other.leave()
    last_s = it.silence()
    left_s = it.left_s(TV2[it.family])
    assert left_s
    assert last_s - left_s < 0.1
    shown = it.shown(other)
    assert shown == list(range(shown[0], shown[0] + len(shown)))
    assert len(shown) > 500
    told = [packet.at_s for packet in it.upstream.packets if not packet.is_outgoing and packet.source in {"10.1.0.1", "fe80::1"} and _leaves(packet, group)]
    assert told
    assert told[0] - left_s < 0.1


def _leaves(packet, group: str) -> bool:
    message = packet.message
    return isinstance(message, Report) and any(one.group == packed(group) and one.kind.name == "TO_IN" for one in message.records)


@covers("LEA-01", "QRY-17")
@BOTH
def test_without_quick_leave_the_stream_goes_on_for_the_last_member_query_time(evening, group, head):
    it = evening(group, head, quick_leave="off")
    for tv in it.tvs:
        tv.leave()
    last_s = it.silence()
    assert 0.3 < last_s - it.left_s(TV2[it.family]) < 2  # 2 * 200 ms; the host repeats its leave within a second


@covers("LEA-03")
@BOTH
def test_with_quick_leave_on_the_neighbour_heals_itself_by_the_one_query(evening, group, head):
    it = evening(group, head, quick_leave="on")
    one, other = it.tvs
    one.leave()
    wait_until(lambda: [query for query in it.segment.queries() if query.group == packed(group)], "one query, all the same")
    before = it.shown(other)[-1]
    wait_until(lambda: it.shown(other)[-1] > before + 200, "the stream goes on")


@covers("LEA-02", "OLD-04")
def test_a_v2_television_may_hide_behind_the_other_so_it_is_asked(evening, places):
    """Report suppression (RFC 2236 3): that only one of them is known proves nothing."""
    for inside in (places.tv1, places.tv2):
        sysctl(inside, "ipv4/conf/eth0/force_igmp_version", 2)
    it = evening("239.1.1.1", "10.1.0.2")

    def answered() -> str | None:
        """Who answered the last general query alone, so that the other heard it and kept quiet."""
        it.passed(0)
        asked_s = max((one.at_s for one in it.segment.packets if one.destination == "224.0.0.1"), default=0.0)
        if time.time() < asked_s + 0.15:  # the response time, and a little
            return None
        who = {one.source for one in it.segment.packets if one.at_s > asked_s and one.protocol == 2 and one.payload[0] == 0x16}
        return who.pop() if len(who) == 1 else None

    last_reporter = wait_until(answered, "an answer")
    one, other = it.tvs if last_reporter == "10.2.0.11" else reversed(it.tvs)
    one.leave()  # only the last reporter of the two says that it leaves
    wait_until(lambda: [query for query in it.segment.queries() if query.group == packed("239.1.1.1")], "the query")
    it.passed(500)
    shown = it.shown(other)
    assert shown == list(range(shown[0], shown[0] + len(shown)))
    other.leave()
    it.silence()


@covers("LEA-05")
@BOTH
def test_the_last_one_who_wanted_a_source_ends_it_at_once(evening, group, head):
    it = evening(group, head)
    for tv in it.tvs:
        tv.filter("include", head)
    wait_until(lambda: it.row().mode == "include" and it.row().hosts == 2, "both want one source")
    one, other = it.tvs
    one.leave()
    wait_until(lambda: it.row().hosts == 1)
    it.passed(300)
    other.leave()
    left_s = time.time()
    assert it.silence() - left_s < 0.15
