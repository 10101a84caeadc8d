"""Conversations: a caller's own name for a row of sessions, of which the newest answers to it.

A start takes the newest place before it asks its upstream, in one step that fails if anybody else was
faster, so of two prompts at once on two nodes one is let through. Who took the place may not be there
yet: it has `RESERVED` seconds, after which a tombstone sees to it that it never will.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.errors import Busy, Gone, NotFound
from server.session.answers import Flag, Read
from server.session.hub import Hub
from server.session.producers import Tasks
from server.session.rows import NOBODY, WHOEVER, Rows, row_key
from server.session.state import OnBusy, Options
from server.session.steering import Steering
from server.session.store import Store

RESERVED = 10.0
_LOOK = 0.02


class Conversations:
    """What a node does for conversations."""

    def __init__(self, rows: Rows, store: Store, hub: Hub, steering: Steering, tasks: Tasks) -> None:
        self._rows = rows
        self._store = store
        self._hub = hub
        self._steering = steering
        self._tasks = tasks

    async def newest(self, name: str) -> str:
        """Return the id of the newest session; raise `NotFound`."""
        sid = await self._rows.newest(name)
        if sid is None and (seconds := self._hub.recovering_for(row_key(name))):
            await asyncio.sleep(seconds)
            sid = await self._rows.newest(name)
        if sid is None:
            raise NotFound("There is no such conversation.")
        return sid

    @asynccontextmanager
    async def place(self, sid: str, options: Options, fresh: bool) -> AsyncIterator[int]:
        """Start a session inside of this: as the newest of its conversation, if it has one.

        Yields when it starts (Unix milliseconds). Raise `Busy` if another one is running and the
        options refuse that. A start that fails leaves the conversation as it was; one that is asked
        for again (not `fresh`, and there already) is none.
        """
        name = options.conversation
        if name is None or (not fresh and (await self._look(sid)).meta is not None):
            yield int(time.time() * 1000)
            return
        try:
            yield await self._admit(name, sid, options.on_busy)
        except BaseException:
            self._tasks.spawn(self._rows.leave(name, sid))
            raise

    async def _admit(self, name: str, sid: str, on_busy: OnBusy) -> int:
        if seconds := self._hub.recovering_for(row_key(name)):
            await asyncio.sleep(seconds)  # a row that Redis has lost is not an empty one
        seen = NOBODY if on_busy is OnBusy.REJECT else WHOEVER
        while (taken := await self._rows.take(name, sid, seen)).flag is not Flag.OK:
            await self._let_pass(taken.other, taken.age)
            seen = taken.other
        if on_busy is OnBusy.ABORT_PREVIOUS and taken.other:
            await self._abort(taken.other, taken.age)
        return taken.start

    async def _let_pass(self, sid: str, age: float) -> None:
        read = await self._look(sid)
        if read.meta is None and age >= RESERVED:
            await self._steering.wipe(sid)
        elif read.meta is None or not (read.meta.gone or _ended(read)):
            raise Busy()

    async def _abort(self, sid: str, age: float) -> None:
        """End who was the newest; one that is about to start is waited for."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RESERVED - age
        while (read := await self._look(sid)).meta is None:
            if loop.time() >= until:
                await self._steering.wipe(sid)
                return
            await asyncio.sleep(_LOOK)
        if not (read.meta.gone or _ended(read)):
            try:
                await self._steering.end(sid)
            except (Gone, NotFound):
                return  # it has expired meanwhile

    async def _look(self, sid: str) -> Read:
        return await self._store.peek(sid)


def _ended(read: Read) -> bool:
    return bool(read.entries) and read.entries[-1].final
