"""Which sessions there are, for all nodes: `tw:live` by the end of the lease, `tw:recent` by start.

An index, never the truth: what it names is looked up, and what it lost a renewal puts back. Beside it
the nodes' shared secret, `tw:secret`, and since when Redis has not lost all, `tw:since`.
"""

import secrets
from collections.abc import Iterable

from server.session import answers
from server.session.jobs import Carrier, Note, checked

LIVE, RECENT, SECRET, SINCE = "tw:live", "tw:recent", "tw:secret", "tw:since"
SECRET_TTL = 30 * 24 * 3600
TTL = 7 * 24 * 3600


def started(sid: str, created_ms: int) -> Note:
    """Return what lists a new session."""
    return Note(RECENT, ("ZADD", RECENT, created_ms, sid), ("EXPIRE", RECENT, TTL))


def live(sid: str, until_ms: int) -> Note:
    """Return what lists a session as live until its lease ends."""
    return Note(LIVE, ("ZADD", LIVE, until_ms, sid), ("EXPIRE", LIVE, TTL))


def ended(sid: str) -> Note:
    """Return what takes a session off the list of live ones."""
    return Note(LIVE, ("ZREM", LIVE, sid))


class Directory:
    """Looks sessions up; raises `StoreUnavailable` when Redis fails."""

    def __init__(self, redis: Carrier) -> None:
        self._redis = redis

    def down_for(self, key: str | None) -> float:
        """Return the seconds since the server of a key (or any) was last reached; it is often asked."""
        return self._redis.down_for(key)

    async def now_ms(self) -> int:
        """Return the clock of the Redis that holds the list of live sessions."""
        return answers.parse_time(checked(await self._redis.call(LIVE, ("TIME",)))[0])

    async def recent(self, offset: int, count: int) -> list[str]:
        """Return session ids, newest first."""
        command = ("ZREVRANGE", RECENT, offset, offset + count - 1)
        return [sid.decode() for sid in checked(await self._redis.call(RECENT, command))[0]]

    async def known(self, sid: str) -> bool:
        """Say whether there has been such a session of late."""
        return checked(await self._redis.call(RECENT, ("ZSCORE", RECENT, sid)))[0] is not None

    async def lapsed(self, now_ms: int, far_ms: int, count: int) -> list[str]:
        """Return sessions whose lease seems to have lapsed, or to last for longer than any does."""
        spans = ((0, now_ms), (now_ms + far_ms, "+inf"))
        commands = [("ZRANGEBYSCORE", LIVE, *span, "LIMIT", 0, count) for span in spans]
        lapsed, far = checked(await self._redis.call(LIVE, *commands))
        return [sid.decode() for sid in (*lapsed, *far)]

    async def forget(self, sids: Iterable[str], started_before: int) -> None:
        """Take sessions off the list of live ones, and old ones off the list of recent ones."""
        checked(await self._redis.call(LIVE, ("ZREM", LIVE, *sids)))
        checked(await self._redis.call(RECENT, ("ZREMRANGEBYSCORE", RECENT, 0, started_before)))

    async def secret(self) -> bytes:
        """Return the secret that all nodes share, making it if there is none."""
        mint = ("SET", SECRET, secrets.token_bytes(32), "NX", "EX", SECRET_TTL)
        return bytes(checked(await self._redis.call(SECRET, mint, ("GET", SECRET)))[1])

    async def keep(self, secret: bytes) -> None:
        """Put the secret back if Redis lost it, before a new node mints another; let it not expire."""
        lost = ("SET", SECRET, secret, "NX", "EX", SECRET_TTL)
        checked(await self._redis.call(SECRET, lost, ("EXPIRE", SECRET, SECRET_TTL)))
        await self.age()

    async def age(self) -> float:
        """Return for how many seconds Redis has not lost all, as far as is known."""
        touch = ("EXPIRE", SINCE, SECRET_TTL)
        time, since, _ = checked(await self._redis.call(SINCE, ("TIME",), ("GET", SINCE), touch))
        now_ms = answers.parse_time(time)
        if since is not None:
            return (now_ms - int(since)) / 1000
        checked(await self._redis.call(SINCE, ("SET", SINCE, now_ms, "NX", "EX", SECRET_TTL)))
        return 0.0
