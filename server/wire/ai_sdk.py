"""The Vercel AI SDK's UI message stream (of its versions 5 to 7), which assistant-ui reads too (pure).

A session is one message of one step. Texts and reasoning are parts with ids of their own, counted; a
tool call's input is said to be available when the session is done, since until then another delta
may come; what came as bytes is one file. Over a WebSocket the same chunks are numbered, and there is no
`[DONE]`: how a request ends is a frame of its protocol.
"""

from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from server.events import Aborted, Bytes, Content, Done, Error, Event, Reasoning, ToolCall, tellable
from server.wire.fold import Folded, sse

_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}

Pieces = tuple[Any, ...]
"""Pieces so far, the latest first: `()`, or what came before and one more."""


class Call(NamedTuple):
    """A tool call of which deltas come."""

    place: int
    id: str
    name: str
    pieces: Pieces = ()


class State(NamedTuple):
    """What is open: a text or reasoning part (its kind and id), tool calls, latest first, a file."""

    kind: str = ""
    id: str = ""
    parts: int = 0
    calls: tuple[Call, ...] = ()
    media_type: str = ""
    data: Pieces = ()


@dataclass(frozen=True, slots=True)
class AiSdk:
    """The message `message`, as server-sent events, or as `numbered` lines for a WebSocket's frames."""

    message: str
    numbered: bool = False

    def encoding(self, sid: str) -> Folded:
        """Return the encoding for a log."""
        return Folded(self, _line if self.numbered else sse)

    def begin(self) -> tuple[State, Sequence[bytes]]:
        """Return the state before the first event, and the chunks that open the message."""
        return State(), _chunks({"type": "start", "messageId": self.message}, {"type": "start-step"})

    def step(self, state: State, event: Event) -> tuple[State, Sequence[bytes]]:
        """Return the state after an event, and the event's chunks."""
        if isinstance(event, Content):
            return _text(state, "text", event.content)
        if isinstance(event, Reasoning):
            return _text(state, "reasoning", event.content)
        if isinstance(event, ToolCall):
            return _call(state, event)
        if isinstance(event, Bytes):
            media_type = state.media_type or event.content_type or "application/octet-stream"
            return state._replace(media_type=media_type, data=(state.data, event.data)), ()
        return State(), self._end(state, event)

    def _end(self, state: State, event: Done | Aborted | Error) -> Sequence[bytes]:
        chunks = [*_closing(state)]
        if isinstance(event, Done):
            reason = _FINISH.get(event.finish_reason, "other")
            chunks += [_available(call) for call in reversed(state.calls)]
            chunks += _file(state)
            chunks += [{"type": "finish-step"}, {"type": "finish", "finishReason": reason}]
        elif isinstance(event, Aborted):
            chunks.append({"type": "abort", "reason": event.reason})
        else:
            chunks.append({"type": "error", "errorText": event.message})
        return (*_chunks(*chunks), *(() if self.numbered else (b"[DONE]",)))

    def broken(self) -> Sequence[bytes]:
        """Return what tells a client that the message it holds is not true any more."""
        if self.numbered:
            return ()  # a number out of turn would end the whole socket
        return _chunks(
            {"type": "error", "errorText": "The answer was lost and began anew: load it again."}
        )


def _line(number: int, part: bytes, id: bytes | None) -> bytes:
    return b'"sequence":%d,"chunk":%b\n' % (number, part)


def _chunks(*chunks: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(map(orjson.dumps, chunks))


def _text(state: State, kind: str, text: str) -> tuple[State, Sequence[bytes]]:
    if state.kind == kind:
        return state, _chunks({"type": f"{kind}-delta", "id": state.id, "delta": text})
    id = str(state.parts)
    chunks = _chunks(
        *_closing(state),
        {"type": f"{kind}-start", "id": id},
        {"type": f"{kind}-delta", "id": id, "delta": text},
    )
    return state._replace(kind=kind, id=id, parts=state.parts + 1), chunks


def _closing(state: State) -> list[dict[str, Any]]:
    return [{"type": f"{state.kind}-end", "id": state.id}] if state.kind else []


def _call(state: State, event: ToolCall) -> tuple[State, Sequence[bytes]]:
    chunks, calls = _closing(state), list(state.calls)
    at = next((at for at, call in enumerate(calls) if call.place == event.index), None)
    # Some servers count every call as the first one, and tell them apart by id alone.
    if at is None or (event.id and event.id != calls[at].id):
        at = 0
        calls.insert(0, Call(event.index, event.id or f"call_{event.index}", event.name or "tool"))
        start = {"type": "tool-input-start", "toolCallId": calls[at].id, "toolName": calls[at].name}
        chunks.append(start)
    call = calls[at]
    if event.arguments:
        calls[at] = call._replace(pieces=(call.pieces, event.arguments))
        delta = {"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": event.arguments}
        chunks.append(delta)
    return state._replace(kind="", id="", calls=tuple(calls)), _chunks(*chunks)


def _available(call: Call) -> dict[str, Any]:
    text = "".join(_in_order(call.pieces))
    names = {"toolCallId": call.id, "toolName": call.name}
    with suppress(orjson.JSONDecodeError):
        given = orjson.loads(text or "{}")
        if tellable(given):
            return {"type": "tool-input-available", **names, "input": given}
    why = "The model's input for this tool is not JSON."
    return {"type": "tool-input-error", **names, "input": text, "errorText": why}


def _file(state: State) -> list[dict[str, Any]]:
    if not state.data:
        return []
    data = b64encode(b"".join(_in_order(state.data))).decode()
    url = f"data:{state.media_type};base64,{data}"
    return [{"type": "file", "url": url, "mediaType": state.media_type}]


def _in_order(pieces: Pieces) -> list[Any]:
    found = []
    while pieces:
        pieces, piece = pieces
        found.append(piece)
    return found[::-1]
