"""NETCONF, item by item, over the agent's socket: notifications (section 7 of the checklist; RFC 5277, RFC 6470)."""

from __future__ import annotations

import json
import re
import socket
from datetime import timedelta
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from igmpconf.agent.dispatch import capabilities
from igmpconf.agent.stream import BURST, EventStream
from igmpconf.engine.effects import Note
from igmpconf.engine.vocabulary import NOTES
from igmpconf.model.notices import NAMES, NOTICES
from igmpconf.netconf.framing import framed
from igmpconf.netconf.notification import time_of, time_text
from igmpconf.xmltext import parse
from tests.kit import yang
from tests.kit.netconf import BASE, IC, NC, ONE_PROXY, OURS, Client, RunningService, eventually, threshold

NOTIFICATION = "urn:ietf:params:xml:ns:netconf:notification:1.0"
NT = f"{{{NOTIFICATION}}}"
MT = "{urn:ietf:params:xml:ns:netmod:notification}"
IETF = "{urn:ietf:params:xml:ns:yang:ietf-netconf-notifications}"
JOINED = Note("info", "membership/joined", {"instance": "default", "interface": "lan0", "group": "239.1.1.1", "sender": "10.0.0.9", "cause": "report"})


@pytest.fixture
def service(tmp_path: Path):
    with RunningService(tmp_path) as running:
        yield running


def create(**parameters: str) -> str:
    said = "".join(f"<{name}>{text}</{name}>" for name, text in parameters.items() if name != "filter")
    return f'<create-subscription xmlns="{NOTIFICATION}">{said}{parameters.get("filter", "")}</create-subscription>'


def event(client: Client) -> Element:
    """The event of the next message, which must be a notification with its time first (NC-143)."""
    message = client.receive() or b""
    yang.check_notification(message)
    root = parse(message)
    assert root.tag == f"{NT}notification"
    assert root.attrib == {}
    assert root[0].tag == f"{NT}eventTime"
    assert len(root) == 2
    time_of(root[0].text or "")
    return root[1]


def until(client: Client, tag: str) -> Element:
    """The next event with this tag."""
    while (found := event(client)).tag != tag:
        pass
    return found


def facts(found: Element) -> dict[str, str | None]:
    return {child.tag.rpartition("}")[2]: child.text for child in found}


def committed(client: Client, value: int = 7, how: str = "<commit/>") -> None:
    client.edit(ONE_PROXY)
    client.edit(threshold(value))
    client.ok(how)


def minutes(service: RunningService, number: float) -> str:
    return time_text(service.stream.now() + timedelta(minutes=number))


def test_nc_141_146_the_stream_and_its_capabilities(service):
    assert {"urn:ietf:params:netconf:capability:notification:1.0", "urn:ietf:params:netconf:capability:interleave:1.0"} < set(capabilities())
    with service.client() as client:
        found = client.data('<get><filter><netconf xmlns="urn:ietf:params:xml:ns:netmod:notification"><streams/></netconf></filter></get>')
        (stream,) = found.iter(f"{MT}stream")
        assert facts(stream)["name"] == "NETCONF"
        assert facts(stream)["replaySupport"] == "true"
        time_of(facts(stream)["replayLogCreationTime"] or "")
        assert "replayLogAgedTime" not in facts(stream)


@pytest.mark.parametrize(
    ("start", "stop", "more", "kind", "info"),
    [
        (None, 1, {}, ("protocol", "missing-element"), {"bad-element": "startTime"}),
        (1, None, {}, ("protocol", "bad-element"), {"bad-element": "startTime"}),
        (-1, -2, {}, ("protocol", "bad-element"), {"bad-element": "stopTime"}),
        (None, None, {"stream": "SYSLOG"}, ("protocol", "invalid-value"), {}),
        (None, None, {"startTime": "yesterday"}, ("protocol", "invalid-value"), {}),
        (None, None, {"startTime": "2026-01-01T00:00:00"}, ("protocol", "invalid-value"), {}),
        (None, None, {"nosuch": "1"}, ("protocol", "unknown-element"), {"bad-element": "nosuch"}),
        (None, None, {"filter": '<filter type="xpath" select="/"/>'}, ("protocol", "bad-attribute"), None),
    ],
)
def test_nc_142_subscriptions_that_are_refused(service, start, stop, more, kind, info):
    given = {name: minutes(service, number) for name, number in (("startTime", start), ("stopTime", stop)) if number is not None}
    with service.client() as client:
        error = client.error(create(**given, **more))
        assert error.kind == kind
        if info is not None:
            assert error.info == info
        client.ok(create())  # nothing is left of the refused one


