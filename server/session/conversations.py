"""Conversations: a caller's own name for a row of sessions, of which the newest answers to it.

A start takes the newest place before it asks its upstream, in one step that fails if anybody else was
faster, so of two prompts at once on two nodes one is let through. Who took the place may not be there
yet: it has `RESERVED` seconds, after which a tombstone sees to it that it never will.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.callers import CALLER
from server.errors import Busy, Gone, NotFound
from server.session.answers import Flag
from server.session.follower import HEALING
from server.session.rows import NOBODY, WHOEVER, Rows, scoped
from server.session.state import OnBusy, Options
from server.session.steering import Steering
from server.session.store import Store
from server.session.tasks import Tasks

RESERVED = 10.0
_LOOK = 0.02


class Conversations:
    """What a node does for conversations."""

    def __init__(self, rows: Rows, store: Store, steering: Steering, tasks: Tasks) -> None:
        self._rows = rows
        self._store = store
        self._steering = steering
        self._tasks = tasks

    async def newest(self, name: str) -> str:
        """Return the id of the newest session; raise `NotFound`."""
        name = scoped(CALLER.get().principal, name)
        sid = await self._rows.newest(name) or await self._healed(name)
        if sid is None:
            raise NotFound("There is no such conversation.")
        return sid

    @asynccontextmanager
    async def place(self, sid: str, options: Options, there: bool) -> AsyncIterator[int]:
        """Start a session inside of this: as the newest of its conversation, if it has one.

        Yields when it starts (Unix milliseconds). Raise `Busy` if another one is running and the
        options refuse that. A start that fails leaves the conversation as it was; one of what is `there`
        already is none.
        """
        name = options.conversation and scoped(CALLER.get().principal, options.conversation)
        if name is None or there:
            yield int(time.time() * 1000)
            return
        try:
            yield await self._admit(name, sid, options.on_busy)
        except BaseException:
            self._tasks.spawn(self._rows.leave(name, sid))
            raise

    async def _admit(self, name: str, sid: str, on_busy: OnBusy) -> int:
        await self._healed(name)
        seen = NOBODY if on_busy is OnBusy.REJECT else WHOEVER
        while (taken := await self._rows.take(name, sid, seen)).flag is not Flag.OK:
            await self._let_pass(taken.other, taken.age)
            seen = taken.other
        if on_busy is OnBusy.ABORT_PREVIOUS and taken.other:
            await self._abort(taken.other, taken.age)
        return taken.start

    async def _healed(self, name: str) -> str | None:
        """Return the newest session once nobody will put back any more what Redis has lost of the row."""
        left = HEALING - self._rows.back_for(name)
        if left <= 0:
            return None
        await asyncio.sleep(left)
        return await self._rows.newest(name)

    async def _let_pass(self, sid: str, age: float) -> None:
        read = await self._store.peek(sid)
        if read.meta is None and self._lapsed(sid, age):
            await self._steering.wipe(sid)
        elif read.meta is None or not (read.meta.gone or read.closed):
            raise Busy()

    async def _abort(self, sid: str, age: float) -> None:
        """End who was the newest; one that is about to start is waited for."""
        loop = asyncio.get_running_loop()
        since = loop.time() - age
        while (read := await self._store.peek(sid)).meta is None:
            if self._lapsed(sid, loop.time() - since):
                await self._steering.wipe(sid)
                return
            await asyncio.sleep(_LOOK)
        if not (read.meta.gone or read.closed):
            try:
                await self._steering.end(sid)
            except (Gone, NotFound):
                return  # it has expired meanwhile

    def _lapsed(self, sid: str, age: float) -> bool:
        """Say whether a session that is not there has neither still to start nor to be healed."""
        return age >= RESERVED and self._store.runner.back_for(sid) > HEALING
