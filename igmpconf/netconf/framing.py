"""Message framing of NETCONF over a byte stream (RFC 6242 4): bytes to messages and back.

A decoder starts with the end-of-message framing of base:1.0, because both hellos use it, and is switched to chunked
framing when both peers speak base:1.1.  It is pulled, not pushed: the bytes behind the hello may already be chunked,
so nobody may look at them before the hello was understood.  This file does not know XML.
"""

from __future__ import annotations

END_OF_MESSAGE = b"]]>]]>"  # RFC 6242 4.3
END_OF_CHUNKS = b"\n##\n"  # RFC 6242 4.2
MAX_CHUNK_BYTES = 4_294_967_295  # RFC 6242 4.2
MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # ours: a configuration of 32 full instances takes well under one megabyte
_MAX_HEADER_BYTES = len(b"\n#4294967295\n")
_COMPACT_BYTES = 64 * 1024


class FramingError(ValueError):
    """The stream cannot be cut into messages any more; RFC 6242 4.2 leaves only closing the channel."""


class Decoder:
    """Bytes in, messages out; holds at most one message of `max_message_bytes` and what was fed behind it."""

    def __init__(self, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._at = 0  # octets of the buffer already consumed
        self._searched = 0  # end-of-message framing: where the search continues
        self._is_chunked = False
        self._message = bytearray()  # chunked framing: the chunks of the message so far
        self._chunk_left = 0  # octets of the current chunk still to come
        self._has_chunk = False  # a message needs at least one chunk

    def use_chunks(self) -> None:
        """Read everything not yet returned with chunked framing."""
        self._is_chunked = True

    def feed(self, data: bytes) -> None:
        """Append octets as they were received."""
        self._buffer += data

    @property
    def pending_bytes(self) -> int:
        """Octets fed and not yet returned as a message: what a reader should bound."""
        return len(self._buffer) - self._at + len(self._message)

    def next_message(self) -> bytes | None:
        """The next whole message without its framing, or None until more is fed.  Raises FramingError."""
        message = self._next_of_chunks() if self._is_chunked else self._next_of_end_marks()
        if self._at == len(self._buffer) or self._at > _COMPACT_BYTES:
            del self._buffer[: self._at]
            self._searched = max(0, self._searched - self._at)
            self._at = 0
        return message

    def _next_of_end_marks(self) -> bytes | None:
        found = self._buffer.find(END_OF_MESSAGE, max(self._at, self._searched))
        if found < 0:
            self._searched = max(self._at, len(self._buffer) - len(END_OF_MESSAGE) + 1)
            if len(self._buffer) - self._at > self._max_message_bytes + len(END_OF_MESSAGE):
                raise FramingError(f"message exceeds {self._max_message_bytes} octets")
            return None
        if found - self._at > self._max_message_bytes:
            raise FramingError(f"message exceeds {self._max_message_bytes} octets")
        message = bytes(self._buffer[self._at : found])
        self._at = self._searched = found + len(END_OF_MESSAGE)
        return message

    def _next_of_chunks(self) -> bytes | None:
        while True:
            if self._chunk_left:
                taken = min(self._chunk_left, len(self._buffer) - self._at)
                if not taken:
                    return None
                self._message += memoryview(self._buffer)[self._at : self._at + taken]
                self._at += taken
                self._chunk_left -= taken
                continue
            size = self._chunk_header()
            if size is None:
                return None
            if size == 0:
                message = bytes(self._message)
                self._message.clear()
                self._has_chunk = False
                return message
            if len(self._message) + size > self._max_message_bytes:
                raise FramingError(f"message exceeds {self._max_message_bytes} octets")
            self._has_chunk = True
            self._chunk_left = size

    def _chunk_header(self) -> int | None:
        """Size of the chunk that begins here, 0 at the end of the message, None while the header is incomplete."""
        end = self._buffer.find(b"\n", self._at + 2, self._at + _MAX_HEADER_BYTES)
        header = bytes(self._buffer[self._at : end + 1] if end >= 0 else self._buffer[self._at : self._at + _MAX_HEADER_BYTES])
        if not b"\n#".startswith(header[:2]):
            raise FramingError(f"expected a chunk, found {header!r}")
        if end < 0:
            digits = header[2:]
            if len(header) == _MAX_HEADER_BYTES or not (digits in {b"", b"#"} or (digits.isdigit() and not digits.startswith(b"0"))):
                raise FramingError(f"not a chunk size: {header!r}")
            return None
        word = header[2:-1]
        if word == b"#":
            if not self._has_chunk:
                raise FramingError("a message without a chunk")
            self._at = end + 1
            return 0
        # RFC 6242 4.2: chunk-size is 1..4294967295 without leading zeros; bytes.isdigit() accepts ASCII digits only
        if not word.isdigit() or word.startswith(b"0") or int(word) > MAX_CHUNK_BYTES:
            raise FramingError(f"not a chunk size: {header!r}")
        self._at = end + 1
        return int(word)


def framed(message: bytes, *, is_chunked: bool) -> bytes:
    """A message with its framing; end-of-message framing cannot carry `]]>]]>`, which XML text never contains unescaped."""
    if is_chunked:
        return b"\n#%d\n%b%b" % (len(message), message, END_OF_CHUNKS)
    return message + END_OF_MESSAGE
