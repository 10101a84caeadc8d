"""What is counted across nodes: by principal, and which tickets are in use.

`tw:{who:<digest>}:r` and `:p` are a principal's running and paused sessions by when that ends,
`:b:<hour>` the bytes of those that started in an hour and their sum, `:q:<minute>` a minute's requests;
`tw:{t:<ticket>}` is there while somebody follows with that ticket, or did until a moment ago. A lost
Redis forgets the counts; renewals put back what runs.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from server.errors import COME_BACK, RateLimited, StoreUnavailable
from server.session.jobs import Carrier, Note, checked
from server.session.link import Command
from server.session.memory import Memory
from server.session.state import Spec

MINUTE, HOUR, DAY = 60, 3600, 86400
_TALLY = (files("server.session") / "lua" / "tally.lua").read_bytes()


@dataclass(frozen=True, slots=True)
class Allowed:
    """How much one principal may have at a time, on all nodes together; viewers: one session, here."""

    running: int
    paused: int
    stored: int
    viewers: int


def _tag(principal: str) -> str:
    # A name may be any text, also one that would choose its own slot.
    return f"who:{sha256(principal.encode()).hexdigest()[:32]}"


def _bytes_key(tag: str, at: float) -> str:
    return f"tw:{{{tag}}}:b:{int(at // HOUR)}"


def renewed(sid: str, spec: Spec, until_ms: int, size: int, *, over: bool) -> tuple[Note, ...]:
    """Return what says that a session runs until then (0: not here), and how many bytes it has come to.

    One that is `over` holds nothing back any more, paused or not.
    """
    if spec.principal is None:
        return ()
    tag = _tag(spec.principal)
    running, sizes = f"tw:{{{tag}}}:r", _bytes_key(tag, spec.created / 1000)
    note = Note(
        tag,
        ("ZADD", running, until_ms, sid) if until_ms else ("ZREM", running, sid),
        *((("ZREM", f"tw:{{{tag}}}:p", sid),) if over else ()),
        ("EXPIRE", running, DAY),
        ("EVAL", _TALLY, 1, sizes, sid, size),
        ("EXPIRE", sizes, 2 * HOUR),
    )
    return (note,)


def ended(sid: str, spec: Spec) -> tuple[Note, ...]:
    """Return what says that a session without a producer holds nothing back any more, paused or not."""
    if spec.principal is None:
        return ()
    tag = _tag(spec.principal)
    return (Note(tag, *(("ZREM", f"tw:{{{tag}}}:{kind}", sid) for kind in "rp")),)


class Ledger:
    """Counts; raises `RateLimited` for what is too much. While Redis is away nobody is counted."""

    def __init__(self, redis: Carrier, allowed: Allowed) -> None:
        self.allowed = allowed
        self.memory = Memory(redis)
        self._redis = redis

    async def start(self, principal: str, sid: str, seconds: float) -> None:
        """Count a session that is about to run; if it comes to nothing, it is forgotten in `seconds`."""
        now, tag = time.time(), _tag(principal)
        sums = [("HGET", _bytes_key(tag, at), "") for at in (now, now - HOUR)]
        with suppress(StoreUnavailable):
            count, *stored = await self._add(tag, "r", sid, seconds, *sums)
            if sum(int(size or 0) for size in stored) >= self.allowed.stored:
                left = HOUR - now % HOUR
                await self._refuse(tag, "r", sid, f"{self.allowed.stored} bytes in two hours", left)
            if count > self.allowed.running:
                await self._refuse(tag, "r", sid, f"{self.allowed.running} running sessions", COME_BACK)

    async def pause(self, principal: str, sid: str, seconds: float) -> None:
        """Count a session that is about to be paused."""
        tag = _tag(principal)
        with suppress(StoreUnavailable):
            (count,) = await self._add(tag, "p", sid, seconds)
            if count > self.allowed.paused:
                await self._refuse(tag, "p", sid, f"{self.allowed.paused} paused sessions", COME_BACK)

    async def resumed(self, principal: str, sid: str) -> None:
        """Count a session no more that was paused."""
        tag = _tag(principal)
        with suppress(StoreUnavailable):
            await self._redis.call(tag, ("ZREM", f"tw:{{{tag}}}:p", sid))

    async def _add(self, tag: str, kind: str, sid: str, seconds: float, *more: Command) -> Sequence[Any]:
        """Add first and count then, so that of two at once neither is overlooked."""
        key, now_ms = f"tw:{{{tag}}}:{kind}", int(time.time() * 1000)
        commands = (
            ("ZREMRANGEBYSCORE", key, 0, now_ms),
            ("ZADD", key, now_ms + int(seconds * 1000), sid),
            ("EXPIRE", key, max(DAY, int(seconds) + 1)),
            ("ZCARD", key),
        )
        return checked(await self._redis.call(tag, *commands, *more))[3:]

    async def _refuse(self, tag: str, kind: str, sid: str, what: str, retry_after: float) -> None:
        checked(await self._redis.call(tag, ("ZREM", f"tw:{{{tag}}}:{kind}", sid)))
        raise RateLimited(f"You may have {what} at most.", retry_after=retry_after)

    async def request(self, principal: str, most: int) -> None:
        """Count a request of this minute."""
        now, tag = time.time(), _tag(principal)
        key = f"tw:{{{tag}}}:q:{int(now // MINUTE)}"
        with suppress(StoreUnavailable):
            count, _ = checked(await self._redis.call(tag, ("INCR", key), ("EXPIRE", key, 2 * MINUTE)))
            if count > most:
                left = MINUTE - now % MINUTE
                raise RateLimited(f"You may send {most} requests a minute.", retry_after=left)

    async def in_use(self, ticket: str) -> bool:
        """Say whether somebody follows with a ticket, or did until a moment ago."""
        return bool(checked(await self._redis.call(f"t:{ticket}", ("EXISTS", f"tw:{{t:{ticket}}}")))[0])

    def use(self, ticket: str, seconds: float) -> None:
        """Say that somebody follows with a ticket, and may come back within `seconds`."""
        key = f"tw:{{t:{ticket}}}"
        self._redis.submit(Note(f"t:{ticket}", ("SET", key, b"", "EX", int(seconds))))
