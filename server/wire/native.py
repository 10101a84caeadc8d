"""The native formats: SSE, NDJSON and WebSocket frames (pure).

SSE is LF only; log events have an id and no name, notices a name and no id. The retry time travels in
the `session` notice's block, behind a first comment; so does a cursor for who has none yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from server.wire.frames import Frame, Frames, MergedFrames, Notice

KEEP_ALIVE = b": ping\n"
DEGRADED = b": degraded\n"
DONE = b"data: [DONE]\n\n"

_TOOL_CALL = b'{"type":"tool_call"'


def _encoding(frame: Frame, notice: Notice, merged: bool) -> Frames | MergedFrames:
    return MergedFrames(frame, notice) if merged else Frames(frame, notice, [])


@dataclass(frozen=True, slots=True)
class Sse:
    """Server-sent events; with `qualified`, ids are `<sid>.<epoch>-<seq>`."""

    merged: bool = False
    qualified: bool = False

    def encoding(self, sid: str) -> Frames | MergedFrames:
        """Return the encoding for a log."""
        prefix = f"{sid}.".encode() if self.qualified else b""

        def frame(epoch: int, seq: int, line: bytes) -> bytes:
            return b"id: %b%d-%d\ndata: %b\n\n" % (prefix, epoch, seq, line)

        return _encoding(frame, _sse_notice, self.merged)


def _sse_notice(kind: str, facts: Mapping[str, Any]) -> bytes:
    rest = dict(facts)
    retry, cursor = rest.pop("retry", None), rest.pop("cursor", None)
    lead = b": tokenwire\nretry: %d\n" % retry if retry is not None else b""
    if cursor is not None:
        lead += b"id: %b\n" % cursor.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (lead, kind.encode(), orjson.dumps(rest))


@dataclass(frozen=True, slots=True)
class Ndjson:
    """One JSON object a line; events carry `id`, notices their `type` alone."""

    merged: bool = False

    def encoding(self, sid: str) -> Frames | MergedFrames:
        """Return the encoding for a log."""
        return _encoding(_ndjson_frame, _ndjson_notice, self.merged)


def _ndjson_frame(epoch: int, seq: int, line: bytes) -> bytes:
    return b'{"id":"%d-%d",%b\n' % (epoch, seq, _without_id(line)[1:])


def _without_id(line: bytes) -> bytes:
    """Call a tool call's own id `call_id`, where `id` is the event's."""
    return line.replace(b'"id":', b'"call_id":', 1) if line.startswith(_TOOL_CALL) else line


def _ndjson_notice(kind: str, facts: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, **_spoken(facts)}) + b"\n"


@dataclass(frozen=True, slots=True)
class WebSocket:
    """Text frames of one JSON object, each with the session it is about."""

    merged: bool = False

    def encoding(self, sid: str) -> Frames | MergedFrames:
        """Return the encoding for a log."""

        name = sid.encode()

        def frame(epoch: int, seq: int, line: bytes) -> bytes:
            own = _without_id(line)[1:]
            return text_frame(b'{"session":"%b","id":"%d-%d",%b' % (name, epoch, seq, own))

        def notice(kind: str, facts: Mapping[str, Any]) -> bytes:
            return text_frame(orjson.dumps({"session": sid, "type": kind, **_spoken(facts)}))

        return _encoding(frame, notice, self.merged)


def _spoken(facts: Mapping[str, Any]) -> dict[str, Any]:
    # `retry` is a field of SSE; elsewhere the client's own backoff decides.
    return {name: value for name, value in facts.items() if name != "retry"}


def text_frame(payload: bytes) -> bytes:
    """Return an unmasked, unfragmented WebSocket text frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)
