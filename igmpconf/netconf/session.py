"""One NETCONF session of the server as a pure machine: octets in, rpcs out, replies in, octets out (RFC 6241 4.5, 8.1).

    GREETING ──client hello──> OPEN ──close-session, end of stream──> CLOSED
        └── no common version, session-id, not a hello, timeout ──────────┘

Rpcs are delivered one at a time and answered in the order received; while one is being worked on, the octets behind
it stay undecoded, and `wants_bytes` tells the reader to stop.  Knows no operation except `<close-session>`, which is
about the session itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from igmpconf.ids import SessionId
from igmpconf.netconf import messages
from igmpconf.netconf.framing import MAX_MESSAGE_BYTES, Decoder, FramingError, framed
from igmpconf.netconf.messages import BASE, BASE_1_0, BASE_1_1, NotAnswerable, RefusedRpc, Rpc, RpcError, RpcRefused
from igmpconf.xmltext import XmlTextError

HELLO_TIMEOUT_MS = 30_000  # ours; RFC 6241 has none
MAX_UNREAD_BYTES = 256 * 1024  # ours: octets taken from a client that pipelines before it must wait
MAX_HELLO_BYTES = 1024 * 1024

Termination = Literal["closed", "killed", "dropped", "timeout", "bad-hello", "other"]  # RFC 6470: termination-reason


@dataclass(frozen=True, slots=True)
class Opened:
    """The transport is there; the server speaks first."""


@dataclass(frozen=True, slots=True)
class BytesReceived:
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The client will send no more; what it sent is still answered."""


@dataclass(frozen=True, slots=True)
class RpcAnswered:
    """The content of the reply to the rpc delivered last."""

    reply: bytes
    is_error: bool


