"""What inspectors read: a log of seconds that forgets, and of all nodes only how they stand now (pure).

An event is a second. Its `n` is how many it stands for: those that are forgotten, or that its reader
has missed, so that a reader's count has no hole. How nodes and sessions stand only the newest tells.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from server.events import Cursor
from server.session.figures import Second, together
from server.session.roll import Answer, called

KEPT = 300
"""Seconds."""
SILENT, GONE = 3.0, 10.0
"""Seconds after which a node that says nothing is shown as silent, then no more."""


class Heard(NamedTuple):
    """A node's last answer, and when it came, by a clock of ours in seconds."""

    answer: Answer
    at: float


class Feed:
    """The seconds since `epoch` (Unix ms); the first of them is `head - kept + 1`."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.head = 0
        self._seconds: deque[bytes] = deque(maxlen=KEPT)
        self._state = b""

    def holds(self, cursor: Cursor) -> bool:
        """Say whether a cursor is of this feed."""
        return cursor.epoch == self.epoch and cursor.seq <= self.head

    def add(self, at_ms: int, figures: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Add a second, which ended at `at_ms` (Unix), and how everything stands now."""
        self._seconds.append(_inner({"at": at_ms, **figures}))
        self._state = _inner(state)
        self.head += 1

    def since(self, seq: int) -> Iterator[tuple[int, bytes]]:
        """Yield the number and the JSON of each second behind `seq`."""
        first = self.head - len(self._seconds) + 1
        for number in range(max(seq + 1, first), self.head + 1):
            n = number - seq
            seq = number
            count = b'"n":%d,' % n if n > 1 else b""
            state = b"," + self._state if number == self.head else b""
            yield number, b'{"type":"second",%b%b%b}' % (count, self._seconds[number - first], state)


def _inner(facts: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(facts)[1:-1]


class Crowd:
    """The nodes that answer, each with its last seconds by their number."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self._seconds: dict[str, deque[Second]] = {}

    def take(self, answer: Answer, at: float) -> None:
        """Take an answer that was given at `at`; one that is older than the last says nothing."""
        last = self._heard.get(answer.node)
        if last is not None and at < last.at:
            return
        fresh = answer.count - (last.answer.count if last else 0)
        self._heard[answer.node] = Heard(answer, at)
        if fresh > 0:
            seconds = self._seconds.setdefault(answer.node, deque(maxlen=KEPT))
            if fresh > len(answer.seconds) and len(seconds):
                seconds.clear()  # there is a hole: what was before it would be of another time
            seconds.extend(answer.seconds[-fresh:])

    def forget(self, now: float) -> None:
        """Forget the nodes that say nothing any more."""
        for node in [name for name, heard in self._heard.items() if now - heard.at > GONE]:
            del self._heard[node]
            self._seconds.pop(node, None)

    def past(self) -> list[dict[str, Any]]:
        """Return the seconds before the newest, the oldest first, of all nodes together."""
        longest = max(map(len, self._seconds.values()), default=0)
        return [together(self._at(age)) for age in range(longest - 1, 0, -1)]

    def now(self) -> dict[str, Any]:
        """Return the newest second."""
        return together(self._at(0))

    def _at(self, age: int) -> list[Second]:
        return [seconds[-1 - age] for seconds in self._seconds.values() if len(seconds) > age]

    def state(self, now: float) -> dict[str, Any]:
        """Return how nodes and sessions stand."""
        heard = sorted(self._heard.values(), key=lambda one: one.answer.node)
        return {"nodes": [_node(*one, now) for one in heard], **called(one.answer for one in heard)}


def _node(answer: Answer, at: float, now: float) -> dict[str, Any]:
    state = "draining" if answer.draining else "serving"
    return {
        "node": answer.node,
        "state": "silent" if now - at > SILENT else state,
        "sessions": answer.sessions,
        "viewers": answer.viewers,
        "behind": answer.behind,
        "queue_bytes": answer.queue_bytes,
        "redis_down": answer.down,
        "heard": round(max(0.0, now - at), 1),
    }
