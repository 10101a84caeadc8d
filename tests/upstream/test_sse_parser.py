"""The parser: WHATWG's rules, whatever the chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import UpstreamInvalid
from server.upstream.sse_parser import MAX_EVENT, Message, SSEParser

TABLE = [
    (b"data: a\n\n", [b"a"]),
    (b"data:a\n\n", [b"a"]),
    (b"data:  a\n\n", [b" a"]),
    (b"data: a\r\n\r\n", [b"a"]),
    (b"data: a\r\r", [b"a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b": comment\n\ndata: a\n\n", [b"a"]),
    (b"event: x\n\ndata: a\n\n", [b"a"]),
    (b"retry: 5\nunknown: y\nid: 7\ndata: a\n\n", [b"a"]),
    (b"data\n\n", [b""]),
    (b"data: a\n\ndata: b\n\n\n\ndata: c\n\n", [b"a", b"b", b"c"]),
    ("data: “é🙂”\n\n".encode(), ["“é🙂”".encode()]),
    (b"data: never finished\n", []),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
]


def read(*chunks: bytes) -> list[bytes]:
    parser = SSEParser()
    return [message.data for chunk in chunks for message in parser.feed(chunk)]


@pytest.mark.parametrize(("stream", "data"), TABLE)
def test_the_table_in_one_piece_and_at_every_two_way_split_and_byte_by_byte(stream, data):
    assert read(stream) == data
    for at in range(len(stream) + 1):
        assert read(stream[:at], stream[at:]) == data
    assert read(*(bytes([byte]) for byte in stream)) == data


_LINE = st.sampled_from([b"data: x", b"data:y", b"data", b": c", b"event: e", b"id: 1", b""])
_END = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(_LINE, _END), max_size=20), st.data())
def test_any_chunking_reads_the_same(lines, data):
    stream = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*pieces) == read(stream)


def outcome(limit: int, *chunks: bytes) -> list[Message | None]:
    """Return every message, and None at the end if the stream was refused."""
    parser, messages = SSEParser(limit), []
    try:
        for chunk in chunks:
            messages += parser.feed(chunk)
    except UpstreamInvalid:
        messages.append(None)
    return messages


_BITS = st.sampled_from([b"data: x", b"data:", b"id: 1", b"event:e", b"y", b"\0", b"\r", b"\n", b"\n\n"])


@given(st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(_BITS, max_size=12), st.integers(5, 15))
def test_byte_by_byte_is_the_whole_and_fails_in_the_same_place(mark, bits, limit):
    stream = mark + b"".join(bits)
    by_byte = outcome(limit, *(bytes([byte]) for byte in stream))
    for at in range(len(stream) + 1):
        assert outcome(limit, stream[:at], stream[at:]) == by_byte


def test_event_and_id_are_told():
    parser = SSEParser()
    (message,) = parser.feed(b"event: ping\nid: 7\ndata: a\n\n")
    assert message == ("ping", b"a", "7")
    (message,) = parser.feed(b"id: bad\0id\ndata: b\n\n")
    assert message == ("message", b"b", "7")


def test_a_byte_order_mark_is_no_part_of_the_first_line():
    stream = b"\xef\xbb\xbfdata: 1234\n\n"
    whole = outcome(10, stream)
    assert whole == [("message", b"1234", "")]
    assert outcome(10, *(bytes([byte]) for byte in stream)) == whole


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_an_event_over_the_limit_is_refused(end):
    with pytest.raises(UpstreamInvalid):
        read(b"data: " + b"x" * (MAX_EVENT + 1) + end)
    with pytest.raises(UpstreamInvalid):
        read(*([b"data: " + b"x" * 65536 + b"\n"] * 17))