def test_nc_142_one_subscription_a_session(service):
    with service.client() as client:
        client.ok(create())
        assert client.error(create()).kind == ("application", "operation-failed")


def test_nc_143_145_events_come_between_replies(service):
    with service.client() as watcher, service.client() as other:
        watcher.ok(create(stream="NETCONF"))
        committed(other)
        until(watcher, f"{IETF}netconf-config-change")
        assert len(watcher.config()) == 1
        service.publish(JOINED)
        joined = event(watcher)
        assert joined.tag == f"{IC}membership-joined"
        assert facts(joined) == {"instance": "default", "interface": "lan0", "group": "239.1.1.1", "sender": "10.0.0.9", "cause": "report"}
        state = other.data('<get><filter><netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"><sessions/></netconf-state></filter></get>')
        counted = [row.text for row in state.iter() if row.tag.endswith("out-notifications")]
        assert counted == ["2", "0"]


def test_nc_141_only_what_the_filter_selects(service):
    chosen = f'<filter><membership-joined xmlns="{OURS}"><group>239.1.1.2</group></membership-joined></filter>'
    with service.client() as watcher:
        watcher.ok(create(filter=chosen))
        for group in ("239.1.1.1", "239.1.1.2"):
            service.publish(Note("info", "membership/joined", {**JOINED.fields, "group": group}))
        assert facts(event(watcher))["group"] == "239.1.1.2"


def test_nc_141_an_empty_filter_selects_nothing_but_the_end_of_the_replay(service):
    service.publish(JOINED)
    with service.client() as watcher:
        watcher.ok(create(startTime=minutes(service, -1), stopTime=minutes(service, 0), filter="<filter/>"))
        assert [event(watcher).tag for _ in range(2)] == [f"{MT}replayComplete", f"{MT}notificationComplete"]


def test_nc_144_replay_then_live(service):
    service.publish(JOINED)
    with service.client() as watcher:
        watcher.ok(create(startTime=minutes(service, -60)))
        assert [event(watcher).tag for _ in range(3)] == [f"{IC}membership-joined", f"{IETF}netconf-session-start", f"{MT}replayComplete"]
        service.publish(JOINED)
        assert event(watcher).tag == f"{IC}membership-joined"


def test_nc_144_a_stop_time_ends_the_subscription_and_not_the_session(service):
    with service.client() as watcher:
        watcher.ok(create(startTime=minutes(service, -60), stopTime=minutes(service, 0.01)))
        until(watcher, f"{MT}replayComplete")
        assert event(watcher).tag == f"{MT}notificationComplete"
        service.publish(JOINED)
        assert len(watcher.config()) == 0
        eventually(lambda: watcher.rpc(create())[0].tag == f"{NC}ok")


def test_nc_147_sessions_come_and_go(service):
    with service.client() as watcher:
        watcher.ok(create())
        with service.client() as other:
            started = until(watcher, f"{IETF}netconf-session-start")
            assert facts(started)["session-id"] == str(other.session_id)
            assert facts(started)["username"]
            other.ok("<close-session/>")
            assert facts(until(watcher, f"{IETF}netconf-session-end"))["termination-reason"] == "closed"
        with service.client() as victim:
            watcher.send(f'<rpc xmlns="{BASE}" message-id="k"><kill-session><session-id>{victim.session_id}</session-id></kill-session></rpc>')
            while (message := parse(watcher.receive() or b"")).tag != f"{NT}notification" or message[1].tag != f"{IETF}netconf-session-end":
                pass
            assert facts(message[1]) == facts(message[1]) | {"killed-by": str(watcher.session_id), "termination-reason": "killed"}
        with Client.connected(service.socket_path, "<nonsense/>"):
            while (message := parse(watcher.receive() or b"")).tag != f"{NT}notification" or message[1].tag != f"{IETF}netconf-session-end":
                pass
            assert facts(message[1])["termination-reason"] == "bad-hello"
        with service.client() as lost:
            until(watcher, f"{IETF}netconf-session-start")
            lost.socket.close()
            assert facts(until(watcher, f"{IETF}netconf-session-end"))["termination-reason"] == "dropped"


