from __future__ import annotations

import pytest

from igmpconf.ids import SessionId
from igmpconf.netconf.framing import Decoder, framed
from igmpconf.netconf.messages import BASE, ERROR_TAGS, Rpc, RpcError, errors, ok, reply
from igmpconf.netconf.session import (
    HELLO_TIMEOUT_MS,
    MAX_UNREAD_BYTES,
    BytesReceived,
    Close,
    DeliverRpc,
    Effect,
    Event,
    Killed,
    Opened,
    RpcAnswered,
    SendBytes,
    Session,
    StreamEnded,
    TimePassed,
)
from igmpconf.xmltext import parse
from tests.kit.netconf import HELLO_1_0, HELLO_1_1, NC, errors_of


class Play:
    """A session and what came out of it."""

    def __init__(self, hello: str | None = HELLO_1_1, **limits: int) -> None:
        self.session = Session(SessionId(7), ("urn:ietf:params:netconf:base:1.0", "urn:ietf:params:netconf:base:1.1"), **limits)
        self.sent = b""
        self.delivered: list[Rpc] = []
        self.closed: Close | None = None
        self.is_chunked = hello is not None and "base:1.1" in hello
        self.take(Opened())
        self.greeting, self.sent = self.sent, b""
        if hello is not None:
            self.take(BytesReceived(framed(hello.encode(), is_chunked=False)))

    def take(self, event: Event, now_ms: int = 0) -> list[Effect]:
        effects = list(self.session.handle(event, now_ms))
        for effect in effects:
            match effect:
                case SendBytes(data):
                    assert self.closed is None, "octets after the close"
                    self.sent += data
                case DeliverRpc(rpc):
                    self.delivered.append(rpc)
                case Close():
                    self.closed = effect
        return effects

    def ask(self, *messages: str) -> None:
        self.take(BytesReceived(b"".join(framed(message.encode(), is_chunked=self.is_chunked) for message in messages)))

    def answer(self) -> None:
        self.take(RpcAnswered(reply(self.delivered[-1], ok()), is_error=False))

    def replies(self) -> list[bytes]:
        decoder = Decoder()
        if self.is_chunked:
            decoder.use_chunks()
        decoder.feed(self.sent)
        found = []
        while (message := decoder.next_message()) is not None:
            found.append(message)
        assert decoder.pending_bytes == 0
        return found


def rpc(number: object = 1, operation: str = "<get/>") -> str:
    return f'<rpc xmlns="{BASE}" message-id="{number}">{operation}</rpc>'


def test_nc_003_004_005_009_the_server_speaks_first():
    play = Play(None)
    assert play.greeting.endswith(b"]]>]]>")
    root = parse(play.greeting.removesuffix(b"]]>]]>"))
    assert root.tag == f"{NC}hello"
    assert root.findtext(f"{NC}session-id") == "7"
    assert [one.text for one in root.iter(f"{NC}capability")] == ["urn:ietf:params:netconf:base:1.0", "urn:ietf:params:netconf:base:1.1"]


def test_nc_008_the_highest_common_version_is_used():
    play = Play()
    play.ask(rpc())
    play.answer()
    assert play.sent.startswith(b"\n#")


def test_nc_014_only_the_old_version_in_common():
    play = Play(HELLO_1_0)
    play.ask(rpc())
    play.answer()
    assert play.sent.endswith(b"]]>]]>")
    assert not play.sent.startswith(b"\n#")


def test_capability_parameters_do_not_matter():
    play = Play(HELLO_1_1.replace("base:1.1", "base:1.1?x=y"))
    play.ask(rpc())
    assert len(play.delivered) == 1


@pytest.mark.parametrize(
    "hello",
    [
        HELLO_1_1.replace("</hello>", "<session-id>4</session-id></hello>"),  # NC-006
        HELLO_1_1.replace("base:1.", "base:9."),  # NC-007
        f'<hello xmlns="{BASE}"/>',
        rpc(),  # NC-018
        "<hello/>",
        "hello",
        "<hello",
        f'<!DOCTYPE hello><hello xmlns="{BASE}"/>',
        "",
    ],
)
def test_nc_006_007_018_a_hello_that_cannot_be_continued_closes_without_a_word(hello):
    play = Play(hello)
    assert play.closed is not None
    assert play.sent == b""


def test_nc_018_a_second_hello_closes():
    play = Play()
    play.ask(HELLO_1_1)
    assert play.closed is not None


def test_nc_019_hello_timeout():
    play = Play(None)
    assert play.session.next_deadline_ms() == HELLO_TIMEOUT_MS
    play.take(TimePassed(), HELLO_TIMEOUT_MS - 1)
    assert play.closed is None
    play.take(TimePassed(), HELLO_TIMEOUT_MS)
    assert play.closed is not None
    assert Play().session.next_deadline_ms() is None


def test_nc_022_pipelined_rpcs_are_answered_in_order_one_at_a_time():
    play = Play()
    play.ask(rpc(1), rpc(2), rpc(3))
    for number in (1, 2, 3):
        assert len(play.delivered) == number
        play.answer()
    assert [parse(one).get("message-id") for one in play.replies()] == ["1", "2", "3"]


def test_hello_and_rpc_in_one_segment():
    play = Play(None)
    play.is_chunked = True
    play.take(BytesReceived(framed(HELLO_1_1.encode(), is_chunked=False) + framed(rpc().encode(), is_chunked=True)))
    assert len(play.delivered) == 1


