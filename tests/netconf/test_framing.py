from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igmpconf.netconf.framing import Decoder, FramingError, framed


def chunked(**limits: int) -> Decoder:
    decoder = Decoder(**limits)
    decoder.use_chunks()
    return decoder


def messages(decoder: Decoder, *segments: bytes) -> list[bytes]:
    found = []
    for segment in segments:
        decoder.feed(segment)
        while (message := decoder.next_message()) is not None:
            found.append(message)
    return found


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def test_nc_014_end_of_message_framing_cuts_several_messages_of_one_segment():
    assert messages(Decoder(), b"<a/>]]>]]><b/>]]>]]><c") == [b"<a/>", b"<b/>"]


def test_end_mark_that_arrives_octet_by_octet():
    assert messages(Decoder(), *one_by_one(b"<a>]]>]]</a>]]>]]>")) == [b"<a>]]>]]</a>"]


def test_nc_011_one_octet_chunks_and_a_character_split_between_chunks():
    text = "<a>é€😀</a>".encode()
    stream = b"".join(b"\n#1\n" + octet for octet in one_by_one(text)) + b"\n##\n"
    assert messages(chunked(), stream) == [text]
    assert messages(chunked(), *one_by_one(stream)) == [text]


def test_nc_011_several_messages_of_one_segment():
    assert messages(chunked(), framed(b"one", is_chunked=True) + framed(b"two", is_chunked=True)) == [b"one", b"two"]


def test_data_that_looks_like_framing_is_data():
    body = b"\n##\n\n#3\n]]>]]>"
    assert messages(chunked(), framed(body, is_chunked=True)) == [body]


def test_nc_009_framing_changes_behind_the_hello_within_one_segment():
    decoder = Decoder()
    decoder.feed(b"<hello/>]]>]]>\n#4\n<rpc\n#2\n/>\n##\n")
    assert decoder.next_message() == b"<hello/>"
    decoder.use_chunks()
    assert decoder.next_message() == b"<rpc/>"
    assert decoder.next_message() is None
    assert decoder.pending_bytes == 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"\n#0\n",
        b"\n#01\nx",
        b"\n#+1\nx",
        b"\n# 1\nx",
        b"\n#1 \nx",
        b"\n#\n",
        b"\n##\n",  # an end without a chunk
        b"\n#4294967296\n",
        b"\n#99999999999\n",
        b"\n#42949672950000",
        b"#4\nabcd",
        b"<rpc/>]]>]]>",
        b"\nx",
        b"\n#1x",
        b"\n#0",
        b"\n#1\nab",
        b"\n#1\na\n###\n",
        "\n#١\nx".encode(),
    ],
)
def test_nc_012_bad_framing_is_an_error_at_any_split(garbage):
    with pytest.raises(FramingError):
        messages(chunked(), garbage)
    with pytest.raises(FramingError):
        messages(chunked(), *one_by_one(garbage))


def test_nc_013_a_huge_announced_size_takes_no_memory():
    tracemalloc.start()
    decoder = chunked()
    with pytest.raises(FramingError, match="exceeds"):
        messages(decoder, b"\n#4294967295\n0123456789")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_nc_013_many_small_chunks_are_bounded_together():
    with pytest.raises(FramingError, match="exceeds 100 octets"):
        messages(chunked(max_message_bytes=100), *[b"\n#10\n0123456789"] * 11)


def test_nc_013_a_message_without_end_mark_is_bounded():
    with pytest.raises(FramingError, match="exceeds 100 octets"):
        messages(Decoder(max_message_bytes=100), *[b"0123456789"] * 12)
    assert messages(Decoder(max_message_bytes=100), b"x" * 100 + b"]]>]]>") == [b"x" * 100]
    with pytest.raises(FramingError):
        messages(Decoder(max_message_bytes=100), b"x" * 101 + b"]]>]]>")


@given(bodies=st.lists(st.binary(min_size=1, max_size=200), max_size=6), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_law_chunked_decode_after_encode_is_the_identity_at_any_split(bodies, cuts):
    stream = b"".join(framed(body, is_chunked=True) for body in bodies)
    segments, at, i = [], 0, 0
    while at < len(stream):
        segments.append(stream[at : at + cuts[i % len(cuts)]])
        at += cuts[i % len(cuts)]
        i += 1
    assert messages(chunked(), *segments) == bodies


@given(st.binary(max_size=300))
def test_law_any_octets_end_in_messages_or_a_framing_error(data):
    try:
        messages(chunked(max_message_bytes=100), *one_by_one(data))
    except FramingError:
        pass