def test_nc_147_099_a_change_says_who_and_what_and_no_change_says_nothing(service):
    with service.client() as other, service.client() as watcher:
        watcher.ok(create())
        committed(other)
        change = event(watcher)
        assert change.tag == f"{IETF}netconf-config-change"
        by = facts(change.find(f"{IETF}changed-by"))
        assert by["session-id"] == str(other.session_id)
        (edit,) = change.findall(f"{IETF}edit")
        assert facts(edit) == {"target": "/ic:igmp-proxy[ic:name='default']", "operation": "create"}
        other.ok("<commit/>")
        committed(other, 9)
        (edit,) = event(watcher).findall(f"{IETF}edit")
        target = "/ic:igmp-proxy[ic:name='default']/ic:interfaces[ic:interface='lan0']/ic:threshold"
        assert facts(edit) == {"target": target, "operation": "replace"}


def test_nc_147_the_prefix_of_a_target_is_declared_where_it_stands(service):
    with service.client() as other, service.client() as watcher:
        watcher.ok(create())
        committed(other)
        assert re.search(rb'<target xmlns:ic="urn:igmpconf:yang:igmpconf">/ic:', watcher.receive() or b"")


def confirmed_events(watcher: Client, count: int) -> list[dict[str, str | None]]:
    return [facts(until(watcher, f"{IETF}netconf-confirmed-commit")) for _ in range(count)]


def test_nc_131_confirmed_commits_from_start_to_end(service):
    confirmed = "<commit><confirmed/><confirm-timeout>100</confirm-timeout></commit>"
    with service.client() as other, service.client() as watcher:
        watcher.ok(create())
        committed(other, 7, confirmed)
        committed(other, 8, confirmed)
        other.ok("<commit/>")
        committed(other, 9, confirmed)
        other.ok("<cancel-commit/>")
        seen = confirmed_events(watcher, 5)
        assert [one["confirm-event"] for one in seen] == ["start", "extend", "complete", "start", "cancel"]
        assert [one.get("timeout") for one in seen] == ["100", "100", None, "100", None]
        assert {one["session-id"] for one in seen} == {str(other.session_id)}


def test_nc_131_time_and_loss_of_the_session(service):
    with service.client() as watcher:
        watcher.ok(create())
        with service.client() as other:
            committed(other, 7, "<commit><confirmed/><confirm-timeout>1</confirm-timeout></commit>")
            assert [one["confirm-event"] for one in confirmed_events(watcher, 1)] == ["start"]
            change = until(watcher, f"{IETF}netconf-config-change")
            assert [child.tag for child in change.find(f"{IETF}changed-by")] == [f"{IETF}server"]
            assert confirmed_events(watcher, 1) == [{"confirm-event": "timeout"}]
            committed(other, 7, "<commit><confirmed/></commit>")
        seen = confirmed_events(watcher, 2)
        assert [one["confirm-event"] for one in seen] == ["start", "cancel"]
        assert seen[0]["username"] == seen[1]["username"]


def test_what_engines_say_becomes_a_notification_or_stays_in_the_log():
    assert set(NOTICES) <= set(NOTES)
    assert {cls for cls, _ in NOTICES.values()} | {cls for cls, name in NAMES.items() if name == "notifications-lost"} == set(NAMES)
    stream = EventStream()
    stream.noted(Note("info", "upstream/version", {"version": 2}))
    stream.noted(Note("info", "membership/left", {"interface": "lan0"}))  # without what such a notification must say
    assert stream.last == 0


def test_a_burst_is_bounded_and_what_was_left_out_is_told():
    now = EventStream().now()
    stream = EventStream(now=lambda: now)
    for _ in range(BURST + 30):
        stream.noted(JOINED)
    stream.noted(Note("warning", "querier/taken", {"instance": "default", "interface": "lan0", "cause": "silence"}))
    assert stream.last == BURST + 1  # another kind is not held back
    now += timedelta(seconds=11)
    stream.noted(JOINED)
    _, (lost, joined) = stream.after(BURST + 1, 10)
    assert (lost.event.tag, facts(lost.event)) == (f"{IC}notifications-lost", {"count": "30"})
    assert joined.event.tag == f"{IC}membership-joined"


