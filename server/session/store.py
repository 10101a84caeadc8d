"""Redis, the one store: the only place that knows a key's name.

All keys of a session share one slot: `tw:{sid}:m` its hash, `tw:{sid}:l` its log, `tw:{sid}:v` its
viewers by node; `tw:{sid}:n` rings when the log grew, `tw:{sid}:c` when anything else changed. Beside
them is the directory of all sessions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from server.errors import StoreUnavailable
from server.events import Cursor
from server.session import answers, directory, ledger
from server.session.answers import Controlled, Flag, Read, Renewal, Turn
from server.session.codec import PLAIN, Codec
from server.session.jobs import Carrier, Note, checked
from server.session.link import Command, Reply
from server.session.log import Entry
from server.session.scripts import Script
from server.session.state import Gate, Spec

PATIENCE = 2.0
PAGE = 2000
START = Cursor(0, 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a session, and what a restore must write beside the log."""

    sid: str
    owner: str
    spec: Spec
    digest: str


def log_channel(sid: str) -> str:
    """Return the channel that rings when the log grew."""
    return f"tw:{{{sid}}}:n"


def control_channel(sid: str) -> str:
    """Return the channel that rings when anything but the log changed."""
    return f"tw:{{{sid}}}:c"


def _keys(sid: str) -> tuple[str, str, str]:
    return f"tw:{{{sid}}}:m", f"tw:{{{sid}}}:l", f"tw:{{{sid}}}:v"


def append_command(sid: str, entry: Entry, codec: Codec = PLAIN) -> Command:
    """Return the hot path: append, under the id that is the fence."""
    id, fields = f"{entry.epoch}-{entry.last}", codec.fields(sid, entry)
    return ("XADD", f"tw:{{{sid}}}:l", "NOMKSTREAM", id, *fields)


def ring_command(sid: str) -> Command:
    """Return the bell that says that the log grew; answered with how many heard it."""
    return ("PUBLISH", log_channel(sid), b"")


def gate_command(sid: str) -> Command:
    """Return the look whether the gate is shut."""
    return ("HGET", f"tw:{{{sid}}}:m", "gate")


def read_commands(sid: str, top: Cursor, count: int = PAGE) -> Sequence[Command]:
    """Return a read from entry `top` (inclusive, so that a rolled-back log shows) on."""
    meta, log, _ = _keys(sid)
    start = str(top) if top.epoch else "-"
    return (
        ("TIME",),
        ("XRANGE", log, start, "+", "COUNT", count),
        # After the log: an event appended behind a pause must not be read without its gate.
        ("HMGET", meta, *answers.META_FIELDS),
    )


def parse_read(sid: str, replies: Sequence[Reply], codec: Codec) -> Read:
    """Read what `read_commands` got; raise `StoreUnavailable` if Redis refused."""
    time, rows, meta = checked(replies)
    return Read(answers.parse_meta(meta, answers.parse_time(time)), codec.entries(sid, rows))


