"""Calls the roll: while somebody inspects, every node is asked once a second how it stands.

Whoever inspects rings `tw:{inspect}:c`, and each node puts its answer into the stream `tw:{inspect}:a`,
if there is one: the inspector makes it, trims it and lets it expire. So nobody answers, and Redis
holds nothing, while nobody asks. Each node keeps its last minutes in figures, for when that begins.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context

import msgspec

from server.callers import CALLER
from server.counts import COUNTS, Levels
from server.errors import StoreUnavailable
from server.session import answers
from server.session.codec import Codec
from server.session.doorbell import Doorbell
from server.session.feed import KEPT, Crowd, Feed
from server.session.figures import Meter, Second
from server.session.jobs import Carrier, Note, checked
from server.session.link import Command
from server.session.roll import Answer, Roll
from server.traces import trace

log = logging.getLogger(__name__)

CHANNEL, ANSWERS, SLOT = "tw:{inspect}:c", "tw:{inspect}:a", "inspect"
PERIOD = 1.0
FEEL = 0.1
"""Seconds between looks whether the event loop is late."""
PATIENCE = 0.15
"""Seconds that answers get to arrive; those that are later count with the next second."""
HUSH = 0.5
"""Seconds in which a node answers once, whoever calls."""
FEW, WHOLE = 3, 10.0
"""The newest seconds go with every answer, lest one be missed; all that are remembered with one that
comes after as many without a call, and again after some time, for those who have come since."""
TTL = 30
LINGER = 15.0
"""Seconds that the roll is called on after the last inspector has left, who may come back."""


class Inspection:
    """One node's part in it: it remembers, answers, and calls the roll for its own inspectors."""

    def __init__(
        self,
        node: str,
        roll: Roll,
        levels: Callable[[], Levels],
        redis: Carrier,
        codec: Codec,
        doorbell: Doorbell,
    ) -> None:
        self.grown: asyncio.Future[None]
        self._node = node
        self._roll = roll
        self._levels = levels
        self._redis = redis
        self._codec = codec
        self._loop = asyncio.get_running_loop()
        self._seconds: deque[Second] = deque(maxlen=KEPT)
        self._count = 0
        self._answered = self._whole = float("-inf")
        self._said: Answer | None = None
        self._inspectors = 0
        self._left = 0.0
        self._feed: Feed | None = None
        self._calling: asyncio.Task[None] | None = None
        self._remembering = asyncio.create_task(self._remember(), name="inspection")
        doorbell.subscribe(CHANNEL)

    async def _remember(self) -> None:
        """Keep the last minutes in figures, and feel whether the event loop is late."""
        meter, read = Meter(COUNTS), self._loop.time()
        while True:
            due = self._loop.time() + FEEL
            await asyncio.sleep(FEEL)
            now = self._loop.time()
            COUNTS.lag.add(max(0.0, now - due))
            if now - read >= PERIOD - FEEL / 2:
                self._seconds.append(meter.read(now - read, *self._roll.size))
                self._count += 1
                read = now

    def rung(self, channel: str) -> None:
        """Hear the doorbell: answer, if this is the call."""
        if channel == CHANNEL and self._loop.time() - self._answered >= HUSH:
            self._redis.submit(Note(SLOT, self._say(self._answer(), "NOMKSTREAM")))

    def _answer(self) -> Answer:
        now = self._loop.time()
        if self._said is not None and now - self._answered < HUSH:
            return self._said
        whole = now - self._answered >= FEW * PERIOD or now - self._whole >= WHOLE
        self._answered = now
        if whole:
            self._whole = now
        seconds = tuple(self._seconds)[-(KEPT if whole else FEW) :]
        self._said = self._roll.answer(self._node, self._levels(), self._count, seconds)
        return self._said

    def _say(self, answer: Answer, *how: str | int) -> Command:
        sealed = self._codec.seal(SLOT, b"answer", msgspec.json.encode(answer))
        return ("XADD", ANSWERS, *how, "*", b"a", sealed)

    @contextmanager
    def watched(self) -> Iterator[Feed]:
        """Have the roll called meanwhile, for an operator; raise `Unauthorized` or `Forbidden`.

        `grown` resolves when the feed has got another second.
        """
        CALLER.get().demand_admin()
        if self._feed is None:
            self._feed = Feed(int(time.time() * 1000))
            self.grown = self._loop.create_future()
            # It outlives the request that happens to be the first.
            self._calling = self._loop.create_task(self._call(self._feed), context=Context())
        self._inspectors += 1
        try:
            yield self._feed
        finally:
            self._inspectors -= 1
            self._left = self._loop.time()

    async def _call(self, feed: Feed) -> None:
        crowd, caller = Crowd(), _Caller(self._redis, self._codec)
        while self._inspectors or self._loop.time() - self._left < LINGER:
            due = self._loop.time() + PERIOD
            try:
                answer = self._answer()
                crowd.take(answer, self._answered)
                for other, at in await caller.call(self._say(answer, "MINID", caller.oldest)):
                    if other.node != self._node:
                        crowd.take(other, at)
                self._add(feed, crowd)
            except Exception as error:
                log.error("an inspection failed: %s", trace(error))
            await asyncio.sleep(due - self._loop.time())
        self._feed = None

    def _add(self, feed: Feed, crowd: Crowd) -> None:
        now, now_ms = self._loop.time(), int(time.time() * 1000)
        crowd.forget(now)
        state = crowd.state(now)
        past = [] if feed.head else crowd.past()
        for age, second in zip(range(len(past), 0, -1), past, strict=True):
            feed.add(now_ms - int(age * PERIOD * 1000), second, state)
        feed.add(now_ms, crowd.now(), state)
        grown, self.grown = self.grown, self._loop.create_future()
        grown.set_result(None)

    async def aclose(self) -> None:
        """Stop."""
        for task in (self._remembering, self._calling):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


class _Caller:
    """Asks, and reads what has been answered since; in between it knows how old what it read may be."""

    def __init__(self, redis: Carrier, codec: Codec) -> None:
        self.oldest = 0
        self._redis = redis
        self._codec = codec
        self._last = b"0"

    async def call(self, own: Command) -> list[tuple[Answer, float]]:
        """Say `own`, call, and return what others said and when; nothing while Redis does not answer."""
        commands = (own, ("EXPIRE", ANSWERS, TTL), ("PUBLISH", CHANNEL, b""))
        reading = (("TIME",), ("XRANGE", ANSWERS, b"(" + self._last, "+"))
        try:
            async with asyncio.timeout(PERIOD):
                checked(await self._redis.call(SLOT, *commands))
                await asyncio.sleep(PATIENCE)
                now, rows = checked(await self._redis.call(SLOT, *reading))
        except (StoreUnavailable, TimeoutError):
            return []
        now_ms, here = answers.parse_time(now), asyncio.get_running_loop().time()
        self.oldest = now_ms - int(1.5 * WHOLE * 1000)
        if rows:
            self._last = rows[-1][0]
        said = [(self._read(sealed), int(id.partition(b"-")[0])) for id, (_, sealed) in rows]
        return [(answer, here - (now_ms - at) / 1000) for answer, at in said if answer is not None]

    def _read(self, sealed: bytes) -> Answer | None:
        """Return an answer; None for one that a node with other keys, or of another version, gave."""
        with suppress(StoreUnavailable, msgspec.DecodeError):
            return msgspec.json.decode(self._codec.open(SLOT, b"answer", sealed), type=Answer)
        return None
