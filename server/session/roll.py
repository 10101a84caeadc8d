"""The roll of sessions: what one node says of those it has, and what that makes of all nodes together.

Only figures and names: no event, no prompt.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from server.counts import Levels
from server.session import snapshot
from server.session.figures import Second
from server.session.follower import Follower
from server.session.hub import Hub
from server.session.producer import Producer
from server.session.producers import Producers
from server.session.state import Status

MOST, MOST_OF_ALL = 200, 500
"""Sessions that one node tells of, and those that are shown: the live ones first, then the newest."""


class Made(msgspec.Struct, frozen=True):
    """What a session's producer knows: seconds left of its lease; bytes that Redis has not acknowledged,
    and those that a pause holds; whether its upstream has to wait, and whether it has ended."""

    lease: float
    queue_bytes: int
    held_bytes: int
    waiting: bool
    lingering: bool


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session as one node sees it; `made` if it runs there.

    `fence` is the id below which Redis takes no entry, `rate` events a second, `behind` what the viewer
    who is furthest behind lacks.
    """

    id: str
    status: str
    epoch: int
    seq: int
    fence: str
    paused: bool = False
    gate: int | None = None
    model: str = ""
    created: int = 0
    conversation: str | None = None
    principal: str | None = None
    rate: float | None = None
    viewers: dict[str, int] = {}
    behind: int = 0
    made: Made | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a node says when the roll is called: how it stands, its sessions and how many more there are,
    and its last seconds, of which the newest is number `count`."""

    node: str
    draining: bool
    sessions: dict[str, int]
    viewers: dict[str, int]
    behind: int
    queue_bytes: int
    down: float
    seen: tuple[Seen, ...]
    more: int
    count: int
    seconds: tuple[Second, ...]


class Roll:
    """One node's sessions; it remembers where each stood, to tell how fast it is."""

    def __init__(self, hub: Hub, producers: Producers) -> None:
        self._hub = hub
        self._producers = producers
        self._stood: dict[str, tuple[int, float]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """How many sessions run here and how many viewers there are; it is often asked."""
        followers = self._hub.followers.values()
        running = sum(f.heal is not None and not f.tail.log.closed for f in followers)
        return running, sum(len(f.tail.viewers) for f in followers)

    def answer(self, node: str, levels: Levels, count: int, seconds: Sequence[Second]) -> Answer:
        """Return what to say now."""
        followers = sorted(self._hub.followers.values(), key=_rank)
        stood, self._stood = self._stood, {}
        seen = tuple(self._seen(follower, stood) for follower in followers[:MOST])
        return Answer(
            node,
            levels.draining,
            dict(levels.sessions),
            dict(levels.viewers),
            levels.behind,
            levels.queue_bytes,
            round(levels.down, 1),
            seen,
            len(followers) - len(seen),
            count,
            tuple(seconds),
        )

    def _seen(self, follower: Follower, stood: Mapping[str, tuple[int, float]]) -> Seen:
        tail, spec, now = follower.tail, follower.spec, asyncio.get_running_loop().time()
        log, (seq, then) = tail.log, stood.get(tail.sid, (0, now))
        self._stood[tail.sid] = (log.head, now)
        viewers = list(tail.forms())
        lacking = [tail.limit - viewer.position for _, viewer in viewers if not viewer.still]
        return Seen(
            **snapshot.notice(tail, spec.model if spec else ""),
            fence=str(log.top),
            created=spec.created if spec else 0,
            conversation=spec.conversation if spec else None,
            principal=spec.principal if spec else None,
            rate=round((log.head - seq) / (now - then), 1) if now > then else None,
            viewers=dict(Counter(form for form, _ in viewers)),
            behind=max(lacking, default=0),
            made=_made(self._producers.get(tail.sid)),
        )


def _rank(follower: Follower) -> tuple[bool, int]:
    return follower.tail.log.closed, -(follower.spec.created if follower.spec else 0)


def _made(producer: Producer | None) -> Made | None:
    if producer is None:
        return None
    appender = producer.appender
    held = producer.held if producer.tail.gate is not None else 0
    over = appender.over.done()
    return Made(round(appender.lease.left, 2), appender.backlog, held, producer.full and not over, over)


def called(answers: Iterable[Answer]) -> dict[str, Any]:
    """Return the sessions of all nodes, each once, and how many more there are.

    The live ones come first, then the newest. What the node says holds that knows the log's latest epoch,
    or that runs the session, or has read most of it.
    """
    rows: dict[str, list[tuple[str, Seen]]] = {}
    more = 0
    for answer in answers:
        more += answer.more
        for seen in answer.seen:
            rows.setdefault(seen.id, []).append((answer.node, seen))
    best = sorted((max(found, key=_knows) for found in rows.values()), key=_order)
    shown = [_session(*one, rows[one[1].id]) for one in best[:MOST_OF_ALL]]
    return {"sessions": shown, "more": more + len(best) - len(shown)}


def _knows(row: tuple[str, Seen]) -> tuple[int, bool, int]:
    return row[1].epoch, row[1].made is not None, row[1].seq


def _order(row: tuple[str, Seen]) -> tuple[bool, int]:
    return row[1].status != Status.RUNNING, -row[1].created


def _session(node: str, best: Seen, rows: Sequence[tuple[str, Seen]]) -> dict[str, Any]:
    facts = msgspec.structs.asdict(best)
    made: Made | None = facts.pop("made")
    facts["producer"] = {"node": node, **msgspec.structs.asdict(made)} if made else None
    facts["viewers"] = {name: seen.viewers for name, seen in rows if seen.viewers}
    facts["behind"] = max(seen.behind for _, seen in rows)
    return facts
