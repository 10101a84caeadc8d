"""Inputs from inputs: bytes by dice, and JSON by its structure (pure)."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

LARGEST = 8192
"""Bytes of an input at most."""

_BYTES = b"\0\t\n\r \"'%&+,-./0:;<=>?[]\\_{}\x7f\x80\xbf\xc3\xe2\xed\xef\xf0\xff"
_MARKS = (
    b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"data: ", b"[",
    b"{",
    b'{"a":', b"[DONE]", b"null", b"18446744073709551616", b"\\ud800", b"1e308",
)  # fmt: skip


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 1 << 64, 10**30, 0.5, 1e308, -1e308, "", "x", "\0",
    "\ud800", "\n\nevent: done\ndata: {}\n\n", '"}\n', "data: [DONE]", "é🙂\u2028", "x" * 3000, [], {},
    [None],
    [[]], {"": ""}, {"a": {"b": [1]}}, _deep(130), _deep(300), "0-0", "9" * 40, "push",
)  # fmt: skip


class Mutator:
    """Mutates by dice; `words` are what the target's inputs are made of."""

    def __init__(self, dice: random.Random, words: Sequence[bytes] = ()) -> None:
        self._dice = dice
        self._words = (*_MARKS, *words, *words)
        self._ways: tuple[Callable[[bytearray], None], ...] = (
            self._bit, self._byte, self._word, self._word, self._cut, self._again, self._many,
            self._cut_off,
        )  # fmt: skip

    def mutated(self, data: bytes, other: bytes = b"") -> bytes:
        """Return a mutated input; `other` is one to take a piece of."""
        dice = self._dice
        if dice.random() < 0.4 and (changed := self.json(data)) is not None:
            data = changed
            if dice.random() < 0.7:
                return data[:LARGEST]
        made = bytearray(data)
        if other and dice.random() < 0.2:
            made[self._place(made) :] = other[self._place(other) :]
        for _ in range(1 << dice.randrange(4)):
            dice.choice(self._ways)(made)
        return bytes(made[:LARGEST])

    def json(self, data: bytes) -> bytes | None:
        """Return the input with another value somewhere in one of its lines of JSON, if it has any."""
        lines = data.split(b"\n")
        places = [at for at, line in enumerate(lines) if b"{" in line]
        if not places:
            return None
        at = self._dice.choice(places)
        lead, brace, rest = lines[at].partition(b"{")
        try:
            value = json.loads(brace + rest)
        except (ValueError, RecursionError):
            return None
        nodes = list(_nodes(value))
        holder, key = self._dice.choice(nodes) if nodes else (value, "a")
        self._change(holder, key)
        lines[at] = lead + json.dumps(value).encode()
        return b"\n".join(lines)

    def _change(self, holder: Any, key: Any) -> None:
        """Put another value into one place, or a place more, or one less."""
        way = self._dice.randrange(8)
        if way == 0 and isinstance(holder, dict):
            holder.pop(key, None)
        elif way == 1 and isinstance(holder, dict):
            holder[self._dice.choice(self._words).decode(errors="replace")] = holder.get(key)
        elif way == 2 and isinstance(holder, list):
            holder += [holder[key]] * self._dice.choice((1, 2, 300))
        else:
            holder[key] = self._dice.choice(VALUES)

    def _place(self, data: bytes | bytearray) -> int:
        return self._dice.randrange(len(data) + 1)

    def _bit(self, made: bytearray) -> None:
        if made:
            made[self._place(made) - 1] ^= 1 << self._dice.randrange(8)

    def _byte(self, made: bytearray) -> None:
        at = self._place(made)
        made[at : at + self._dice.randrange(2)] = bytes([self._dice.choice(_BYTES)])

    def _word(self, made: bytearray) -> None:
        at, word = self._place(made), self._dice.choice(self._words)
        made[at : at + self._dice.choice((0, 0, len(word)))] = word

    def _cut(self, made: bytearray) -> None:
        at = self._place(made)
        del made[at : at + self._size()]

    def _again(self, made: bytearray) -> None:
        at, to = self._place(made), self._place(made)
        made[to:to] = made[at : at + self._size()]

    def _many(self, made: bytearray) -> None:
        at = self._place(made)
        made[at:at] = self._dice.choice(self._words) * self._dice.choice((2, 3, 40, 300, 2000))

    def _cut_off(self, made: bytearray) -> None:
        if self._dice.random() < 0.3:
            del made[self._place(made) :]

    def _size(self) -> int:
        return 1 << self._dice.randrange(8)


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place of a value, as what holds it and under which key."""
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, inner in items:
            yield holder, key
            if isinstance(inner, dict | list):
                waiting.append(inner)