def test_the_ring_is_bounded_and_tells_the_slow_what_they_missed():
    stream = EventStream(most_kept=10)
    for _ in range(25):
        stream.publish(Element("x"))
    missed, events = stream.after(3, 4)
    assert (missed, [one.number for one in events]) == (12, [16, 17, 18, 19])
    assert stream.after(25, 4) == (0, ())
    assert stream.listed().find(f".//{MT}replayLogAgedTime") is not None


def test_a_subscriber_that_does_not_read_holds_nobody_up(service):
    with service.client() as lazy, service.client() as other:
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.ok(create())
        for number in range(20_000):
            service.publish(Note("info", "upstream/up", {"instance": "x" * 200, "interface": str(number), "cause": "y" * 200}), is_bounded=False)
        assert len(other.config()) == 0
        seen = until(lazy, f"{IC}notifications-lost")
        assert int(facts(seen)["count"] or "0") > 10_000
        # and then the newest, whole and in order
        last = 0
        while last < 19_999:
            last = int(facts(event(lazy))["interface"] or "")


def test_subscribers_over_end_of_message_framing(service):
    with service.client(f'<hello xmlns="{BASE}"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>') as old:
        old.ok(create())
        service.publish(JOINED)
        assert event(old).tag == f"{IC}membership-joined"
        old.socket.sendall(framed(f'<rpc xmlns="{BASE}" message-id="1"><close-session/></rpc>'.encode(), is_chunked=False))
        assert parse(old.receive() or b"")[0].tag == f"{NC}ok"
        assert old.is_ended()


def replayed(client: Client) -> list[Element]:
    """The events since ever."""
    client.ok(create(startTime="2020-01-01T00:00:00Z"))
    found = []
    while (one := event(client)).tag != f"{MT}replayComplete":
        found.append(one)
    return found


def test_nc_147_what_a_restart_undid_is_told_to_who_asks_for_what_was(tmp_path):
    with RunningService(tmp_path) as first, first.client() as client:
        client.edit(ONE_PROXY)
        client.ok("<commit/>")
        client.edit(threshold(7))
        client.ok("<commit><confirmed/><persist>x</persist></commit>")
    with RunningService(tmp_path) as second, second.client() as client:
        (change,) = [one for one in replayed(client) if one.tag.endswith("}netconf-config-change")]
        assert change.find(f"{IETF}changed-by/{IETF}server") is not None
        (edit,) = change.findall(f"{IETF}edit")
        assert (edit.findtext(f"{IETF}target") or "").endswith("/ic:threshold")
        assert edit.findtext(f"{IETF}operation") == "delete"
    with RunningService(tmp_path) as third, third.client() as client:
        assert not [one for one in replayed(client) if one.tag.endswith("}netconf-config-change")]  # once


def test_nc_147_an_upgrade_that_offers_something_else_is_told(tmp_path):
    with RunningService(tmp_path) as first, first.client() as client:
        assert not [one for one in replayed(client) if one.tag.endswith("}netconf-capability-change")]
    path = tmp_path / "state" / "capabilities.json"
    said = json.loads(path.read_text())
    library = next(one for one in said if "yang-library:1.1" in one)
    older = [one for one in said if "interleave" not in one and one != library] + ["urn:x:gone", library.replace("content-id=", "content-id=0")]
    path.write_text(json.dumps(older))
    with RunningService(tmp_path) as second, second.client() as client:
        (change,) = [one for one in replayed(client) if one.tag.endswith("}netconf-capability-change")]
        told = {name: [one.text for one in change.findall(f"{IETF}{name}-capability")] for name in ("added", "deleted", "modified")}
        assert told == {"added": ["urn:ietf:params:netconf:capability:interleave:1.0"], "deleted": ["urn:x:gone"], "modified": [library]}
    with RunningService(tmp_path) as third, third.client() as client:
        assert not [one for one in replayed(client) if one.tag.endswith("}netconf-capability-change")]


def test_nc_147_a_file_that_says_nothing_is_no_change(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "capabilities.json").write_text("{")
    with RunningService(tmp_path) as first, first.client() as client:
        assert not [one for one in replayed(client) if one.tag.endswith("}netconf-capability-change")]
