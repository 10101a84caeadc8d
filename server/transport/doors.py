"""Open requests and sockets of those who said who they are: ended when that is not true any more."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from aiohttp import web

from server.callers import NOBODY, OPEN, Caller
from server.errors import COME_BACK, RateLimited

LOOK = 1.0


class Door:
    """One open request: whose it is, and how to end it."""

    __slots__ = ("caller", "leave", "renewed")

    def __init__(self, caller: Caller, leave: Callable[[], object], now: float) -> None:
        self.caller = caller
        self.leave = leave
        self.renewed = now


DOOR = web.RequestKey("door", Door)
_UNWATCHED = nullcontext()


class Doors:
    """All of a node. `holds` says whether credentials are still good.

    One principal has `most` at a time. Tickets that are followed with are renewed every `period` seconds.
    """

    def __init__(self, holds: Callable[[Caller], bool], most: int, period: float) -> None:
        self._holds = holds
        self._most = most
        self._period = period
        self._doors: set[Door] = set()
        self._counts: Counter[str] = Counter()
        self._task = asyncio.create_task(self._run(), name="doors")

    def open(self, caller: Caller, request: web.Request) -> AbstractContextManager[None]:
        """Let a request in, and know when it is over; raise `RateLimited`."""
        task = asyncio.current_task()
        assert task is not None
        door = request[DOOR] = Door(caller, task.cancel, asyncio.get_running_loop().time())
        return _UNWATCHED if caller is OPEN else self._watched(door)

    @contextmanager
    def _watched(self, door: Door) -> Iterator[None]:
        self._count(door.caller)
        self._doors.add(door)
        try:
            yield
        finally:
            self._doors.discard(door)
            self._forget(door.caller)

    def hand_over(self, door: Door, caller: Caller) -> None:
        """Take a door for somebody else's, who said so later; raise `RateLimited`."""
        self._count(caller)
        self._forget(door.caller)
        door.caller = caller

    def _count(self, caller: Caller) -> None:
        if (name := caller.principal) is not None:
            if self._counts[name] >= self._most:
                raise RateLimited(f"You may have {self._most} open requests.", retry_after=COME_BACK)
            self._counts[name] += 1

    def _forget(self, caller: Caller) -> None:
        if (name := caller.principal) is not None:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            now = loop.time()
            for door in list(self._doors):
                self._look(door, now)

    def _look(self, door: Door, now: float) -> None:
        caller = door.caller
        if caller is not NOBODY and not self._holds(caller):
            self._doors.discard(door)
            door.leave()
        elif (follows := caller.follows) and follows.viewers and now - door.renewed >= self._period:
            door.renewed = now
            follows.renew()

    async def aclose(self) -> None:
        """Stop looking."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
