"""OpenAI's Responses: a fold over the log for a stream, and the response object (pure).

The events' sequence numbers are their places in the stream, so `starting_after` is a cursor on every
node. A text item ends when another one begins; calls end with the log, since their pieces may be mixed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from server.events import (
    Aborted,
    AbortReason,
    Bytes,
    Content,
    Done,
    Event,
    FinalEvent,
    Reasoning,
    ToolCall,
)
from server.wire.fold import Folded
from server.wire.openai_chat import BROKEN, call_id
from server.wire.openai_errors import finish_of, of_final
from server.wire.openai_items import Item, Part

PREFIX = "resp_"
_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


class Output(NamedTuple):
    """The items so far, and how the log ended."""

    items: tuple[Item, ...] = ()
    final: FinalEvent | None = None


@dataclass(frozen=True, slots=True)
class Responses:
    """One session as a response; `created` in Unix seconds, `echo` the JSON of what its caller asked."""

    sid: str
    model: str
    created: int
    echo: bytes = b"{}"

    def encoding(self, sid: str) -> Folded:
        """Return the encoding for a log."""
        return Folded(self, _frame)

    def begin(self) -> tuple[Output, Sequence[bytes]]:
        """Begin with an empty response in progress."""
        response = self.response(Output())
        kinds = ("response.created", "response.in_progress")
        return Output(), _encoded([{"type": kind, "response": response} for kind in kinds])

    def step(self, output: Output, event: Event) -> tuple[Output, Sequence[bytes]]:
        """Turn an event into the response's events."""
        output, parts = self._step(output, event)
        return output, _encoded(parts)

    def broken(self) -> Sequence[bytes]:
        """Return the error that ends a stream which cannot go on."""
        words = {"code": BROKEN.code, "message": BROKEN.message, "param": None}
        # Their clients look for one or the other.
        return _encoded([{"type": "error", **words, "error": BROKEN.as_dict()}])

    def _step(self, output: Output, event: Event) -> tuple[Output, list[Part]]:
        match event:
            case Content(text):
                return self._text(output, "message", text)
            case Reasoning(text):
                return self._text(output, "reasoning", text)
            case ToolCall():
                return self._call(output, event)
            case Bytes():
                return output, []  # not text: a response has no place for it
        return self._end(output, event)

    def _text(self, output: Output, kind: str, piece: str) -> tuple[Output, list[Part]]:
        items, parts = output.items, list[Part]()
        if not (items and items[-1].is_open and items[-1].kind == kind):
            items, parts = _ended(items, texts_only=True)
            items = (*items, Item(kind, self._item_id(kind, len(items))))
            parts += items[-1].beginning(len(items) - 1)
        return _grown(output, items, len(items) - 1, piece, parts)

    def _call(self, output: Output, call: ToolCall) -> tuple[Output, list[Part]]:
        items, parts = output.items, list[Part]()
        at = next((at for at, item in enumerate(items) if item.call == call.index), None)
        if at is None:
            items, parts = _ended(items, texts_only=True)
            at, id = len(items), self._item_id("function_call", len(items))
            name = call.name or ""
            item = Item("function_call", id, None, call.index, call_id(self.sid, call), name)
            items, parts = (*items, item), parts + item.beginning(at)
        return _grown(output, items, at, call.arguments or "", parts)

    def _end(self, output: Output, final: FinalEvent) -> tuple[Output, list[Part]]:
        whole = _status(final) == "completed"
        items, parts = _ended(output.items, "completed" if whole else "incomplete")
        output = Output(items, final)
        response = self.response(output)
        # A cancelled response has no event of its own.
        kind = "incomplete" if response["status"] == "cancelled" else response["status"]
        told = parts if of_final(final) is None else []
        return output, [*told, {"type": f"response.{kind}", "response": response}]

    def response(self, output: Output) -> dict[str, Any]:
        """Return the response object as it stands with this output."""
        echo: dict[str, Any] = orjson.loads(self.echo)
        status = _status(output.final)
        head = {
            "id": PREFIX + self.sid,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "background": False,
            "error": _error(output.final) if status == "failed" else None,
            "incomplete_details": None,
        }
        if status == "incomplete" and output.final is not None:
            head["incomplete_details"] = {"reason": _CUT[finish_of(output.final)]}
        items = [item.as_dict() for item in output.items]
        return head | _DEFAULTS | echo | {"output": items, "usage": _usage(output.final)}

    def _item_id(self, kind: str, at: int) -> str:
        return f"{_PREFIXES[kind]}_{self.sid}_{at}"


def _frame(number: int, part: bytes, id: bytes | None) -> bytes:
    """Frame a part as a named event; its number is its place in the stream."""
    name = part[9 : part.index(b'"', 9)]
    return b'event: %b\ndata: %b,"sequence_number":%d}\n\n' % (name, part[:-1], number)


def _encoded(parts: Iterable[Part]) -> list[bytes]:
    return [orjson.dumps(part) for part in parts]


def _grown(
    output: Output, items: tuple[Item, ...], at: int, piece: str, parts: list[Part]
) -> tuple[Output, list[Part]]:
    if piece:
        parts = [*parts, items[at].delta(at, piece)]
        items = (*items[:at], items[at].grown(piece), *items[at + 1 :])
    return output._replace(items=items), parts


def _ended(
    items: tuple[Item, ...], status: str = "completed", texts_only: bool = False
) -> tuple[tuple[Item, ...], list[Part]]:
    """End the items that are open."""
    parts: list[Part] = []
    ended = list(items)
    for at, item in enumerate(items):
        if item.is_open and not (texts_only and item.kind == "function_call"):
            ended[at] = item._replace(status=status)
            parts += ended[at].ending(at)
    return tuple(ended), parts


def _status(final: FinalEvent | None) -> str:
    if final is None:
        return "in_progress"
    if of_final(final) is None:
        return "incomplete" if finish_of(final) in _CUT else "completed"
    cancelled = isinstance(final, Aborted) and final.reason is not AbortReason.SHUTDOWN
    return "cancelled" if cancelled else "failed"


def _error(final: FinalEvent | None) -> dict[str, str] | None:
    failure = of_final(final) if final else None
    if failure is None:
        return None
    code = "rate_limit_exceeded" if failure.status == 429 else "server_error"
    return {"code": code, "message": failure.message}


def _usage(final: FinalEvent | None) -> dict[str, Any] | None:
    """Return the upstream's usage under the names that a response has for it."""
    usage = final.usage if isinstance(final, Done) else None
    if not usage:
        return None
    asked, told = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    thought = _count(usage.get("completion_tokens_details"), "reasoning_tokens")
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": told,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": _count(usage, "total_tokens") or asked + told,
    }


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0
