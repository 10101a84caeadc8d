"""Redis, the one store: what changes a session, each a script, and what is read of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from server.events import Cursor
from server.session import answers, directory, ledger, rows
from server.session.answers import Controlled, Flag, Read, Renewal, Turn
from server.session.codec import Codec
from server.session.commands import PAGE, SPEC, control_channel, keys_of, parse_read, read_commands
from server.session.jobs import Carrier, Note
from server.session.link import Command
from server.session.log import Entry, Log
from server.session.scripts import PATIENCE, Runner, Script
from server.session.state import Gate, Spec

START = Cursor(0, 0)
REWRITING = 8
"""Logs that a node writes anew at a time, lest its renewals wait behind hundreds of them."""

FAR = 5
"""Leases for which a session that is lost for good is remembered, and that none has left (`stale`)."""


def stale(left: float, lease: float) -> bool:
    """Say whether a lease is over, or has more left than it had: then Redis' clock has gone back."""
    return not 0 < left <= FAR * lease


@dataclass(frozen=True, slots=True)
class Identity:
    """Who holds a session, and what a restore must write beside the log."""

    sid: str
    owner: str
    spec: Spec
    digest: str


class Store:
    """The store's operations; raises `StoreUnavailable` when Redis fails.

    Every operation is safe to repeat, so a lost reply is asked for again for `PATIENCE` seconds.
    Times in seconds, except where Redis' own clock is meant (milliseconds). Whoever restores holds one
    place of `rewriting`.
    """

    def __init__(self, redis: Carrier, scripts: dict[str, Script], codec: Codec) -> None:
        self.codec = codec
        self.runner = Runner(redis, scripts)
        self.rewriting = asyncio.Semaphore(REWRITING)
        self._redis = redis

    async def create(self, who: Identity, lease: float) -> tuple[Flag, int]:
        """Start a session; return OK and its epoch, or EXISTS, CONFLICT or GONE."""
        arguments = (who.owner, _ms(lease), _ms(who.spec.ttl), self._spec(who), who.digest)
        started = directory.started(who.sid, who.spec.created)
        live = directory.live(who.sid, who.spec.created + _ms(lease))
        flag, *rest = await self._script("create", who.sid, arguments, beside=(started, live))
        return Flag(flag.decode()), int(rest[0]) if rest else 0

    async def claim(
        self, sid: str, owner: str, final: bytes, tombstone: float, spec: Spec | None = None
    ) -> Flag:
        """End a session whose lease has lapsed with `final`: OK, HELD, CLOSED or GONE.

        A lease with more than `tombstone` seconds left is cut to that: Redis' clock has gone back.
        """
        arguments = (owner, final, _ms(tombstone))
        flag, *_ = await self._script("claim", sid, arguments, ring=True)
        if flag == b"OK" and spec is not None:
            for note in ledger.ended(sid, spec):
                self._redis.submit(note)
        return Flag(flag.decode())

    async def inherit(
        self, who: Identity, lease: float, behind: Cursor | None, heirs: int
    ) -> tuple[Flag, int]:
        """Take over a session whose lease has lapsed: OK and the epoch, HELD, CLOSED, SPENT or GONE.

        To go on `behind` an entry it must be the last, else MOVED; None begins the log anew.
        """
        arguments = (who.owner, _ms(lease), _ms(who.spec.ttl), str(behind or ""), heirs, _ms(FAR * lease))
        flag, *rest = await self._script("inherit", who.sid, arguments, ring=True)
        return Flag(flag.decode()), int(rest[0]) if flag == b"OK" else 0

    def extend_command(self, who: Identity, log: Log, entry: Entry) -> Command:
        """Return an heir's append, behind the very log that it knows."""
        known = (who.owner, str(log.top), len(log.entries), f"{entry.epoch}-{entry.last}")
        script, fields = self.runner.scripts["extend"], self.codec.fields(who.sid, entry)
        return ("EVAL", script.source, 2, *keys_of(who.sid)[:2], *known, *fields)

    async def renew(
        self, who: Identity, lease: float, now_ms: int, report: bytes = b"", size: int = 0
    ) -> Renewal:
        """Renew (or, with no lease, release) what `who` owns; with a `report` it runs no more.

        Released without one, it is listed as lapsed: whoever sweeps next may go on with it.
        """
        sid, spec, until = who.sid, who.spec, now_ms + _ms(lease)
        arguments = (who.owner, _ms(lease), _ms(spec.ttl), report)
        index = directory.live(sid, until) if lease or not report else directory.ended(sid)
        runs = until if lease and not report else 0
        counts = ledger.renewed(sid, spec, runs, size, over=bool(report))
        name = spec.conversation and rows.scoped(spec.principal, spec.conversation)
        row = rows.kept(name, sid, spec.created)
        reply = await self._script("renew", sid, arguments, beside=(index, *counts, *row), patience=0)
        return answers.parse_renewal(reply)

    def _spec(self, who: Identity) -> bytes:
        return self.codec.seal(who.sid, SPEC, msgspec.json.encode(who.spec))

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
        rows: list[Any] = []
        for entry in entries:
            fields = (str(entry.id), *self.codec.fields(who.sid, entry))
            rows += (len(fields), *fields)
        return (await self._restored(who, entries[-1].id, lease, turn, until_ms, rows))[0]

    async def regain(
        self, who: Identity, top: Cursor, lease: float, turn: Turn, until_ms: int
    ) -> tuple[Flag, int]:
        """Write a lost hash anew, and with it the lease, before the log; return Redis' clock, too."""
        return await self._restored(who, top, lease, turn, until_ms, ())

    async def _restored(
        self, who: Identity, top: Cursor, lease: float, turn: Turn, until_ms: int, rows: Sequence[Any]
    ) -> tuple[Flag, int]:
        arguments = (
            who.owner, top.epoch, _ms(lease), _ms(who.spec.ttl), self._spec(who),
            who.digest, *_turned(turn), str(top), until_ms, *rows,
        )  # fmt: skip
        # Whoever restores looks again where things stand before another try.
        flag, *rest = await self._script("restore", who.sid, arguments, ring=bool(rows), patience=0)
        return Flag(flag.decode()), int(rest[0]) if flag == b"OK" else 0

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
            page = parse_read(sid, await self.runner.ask(sid, *read_commands(sid, top)), self.codec)
            entries += page.entries[1 if entries else 0 :]
            if len(page.entries) < PAGE:
                return Read(page.meta, tuple(entries))
            top = entries[-1].id

    async def peek(self, sid: str) -> Read:
        """Read the hash and the last entry."""
        meta, log, _ = keys_of(sid)
        hash, tip = ("HMGET", meta, *answers.META_FIELDS), ("XREVRANGE", log, "+", "-", "COUNT", 1)
        time, fields, last = await self.runner.ask(sid, ("TIME",), hash, tip)
        return parse_read(sid, (time, last, fields), self.codec)

    async def viewers(self, sid: str) -> int:
        """Count the viewers of all nodes."""
        time, lines = await self.runner.ask(sid, ("TIME",), ("HVALS", keys_of(sid)[2]))
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
        after = (("PUBLISH", control_channel(sid), b""),) if ring else ()
        keys = keys_of(sid)
        return await self.runner.script(
            name, keys, arguments, after=after, beside=beside, patience=patience
        )


def _turned(turn: Turn) -> tuple[Any, ...]:
    shut = turn.shut
    return (turn.number, shut.seq, _ms(shut.left)) if shut else (turn.number, "", 0)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
