"""The output items of a response: what each is, and the events that begin, grow and end it (pure)."""

from typing import Any, NamedTuple

Rope = tuple["Rope", str] | None
"""A text in pieces, the last one first: a piece more costs nothing, and what was there stays as it is."""

Part = dict[str, Any]


def text_of(rope: Rope) -> str:
    """Return the whole text."""
    pieces = []
    while rope is not None:
        rope, piece = rope
        pieces.append(piece)
    return "".join(reversed(pieces))


class Item(NamedTuple):
    """One item: `kind` is reasoning, message or function_call; `call` is the call's place upstream."""

    kind: str
    id: str
    rope: Rope = None
    call: int | None = None
    call_id: str = ""
    name: str = ""
    status: str = "in_progress"

    @property
    def is_open(self) -> bool:
        """Whether it may still grow."""
        return self.status == "in_progress"

    def grown(self, piece: str) -> "Item":
        """Return the item with a piece more of text or arguments."""
        return self._replace(rope=(self.rope, piece))

    def as_dict(self) -> dict[str, Any]:
        """Return the item as far as it has come."""
        text = text_of(self.rope)
        head = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind == "function_call":
            return head | {"call_id": self.call_id, "name": self.name, "arguments": text}
        content = [_content(self.kind, text)] if text else []
        if self.kind == "reasoning":
            return head | {"summary": [], "content": content}
        return head | {"role": "assistant", "content": content}

    def beginning(self, at: int) -> list[Part]:
        """Return the events that begin it as item `at` of the output."""
        added = {"type": "response.output_item.added", "output_index": at, "item": self.as_dict()}
        if self.kind == "function_call":
            return [added]
        part = _content(self.kind, "")
        return [added, {"type": "response.content_part.added", **self._at(at), "part": part}]

    def delta(self, at: int, piece: str) -> Part:
        """Return the event of a piece more."""
        if self.kind == "function_call":
            kind = "response.function_call_arguments.delta"
            return {"type": kind, "item_id": self.id, "output_index": at, "delta": piece}
        if self.kind == "reasoning":
            return {"type": "response.reasoning_text.delta", **self._at(at), "delta": piece}
        kind = "response.output_text.delta"
        return {"type": kind, **self._at(at), "delta": piece, "logprobs": []}

    def ending(self, at: int) -> list[Part]:
        """Return the events that say that it has ended."""
        text = text_of(self.rope)
        done = {"type": "response.output_item.done", "output_index": at, "item": self.as_dict()}
        if self.kind == "function_call":
            kind = "response.function_call_arguments.done"
            whole = {"item_id": self.id, "output_index": at, "name": self.name, "arguments": text}
            return [{"type": kind, **whole}, done]
        part = _content(self.kind, text)
        parts_done = {"type": "response.content_part.done", **self._at(at), "part": part}
        if self.kind == "reasoning":
            whole = {"type": "response.reasoning_text.done", **self._at(at), "text": text}
        else:
            kind = "response.output_text.done"
            whole = {"type": kind, **self._at(at), "text": text, "logprobs": []}
        return [whole, parts_done, done]

    def _at(self, at: int) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": at, "content_index": 0}


def _content(kind: str, text: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
