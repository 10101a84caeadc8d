"""Targets: what is in a log, told in every format; and the log itself as Redis keeps it."""

import base64
import random
from contextlib import suppress
from itertools import pairwise
from typing import Any

import orjson

from server.client.sse import Blocks
from server.errors import StoreUnavailable, UpstreamFailed
from server.events import Content, Done, Event, FinalEvent, decode, encode, merge
from server.session.codec import PLAIN, Codec, codec
from server.session.log import Entry, Log
from server.upstream.shapes import MessageReader
from server.wire.ai_sdk import AiSdk
from server.wire.native import Ndjson, Sse, WebSocket
from server.wire.openai_chat import DONE, Chat
from server.wire.openai_errors import of_final
from server.wire.openai_responses import Responses
from server.wire.raw import Raw, content_type
from server.wire.text import Text
from tests.fuzz.upstreams import whatwg

SID = "s" * 32
_NAMES = {"id": "call_id"}
_SEALED = codec("a:" + base64.b64encode(b"k" * 32).decode())


def _events(data: bytes) -> tuple[list[Event], FinalEvent]:
    """Return a session's events: each line is one, as a program may push it, or a text."""
    events: list[Event] = []
    reader = MessageReader(events.append, strict=True)
    for line in data.split(b"\n"):
        try:
            if reader.take(line):
                break
        except UpstreamFailed:
            events.append(Content(line.decode(errors="replace")))
    events.append(Content(data.decode(errors="replace")))
    with suppress(UpstreamFailed):
        return events, reader.finish(whole=True)
    return events, Done()


def _log(data: bytes) -> tuple[list[Event], Log]:
    pieces, final = _events(data)
    events = [*pieces, final]
    lines = tuple(map(encode, events))
    half = len(lines) // 2
    entries = [
        Entry(7, 1, 1),
        Entry(7, 1, 2, lines[:half]),
        Entry(9, half + 1, 3, lines[half:], final=True),
    ]
    return events, Log(entry for entry in entries if entry.lines or entry.ordinal == 1)


def _sliced(dialect: Any, log: Log) -> bytes:
    """Return a whole log as bytes, which have to be the same in every helping."""
    whole: bytes = dialect.encoding(SID).slice(log, 0, log.head)
    encoding, dice = dialect.encoding(SID), random.Random(log.head)
    cuts = sorted({0, log.head, *(dice.randint(0, log.head) for _ in range(3))})
    steps = [encoding.slice(log, a, b) for a, b in pairwise(cuts)]
    assert b"".join(steps) == whole, "another helping, other bytes"
    return whole


def native(data: bytes) -> None:
    """Our own formats: who reads them has the events again, and no text is ever taken for a frame."""
    events, log = _log(data)
    told = [(f"{log.epoch_at(seq)}-{seq}", event) for seq, event in enumerate(events, 1)]
    stream = _sliced(Sse(), log)
    for found in (whatwg(stream), [(None, frame.data, frame.id) for frame in Blocks().feed(stream)]):
        assert [(id, decode(line)) for _, line, id in found] == told, (
            "the event stream says something else"
        )
    for lines in (_sliced(Ndjson(), log).splitlines(), _payloads(_sliced(WebSocket(), log))):
        items = [orjson.loads(line) for line in lines]
        assert [item.pop("id") for item in items] == [id for id, _ in told], "a line without its id"
        own = [{_NAMES.get(k, k): v for k, v in orjson.loads(line).items()} for line in log.lines]
        assert [item | {"session": SID} for item in items] == [o | {"session": SID} for o in own], (
            "another line"
        )
    merged = whatwg(Sse(merged=True).encoding(SID).slice(log, 0, log.head))
    assert [decode(m.data) for m in merged] == [m.event for m in merge(events)], (
        "merged is something else"
    )
    text = "".join(event.content for event in events if isinstance(event, Content))
    assert _sliced(Text(), log) == text.encode(), "the text is something else"
    _sliced(Raw(), log)
    assert "\n" not in content_type(events), "a type of two lines"


def _payloads(frames: bytes) -> list[bytes]:
    """Read a server's text frames."""
    found = []
    while frames:
        assert frames[0] == 0x81, "not a text frame"
        form = frames[1]
        width = {126: 2, 127: 8}.get(form, 0)
        size = int.from_bytes(frames[2 : 2 + width], "big") if width else form
        found.append(frames[2 + width : 2 + width + size])
        frames = frames[2 + width + size :]
    return found


def dialects(data: bytes) -> None:
    """Other people's formats: every log can be told in each, as JSON."""
    events, log = _log(data)
    final = events[-1]
    for dialect in (Chat(SID, "m", 1), Chat(SID, "m", 1, True), Responses(SID, "m", 1), AiSdk("m")):
        opening = b"".join(b"data: %b\n\n" % part for part in dialect.begin()[1])
        for message in whatwg(opening + _sliced(dialect, log)):
            assert message.data == DONE or isinstance(orjson.loads(message.data), dict), "not an object"
    for line in _sliced(AiSdk("m", numbered=True), log).splitlines():
        orjson.loads(b"{%b}" % line)
    failure = of_final(final)  # type: ignore[arg-type]
    if failure is None:
        orjson.dumps(Chat(SID, "m", 1).completion(events))
    else:
        failure.headers()
    encoding = Responses(SID, "m", 1).encoding(SID)
    encoding.slice(log, 0, log.head)
    orjson.dumps(Responses(SID, "m", 1).response(encoding.state))
    if isinstance(final, Done):
        orjson.dumps(final.usage)


def log_entries(data: bytes) -> None:
    """Entries, plain and sealed: what was put into Redis comes back, and nothing that was changed."""
    pieces, final = _events(data)
    lines = tuple(map(encode, pieces))
    end = Entry(7, len(lines) + 1, 3, (encode(final),), True)
    entries = (Entry(7, 1, 1), Entry(7, 1, 2, lines), end)
    for how in (PLAIN, _SEALED):
        rows = [_row(how, entry) for entry in entries]
        assert how.entries(SID, rows) == entries, "entries are not read back as they were"
    id, (name, sealed) = rows[1]
    dice = random.Random(data)
    at = dice.randrange(sealed.index(b"\0", sealed.index(b"\0") + 1) + 1, len(sealed))
    changed = sealed[:at] + bytes([sealed[at] ^ (1 << dice.randrange(8))]) + sealed[at + 1 :]
    for row in ((id, [name, changed]), (b"8-1", [name, sealed])):
        try:
            _SEALED.entries(SID, [row])
        except StoreUnavailable:
            continue
        raise AssertionError("an entry that was changed was read")


def _row(how: Codec, entry: Entry) -> tuple[bytes, list[bytes]]:
    return str(entry.id).encode(), list(how.fields(SID, entry))