class Store:
    """The store's operations; raises `StoreUnavailable` when Redis fails.

    Every operation is safe to repeat, so a lost reply is asked for again for `PATIENCE` seconds.
    Times in seconds, except where Redis' own clock is meant (milliseconds).
    """

    def __init__(self, redis: Carrier, scripts: dict[str, Script], codec: Codec = PLAIN) -> None:
        self.codec = codec
        self._redis = redis
        self._scripts = scripts

    async def create(self, who: Identity, lease: float) -> tuple[Flag, int]:
        """Start a session; return OK and its epoch, or EXISTS, CONFLICT or GONE."""
        spec = msgspec.json.encode(who.spec)
        arguments = (who.owner, _ms(lease), _ms(who.spec.ttl), spec, who.digest)
        started = directory.started(who.sid, who.spec.created)
        live = directory.live(who.sid, who.spec.created + _ms(lease))
        flag, *rest = await self._script("create", who.sid, arguments, beside=(started, live))
        return Flag(flag.decode()), int(rest[0]) if rest else 0

    async def claim(self, sid: str, owner: str, final: bytes, tombstone: float) -> Flag:
        """End a session whose lease has lapsed with `final`: OK, HELD, CLOSED or GONE."""
        arguments = (owner, final, _ms(tombstone))
        flag, *_ = await self._script("claim", sid, arguments, ring=True)
        return Flag(flag.decode())

    async def renew(
        self, who: Identity, lease: float, now_ms: int, report: bytes = b"", size: int = 0
    ) -> Renewal:
        """Renew (or, with no lease, release) what `who` owns; with a `report` it runs no more."""
        sid, until = who.sid, now_ms + _ms(lease)
        arguments = (who.owner, _ms(lease), _ms(who.spec.ttl), report)
        index = directory.live(sid, until) if lease else directory.ended(sid)
        counts = ledger.renewed(sid, who.spec, until if lease and not report else 0, size)
        reply = await self._script("renew", sid, arguments, beside=(index, *counts), patience=0)
        return answers.parse_renewal(reply)

    async def control(
        self, sid: str, gate: Gate | None, pause_ttl: float = 0, final: bytes = b""
    ) -> Controlled:
        """Shut or lift the gate, or close the log with `final`; rings."""
        reply = await self._script("control", sid, (gate or "", _ms(pause_ttl), final), ring=True)
        return answers.parse_controlled(reply)

    async def regate(self, sid: str, turn: Turn) -> None:
        """Put back a turn of the gate that Redis has lost; rings."""
        await self._script("regate", sid, _turned(turn), ring=True)

    async def restore(
        self, who: Identity, entries: Sequence[Entry], lease: float, turn: Turn, until_ms: int
    ) -> Flag:
        """Write the whole log anew from its producer's memory, until `until_ms` of Redis' clock."""
        top = entries[-1]
        arguments: list[Any] = [
            who.owner, top.epoch, _ms(lease), _ms(who.spec.ttl), msgspec.json.encode(who.spec),
            who.digest, *_turned(turn), str(top.id), until_ms,
        ]  # fmt: skip
        for entry in entries:
            fields = (str(entry.id), *self.codec.fields(who.sid, entry))
            arguments += (len(fields), *fields)
        reply = await self._script("restore", who.sid, arguments, ring=True)
        return Flag(reply[0].decode())

    async def attend(self, sid: str, node: str, viewers: int, lease: float, ttl: float) -> None:
        """Say how many viewers this node has; rings."""
        arguments = (node, viewers, _ms(lease), _ms(ttl))
        await self._script("attend", sid, arguments, ring=True)

    async def wipe(self, sid: str, tombstone: float) -> Flag:
        """Delete a session for good; rings."""
        reply = await self._script(
            "wipe", sid, (_ms(tombstone),), ring=True, beside=(directory.ended(sid),)
        )
        return Flag(reply[0].decode())

    async def ring(self, sid: str) -> None:
        """Ring the control channel."""
        await self._redis.call(sid, ("PUBLISH", control_channel(sid), b""))

    async def read(self, sid: str, top: Cursor = START) -> Read:
        """Read the hash and every entry from `top` on (inclusive)."""
        entries: list[Entry] = []
        while True:
            page = parse_read(sid, await self._ask(sid, *read_commands(sid, top)), self.codec)
            entries += page.entries[1 if entries else 0 :]
            if len(page.entries) < PAGE:
                return Read(page.meta, tuple(entries))
            top = entries[-1].id

    async def peek(self, sid: str) -> Read:
        """Read the hash and the last entry."""
        meta, log, _ = _keys(sid)
        last = ("XREVRANGE", log, "+", "-", "COUNT", 1)
        hash = ("HMGET", meta, *answers.META_FIELDS)
        time, fields, rows = await self._ask(sid, ("TIME",), hash, last)
        return parse_read(sid, (time, rows, fields), self.codec)

    async def viewers(self, sid: str) -> int:
        """Count the viewers of all nodes."""
        time, lines = await self._ask(sid, ("TIME",), ("HVALS", _keys(sid)[2]))
        now_ms = answers.parse_time(time)
        pairs = (line.split() for line in lines)
        return sum(int(count) for count, until in pairs if int(until) > now_ms)

    async def _script(
        self,
        name: str,
        sid: str,
        arguments: Sequence[Any],
        *,
        ring: bool = False,
        beside: tuple[Note, ...] = (),
        patience: float = PATIENCE,
    ) -> Sequence[Any]:
        """Run a script and ring, in one round trip; what goes beside it may go elsewhere, and fail."""
        script, keys = self._scripts[name], _keys(sid)
        tail = (len(keys), *keys, *arguments)
        after = (("PUBLISH", control_channel(sid), b""),) if ring else ()

        async def run() -> Sequence[Any]:
            for note in beside:
                self._redis.submit(note)
            replies = await self._redis.call(sid, ("EVALSHA", script.sha, *tail), *after)
            if isinstance(replies[0], NoScriptError):
                replies = await self._redis.call(sid, ("EVAL", script.source, *tail), *after)
            return checked(replies[:1])

        answer: Sequence[Any] = (await _again(run, patience))[0]
        return answer

    async def _ask(self, sid: str, *commands: Command) -> Sequence[Any]:
        """Return the replies to what only reads."""

        async def run() -> Sequence[Any]:
            return checked(await self._redis.call(sid, *commands))

        return await _again(run, PATIENCE)


async def _again(run: Callable[[], Awaitable[Sequence[Any]]], patience: float) -> Sequence[Any]:
    """Repeat what got lost or was refused, for `patience` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            return await run()
        except StoreUnavailable:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(0.05)


def _turned(turn: Turn) -> tuple[Any, ...]:
    shut = turn.shut
    return (turn.number, shut.seq, _ms(shut.left)) if shut else (turn.number, "", 0)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
