"""Conversations in Redis: `tw:{c:<digest>}` is the row of one, its latest sessions by start.

A key of its own slot, since a conversation's sessions have one each. A row is an index: what it lost
the renewals of its sessions put back.
"""

from hashlib import sha256
from typing import NamedTuple

from server.session.answers import Flag
from server.session.directory import TTL
from server.session.jobs import Note
from server.session.scripts import Runner

KEPT = 16
NOBODY, WHOEVER = "", "*"


class Taken(NamedTuple):
    """The newest place of a conversation: `flag` OK with the `start` (ms) of who took it, or HELD.

    `other` is who held it before, or holds it, since `age` seconds; empty if nobody did.
    """

    flag: Flag
    start: int
    other: str
    age: float


def row_key(name: str) -> str:
    """Return the key of a conversation; its name may be any text."""
    return f"tw:{{c:{sha256(name.encode()).hexdigest()}}}"


def scoped(principal: str | None, name: str) -> str:
    """Return a conversation's name for Redis: what two principals name alike are two conversations."""
    return name if principal is None else f"{sha256(principal.encode()).hexdigest()}\0{name}"


def kept(name: str | None, sid: str, start: int) -> tuple[Note, ...]:
    """Return what puts a session back into its conversation, if that lost it."""
    if name is None:
        return ()
    key = row_key(name)
    return (Note(key, ("ZADD", key, "NX", start, sid), ("EXPIRE", key, TTL)),)


class Rows:
    """The rows' operations; they raise `StoreUnavailable` when Redis fails."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def take(self, name: str, sid: str, seen: str) -> Taken:
        """Make a session the newest, if the newest is who was `seen`."""
        arguments = (sid, seen, TTL * 1000, KEPT)
        flag, start, other, age = await self._runner.script("take", (row_key(name),), arguments)
        return Taken(Flag(flag.decode()), int(start), other.decode(), int(age) / 1000)

    def back_for(self, name: str) -> float:
        """Return the seconds since the Redis of the row came back; for ever if it has not been away."""
        return self._runner.back_for(row_key(name))

    async def leave(self, name: str, sid: str) -> None:
        """Give the place back to who held it before."""
        await self._runner.ask(row_key(name), ("ZREM", row_key(name), sid))

    async def newest(self, name: str) -> str | None:
        """Return the newest session; whoever asks keeps the row."""
        key = row_key(name)
        sids, _ = await self._runner.ask(key, ("ZREVRANGE", key, 0, 0), ("EXPIRE", key, TTL))
        return sids[0].decode() if sids else None