def test_nc_012_a_framing_error_closes_without_an_rpc_error():
    play = Play()
    play.take(BytesReceived(b"\n#0\n"))
    assert play.closed is not None
    assert play.sent == b""


def test_nc_013_a_huge_message_closes():
    play = Play(max_message_bytes=10_000)
    play.take(BytesReceived(b"\n#4294967295\n0123456789"))
    assert play.closed is not None


def test_nc_015_any_way_to_write_it():
    play = Play()
    play.ask(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- hi --><x:rpc xmlns:x="{BASE}" message-id="1"><?pi?><!-- hi --><x:get/> </x:rpc>\n',
        f'\n  <rpc xmlns="{BASE}" message-id="2"><get><![CDATA[]]></get></rpc>',
    )
    assert play.delivered[0].operation.tag == f"{NC}get"
    play.answer()
    play.answer()
    assert parse(play.replies()[0]).tag == f"{NC}rpc-reply"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("<rpc", ("rpc", "malformed-message")),  # NC-017
        (f'<!DOCTYPE rpc [<!ENTITY a "b">]><rpc xmlns="{BASE}" message-id="1"><get>&a;</get></rpc>', ("rpc", "malformed-message")),  # NC-016
        (f'<rpc xmlns="{BASE}" message-id="1">' + "<a>" * 100 + "</a>" * 100 + "</rpc>", ("rpc", "too-big")),
        (f'<rpc xmlns="{BASE}"><get/></rpc>', ("rpc", "missing-attribute")),  # NC-032
        ('<rpc message-id="1"><get/></rpc>', ("protocol", "unknown-namespace")),
        (f'<rpc xmlns="{BASE}" message-id="1"/>', ("protocol", "missing-element")),
        (f'<rpc xmlns="{BASE}" message-id="1"><get/><get/></rpc>', ("protocol", "bad-element")),
    ],
)
def test_nc_017_032_what_cannot_be_understood_is_answered_and_the_session_goes_on(message, kind):
    play = Play()
    play.ask(message, rpc(2))
    (answer,) = play.replies()
    (error,) = errors_of(parse(answer))
    assert error.kind == kind
    assert play.closed is None
    assert len(play.delivered) == 1


def test_nc_017_malformed_message_is_not_sent_to_an_old_client():
    play = Play(HELLO_1_0)
    play.ask("<rpc")
    assert errors_of(parse(play.replies()[0]))[0].kind == ("rpc", "operation-failed")


def test_nc_030_031_everything_on_the_start_tag_comes_back():
    play = Play()
    message_id = 'a&"1\n<\t é'
    play.ask(f'<nc:rpc xmlns:nc="{BASE}" xmlns="urn:d" xmlns:ex="urn:ex" message-id="a&amp;&quot;1&#10;&lt;&#9; é" ex:user="fred" plain="x"><nc:get/></nc:rpc>')
    play.answer()
    text = play.replies()[0]
    root = parse(text)
    assert dict(root.attrib) == {"message-id": message_id, "{urn:ex}user": "fred", "plain": "x"}
    for declaration in (b'xmlns:ex="urn:ex"', b'xmlns="urn:d"', b"xmlns:nc="):
        assert declaration in text
    assert root[0].tag == f"{NC}ok"


def test_nc_020_close_session_is_answered_and_nothing_after_it_is_read():
    play = Play()
    play.ask(rpc(1, "<close-session/>"), rpc(2))
    assert parse(play.replies()[0])[0].tag == f"{NC}ok"
    assert play.closed == Close("close-session", termination="closed")
    assert play.delivered == []
    assert play.take(BytesReceived(b"x")) == []


def test_the_end_of_the_stream_waits_for_what_was_asked():
    play = Play()
    play.ask(rpc(1), rpc(2))
    play.take(StreamEnded())
    play.answer()
    assert play.closed is None
    play.answer()
    assert play.closed is not None
    assert len(play.replies()) == 2


def test_killed_while_working():
    play = Play()
    play.ask(rpc())
    play.take(Killed("because"))
    assert play.closed == Close("because", is_abrupt=True)
    play.answer()
    assert play.sent == b""


def test_reading_stops_while_enough_waits_behind_an_rpc_that_is_worked_on():
    play = Play()
    play.ask(rpc())
    assert play.session.wants_bytes
    play.take(BytesReceived(framed(b"x" * (MAX_UNREAD_BYTES + 1), is_chunked=True)))
    assert not play.session.wants_bytes
    play.answer()
    assert play.session.wants_bytes


@pytest.mark.parametrize("tag", sorted(ERROR_TAGS))
def test_nc_034_035_036_every_row_of_the_table_can_be_written(tag):
    types, info = ERROR_TAGS[tag]
    for error_type in types:
        error = RpcError(error_type, tag, app_tag="a", path="/x:a", message="m & m", info=tuple((name, "1") for name in info), prefixes=(("x", "urn:x"),))
        text = reply(None, errors([error]))
        (seen,) = errors_of(parse(text))
        assert (seen.kind, seen.app_tag, seen.path, seen.message) == ((error_type, tag), "a", "/x:a", "m & m")
        assert set(info) <= seen.info.keys()
        assert b'<error-path xmlns:x="urn:x">' in text
        assert b'<error-message xml:lang="en">' in text


def test_a_triple_that_the_rfc_does_not_have_is_our_bug():
    with pytest.raises(AssertionError):
        RpcError("rpc", "lock-denied", info=(("session-id", "1"),))
    with pytest.raises(AssertionError):
        RpcError("protocol", "lock-denied")
