"""OpenAI's chat completions: a fold over the log for a stream, and the whole answer (pure).

The first chunk carries the role. `[DONE]` follows an answer that is whole, or cut by a limit, and nothing
else: a failure is an error object, after which their clients raise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from server.events import (
    FINAL,
    Bytes,
    Content,
    Done,
    Event,
    FinalEvent,
    Reasoning,
    ToolCall,
)
from server.wire.fold import Folded, sse
from server.wire.openai_errors import Failure, finish_of, of_final

DONE = b"[DONE]"
BROKEN = Failure(503, "reset", "The answer cannot be continued; ask again.", retryable=True)
_ROLE = {"role": "assistant"}


class Said(NamedTuple):
    """What a stream has said already: the role, and of which calls the id and the name."""

    role: bool = False
    calls: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Chat:
    """One session as a chat completion; `created` in Unix seconds."""

    sid: str
    model: str
    created: int
    include_usage: bool = False

    @property
    def id(self) -> str:
        """The completion's id."""
        return f"chatcmpl-{self.sid}"

    def encoding(self, sid: str) -> Folded:
        """Return the encoding for a log."""
        return Folded(self, sse)

    def begin(self) -> tuple[Said, Sequence[bytes]]:
        """Begin with nothing: the first chunk is the first event's."""
        return Said(), ()

    def step(self, said: Said, event: Event) -> tuple[Said, Sequence[bytes]]:
        """Turn an event into chunks."""
        if isinstance(event, FINAL):
            return said, self._end(said, event)
        delta = _delta(self.sid, said, event)
        if not delta:
            return said, ()
        now = _after(said, event)
        return now, (self._chunk(delta if said.role else _ROLE | delta),)

    def broken(self) -> Sequence[bytes]:
        """Return the error that ends a stream which cannot go on."""
        return (_error(BROKEN),)

    def completion(self, events: Iterable[Event]) -> dict[str, Any]:
        """Return a whole log, which did not fail, as one answer."""
        *pieces, final = events
        assert isinstance(final, FINAL)
        calls = _calls(self.sid, pieces)
        text = "".join(e.content for e in pieces if isinstance(e, Content))
        thoughts = "".join(e.content for e in pieces if isinstance(e, Reasoning))
        message: dict[str, Any] = {"content": text if text or not calls else None, "refusal": None}
        message |= {"reasoning_content": thoughts} if thoughts else {}
        message |= {"tool_calls": calls} if calls else {}
        answer = _ROLE | message
        choice = {"index": 0, "message": answer, "logprobs": None, "finish_reason": finish_of(final)}
        body = self._head("chat.completion") | {"choices": [choice]}
        return body | {"usage": final.usage if isinstance(final, Done) else None}

    def _end(self, said: Said, final: FinalEvent) -> Sequence[bytes]:
        if (failure := of_final(final)) is not None:
            return (_error(failure),)
        last = self._chunk({} if said.role else _ROLE | {"content": ""}, finish_of(final))
        if not (self.include_usage and isinstance(final, Done) and final.usage):
            return last, DONE
        usage = self._head("chat.completion.chunk") | {"choices": [], "usage": final.usage}
        return last, orjson.dumps(usage), DONE

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = self._head("chat.completion.chunk") | {"choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return orjson.dumps(chunk)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def call_id(sid: str, call: ToolCall) -> str:
    """Return a call's id; one that the upstream did not name is named after its place."""
    return call.id or f"call_{sid}_{call.index}"


def _delta(sid: str, said: Said, event: Event) -> dict[str, Any]:
    match event:
        case Content(content):
            return {"content": content}
        case Reasoning(content):
            return {"reasoning_content": content}
        case ToolCall():
            return {"tool_calls": [_call_delta(sid, said, event)]}
        case Bytes():
            return {}  # not text: a chat has no place for it
    raise AssertionError(event)


def _call_delta(sid: str, said: Said, call: ToolCall) -> dict[str, Any]:
    # Clients join what comes in pieces, so id, type and name must come once.
    function: dict[str, Any] = {"arguments": call.arguments or ""}
    if call.name and call.index not in said.named:
        function = {"name": call.name} | function
    if call.index in said.calls:
        return {"index": call.index, "function": function}
    first = {"index": call.index, "id": call_id(sid, call), "type": "function"}
    return first | {"function": function}


def _after(said: Said, event: Event) -> Said:
    if not isinstance(event, ToolCall):
        return said if said.role else said._replace(role=True)
    named = said.named | {event.index} if event.name else said.named
    return Said(True, said.calls | {event.index}, named)


def _calls(sid: str, events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return the tool calls of a log, whole."""
    calls: dict[int, dict[str, Any]] = {}
    for call in events:
        if not isinstance(call, ToolCall):
            continue
        function: dict[str, Any] = {"name": "", "arguments": ""}
        empty = {"id": call_id(sid, call), "type": "function", "function": function}
        function = calls.setdefault(call.index, empty)["function"]
        function["name"] = function["name"] or call.name or ""
        function["arguments"] += call.arguments or ""
    return [calls[index] for index in sorted(calls)]


def _error(failure: Failure) -> bytes:
    return orjson.dumps({"error": failure.as_dict()})
