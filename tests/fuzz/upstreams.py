"""Targets: what model servers and programs that push send."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from server.errors import TokenwireError, UpstreamFailed, UpstreamInvalid
from server.upstream import Head, Request
from server.upstream.any_body import kind_of, reader_of
from server.upstream.caller import Reader
from server.upstream.chunks import ChunkReader, whole_answer
from server.upstream.message_events import MessageStream
from server.upstream.push import Push
from server.upstream.sse_parser import MAX_EVENT, Message, SSEParser
from tests.fuzz.connections import loop
from tests.fuzz.splits import Pieces, joined, kept, same
from tests.upstream.runs import Tray

_LIMITS = (MAX_EVENT, 16, 64)
_ASKED = Request("m", [], {})


def _held(thing: object) -> int:
    """Count the bytes that an object keeps."""
    values = [
        v for value in vars(thing).values() for v in (value if isinstance(value, list) else [value])
    ]
    return sum(len(value) for value in values if isinstance(value, bytes | str))


def sse(data: bytes) -> None:
    """The parser of event streams: WHATWG's rules, and never more kept than its limit."""
    limit = _LIMITS[len(data) % 3]

    def read(pieces: Pieces) -> list[Message | None]:
        parser, messages = SSEParser(limit), list[Message | None]()
        try:
            for at, piece in enumerate(pieces, 1):
                messages += parser.feed(piece)
                if at % 64 == 0 or at == len(pieces):
                    # An open line, and of the event before it data, type and id.
                    assert _held(parser) <= 4 * limit, "more is kept than the limit allows"
        except UpstreamInvalid:
            messages.append(None)
        return messages

    messages = same(read, data)
    if limit == MAX_EVENT:
        assert messages == whatwg(data), "not what WHATWG says"


def whatwg(data: bytes) -> list[Message]:
    """Read an event stream by the letter of the standard."""
    messages, event, id, buffer = list[Message](), "", "", b""
    for line in re.split(rb"\r\n|\r|\n", data.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if buffer:
                messages.append(Message(event or "message", buffer[:-1], id))
            event, buffer = "", b""
        elif name == b"data":
            buffer += value + b"\n"
        elif name == b"event":
            event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            id = value.decode(errors="replace")
    return messages


def _outcome(events: list[Any], read: Callable[[], object], textual: bool = False) -> list[Any]:
    """Return the events and the end; of a `textual` body that turns bad, only that: its piece is lost."""
    try:
        end = read()
    except UpstreamFailed as error:
        return [*([] if textual else joined(events)), type(error), error.message]
    kept([*events, end])
    return [*joined(events), end]


def _answered(
    begin: Callable[[Callable[[Any], None]], Reader], textual: bool, pieces: Pieces
) -> list[Any]:
    events: list[Any] = []

    def read() -> object:
        reader = begin(events.append)
        any(reader.feed(piece) for piece in pieces)
        return reader.finish()

    return _outcome(events, read, textual)


def openai_chunks(data: bytes) -> None:
    """OpenAI's stream, and its answer in one piece."""
    same(partial(_answered, ChunkReader, False), data)

    def whole() -> object:
        events, done = whole_answer(data)
        kept(events)
        return done

    _outcome([], whole)


def anthropic_messages(data: bytes) -> None:
    """Anthropic's stream, and its answer in one piece."""
    same(partial(_answered, MessageStream, False), data)
    events: list[Any] = []

    def whole() -> object:
        stream = MessageStream(events.append)
        stream.take_whole(data)
        return stream.finish()

    _outcome(events, whole)


def _is_text(content_type: str) -> bool:
    kind, _ = kind_of(content_type)
    return kind.startswith("text/") and kind != "text/event-stream"


def any_body(data: bytes) -> None:
    """A body of any kind: its type on the first line."""
    head, _, body = data.partition(b"\n")
    kind, whole = head.decode("latin-1"), len(data) % 2 == 0
    textual = _is_text(kind)
    same(partial(_answered, lambda push: reader_of(kind, push, whole), textual), body)


def pushed_body(data: bytes) -> None:
    """A pushed body: its type on the first line."""
    head, _, body = data.partition(b"\n")
    kind = head.decode("utf-8", "surrogateescape")
    textual = _is_text(kind)
    same(lambda pieces: loop().run_until_complete(_pushed(kind, pieces, textual)), body)


async def _pushed(kind: str, pieces: Pieces, textual: bool) -> list[Any]:
    push, tray = Push(1, 1, 1), Tray()
    outcome: list[Any] = []
    try:
        body = push.open(Head(kind, last=True), tray)
        assert body is not None
        for piece in pieces:
            body.take(piece)
        body.end()
    except TokenwireError as error:
        outcome.append(type(error))
    if push.ended:
        outcome.append(await _ended(push))
    push.end(UpstreamFailed())
    kept(tray.events)
    refused = isinstance(outcome[0], type)
    return outcome if textual and refused else joined(tray.events) + outcome


async def _ended(push: Push) -> object:
    try:
        final = await push(_ASKED, Tray())
    except UpstreamFailed as error:
        return type(error)
    kept([final])
    return final
