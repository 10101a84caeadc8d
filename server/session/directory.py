"""Which sessions there are, for all nodes: `tw:live` by the end of the lease, `tw:recent` by start.

An index, never the truth: what it names is looked up, and what it lost a renewal puts back. Beside it
the nodes' shared secret, `tw:secret`.
"""

import secrets
from collections.abc import Iterable

from server.session import answers
from server.session.link import Command
from server.session.pipeline import Pipeline, checked

LIVE, RECENT, SECRET = "tw:live", "tw:recent", "tw:secret"
SECRET_TTL = 30 * 24 * 3600
TTL = 7 * 24 * 3600


def started(sid: str, created_ms: int) -> tuple[Command, ...]:
    """Return what lists a new session."""
    return (("ZADD", RECENT, created_ms, sid), ("EXPIRE", RECENT, TTL))


def live(sid: str, until_ms: int) -> tuple[Command, ...]:
    """Return what lists a session as live until its lease ends."""
    return (("ZADD", LIVE, until_ms, sid), ("EXPIRE", LIVE, TTL))


def ended(sid: str) -> Command:
    """Return what takes a session off the list of live ones."""
    return ("ZREM", LIVE, sid)


class Directory:
    """Looks sessions up; raises `StoreUnavailable` when Redis fails."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def down_since(self) -> float | None:
        """When Redis was lost, by the loop's clock; None while it answers: it is asked all the time."""
        return self._pipeline.down_since

    async def now_ms(self) -> int:
        """Return Redis' clock."""
        return answers.parse_time(checked(await self._pipeline.call(("TIME",)))[0])

    async def recent(self, offset: int, count: int) -> list[str]:
        """Return session ids, newest first."""
        command = ("ZREVRANGE", RECENT, offset, offset + count - 1)
        return [sid.decode() for sid in checked(await self._pipeline.call(command))[0]]

    async def known(self, sid: str) -> bool:
        """Say whether there has been such a session of late."""
        return checked(await self._pipeline.call(("ZSCORE", RECENT, sid)))[0] is not None

    async def lapsed(self, now_ms: int, count: int) -> list[str]:
        """Return sessions whose lease seems to have lapsed, longest first."""
        command = ("ZRANGEBYSCORE", LIVE, 0, now_ms, "LIMIT", 0, count)
        return [sid.decode() for sid in checked(await self._pipeline.call(command))[0]]

    async def forget(self, sids: Iterable[str], started_before: int) -> None:
        """Take sessions off the list of live ones, and old ones off the list of recent ones."""
        removals = tuple(map(ended, sids))
        old = ("ZREMRANGEBYSCORE", RECENT, 0, started_before)
        checked(await self._pipeline.call(*removals, old))

    async def secret(self) -> bytes:
        """Return the secret that all nodes share, making it if there is none."""
        mint = ("SET", SECRET, secrets.token_bytes(32), "NX", "EX", SECRET_TTL)
        return bytes(checked(await self._pipeline.call(mint, ("GET", SECRET)))[1])

    async def keep(self, secret: bytes) -> None:
        """Put the secret back if Redis lost it, before a new node mints another; let it not expire."""
        lost = ("SET", SECRET, secret, "NX", "EX", SECRET_TTL)
        checked(await self._pipeline.call(lost, ("EXPIRE", SECRET, SECRET_TTL)))