@dataclass(frozen=True, slots=True)
class Notified:
    """A notification for the client; never in the middle of a reply, because both are whole messages."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Killed:
    """Another session, or the server, ends this one at once."""

    reason: str
    by: SessionId | None = None
    how: Termination = "other"


@dataclass(frozen=True, slots=True)
class TimePassed:
    pass


Event = Opened | BytesReceived | StreamEnded | RpcAnswered | Notified | Killed | TimePassed


@dataclass(frozen=True, slots=True)
class SendBytes:
    data: bytes


@dataclass(frozen=True, slots=True)
class DeliverRpc:
    """Work on this; answered by RpcAnswered."""

    rpc: Rpc


@dataclass(frozen=True, slots=True)
class Close:
    """Send what is queued, then close, or close at once when it `is_abrupt`; `reason` is for the log."""

    reason: str
    is_abrupt: bool = False
    termination: Termination = "other"
    killed_by: SessionId | None = None


Effect = SendBytes | DeliverRpc | Close


@dataclass(slots=True)
class Counters:
    """Counters of RFC 6022 2.1.4."""

    in_rpcs: int = 0
    in_bad_rpcs: int = 0
    out_rpc_errors: int = 0
    out_notifications: int = 0


class Session:
    """The machine."""

    def __init__(self, session_id: SessionId, capabilities: Sequence[str], *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.session_id = session_id
        self.counters = Counters()
        self._capabilities = tuple(capabilities)
        self._decoder = Decoder(max_message_bytes=max_message_bytes)
        self._state: Literal["new", "greeting", "open", "closed"] = "new"
        self._is_chunked = False
        self._is_working = False
        self._has_ended = False
        self._hello_until_ms: int | None = None

    @property
    def is_closed(self) -> bool:
        return self._state == "closed"

    @property
    def wants_bytes(self) -> bool:
        """Whether the reader should go on; False while an rpc is worked on and enough is waiting behind it."""
        return not self.is_closed and not self._has_ended and not (self._is_working and self._decoder.pending_bytes > MAX_UNREAD_BYTES)

    def next_deadline_ms(self) -> int | None:
        return self._hello_until_ms

    def handle(self, event: Event, now_ms: int) -> Sequence[Effect]:
        if self.is_closed:
            return []
        match event:
            case Opened():
                self._state = "greeting"
                self._hello_until_ms = now_ms + HELLO_TIMEOUT_MS
                # RFC 6242 4.1: both hellos use the end-of-message framing
                return [SendBytes(framed(messages.hello(self.session_id, self._capabilities), is_chunked=False))]
            case BytesReceived(data):
                self._decoder.feed(data)
            case StreamEnded():
                self._has_ended = True
            case RpcAnswered(answer, is_error):
                assert self._is_working, "an answer without a question"
                self._is_working = False
                self.counters.out_rpc_errors += is_error
                return [self._sent(answer), *self._read()]
            case Notified(message):
                self.counters.out_notifications += 1
                return [self._sent(message)]
            case Killed(reason, by, how):
                return [self._close(reason, is_abrupt=True, termination="killed" if by is not None else how, killed_by=by)]
            case TimePassed():
                if self._hello_until_ms is not None and self._hello_until_ms <= now_ms:
                    return [self._close("no hello in time", is_abrupt=True, termination="timeout")]
                return []
            case _:
                assert_never(event)
        return self._read()

    def _read(self) -> list[Effect]:
        """Decode until an rpc is delivered, the octets are used up, or the session is over."""
        effects: list[Effect] = []
        while not self.is_closed and not self._is_working:
            try:
                message = self._decoder.next_message()
            except FramingError as error:
                effects.append(self._close(f"framing: {error}"))
                break
            if message is None:
                if self._has_ended:
                    effects.append(self._close("the client closed the stream", termination="dropped"))
                elif self._state == "greeting" and self._decoder.pending_bytes > MAX_HELLO_BYTES:
                    effects.append(self._close("hello too large", termination="bad-hello"))
                break
            effects += self._greeted(message) if self._state == "greeting" else self._asked(message)
        return effects

    def _greeted(self, message: bytes) -> list[Effect]:
        try:
            hello = messages.read_hello(message)
        except (NotAnswerable, XmlTextError) as error:
            return [self._close(f"hello: {error}", termination="bad-hello")]
        if hello.has_session_id:
            return [self._close("hello: a client must not send session-id (RFC 6241 8.1)", termination="bad-hello")]
        if BASE_1_1 in hello.capabilities:
            self._is_chunked = True
            self._decoder.use_chunks()
        elif BASE_1_0 not in hello.capabilities:
            return [self._close("hello: no common version of the protocol", termination="bad-hello")]
        self._state = "open"
        self._hello_until_ms = None
        return []

    def _asked(self, message: bytes) -> list[Effect]:
        try:
            rpc = messages.read_rpc(message)
        except NotAnswerable as error:
            self.counters.in_bad_rpcs += 1
            return [self._close(str(error))]
        except XmlTextError as error:
            self.counters.in_bad_rpcs += 1
            # RFC 6241 appendix A: malformed-message must not be sent to a base:1.0 client
            tag = "too-big" if error.reason == "too-big" else "malformed-message" if self._is_chunked else "operation-failed"
            return self._refused(None, RpcError("rpc", tag, message=str(error)))
        except RefusedRpc as refusal:
            self.counters.in_bad_rpcs += 1
            return self._refused(refusal.rpc, *refusal.errors)
        except RpcRefused as refusal:
            self.counters.in_bad_rpcs += 1
            return self._refused(None, *refusal.errors)
        self.counters.in_rpcs += 1
        if rpc.operation.tag == f"{{{BASE}}}close-session":
            return [self._sent(messages.reply(rpc, messages.ok())), self._close("close-session", termination="closed")]
        self._is_working = True
        return [DeliverRpc(rpc)]

    def _refused(self, rpc: Rpc | None, *errors: RpcError) -> list[Effect]:
        self.counters.out_rpc_errors += 1
        return [self._sent(messages.reply(rpc, messages.errors(errors)))]

    def _sent(self, message: bytes) -> SendBytes:
        return SendBytes(framed(message, is_chunked=self._is_chunked))

    def _close(self, reason: str, *, is_abrupt: bool = False, termination: Termination = "other", killed_by: SessionId | None = None) -> Close:
        self._state = "closed"
        self._hello_until_ms = None
        return Close(reason, is_abrupt, termination, killed_by)
