"""One upstream into one log: reads it, minds the limits, closes it, lingers, and says how it went."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from server.counts import COUNTS, known_code
from server.errors import UpstreamFailed
from server.events import Aborted, AbortReason, Error, Event, FinalEvent, decode_final, encode
from server.session.appender import Appender
from server.session.healing import Over
from server.session.state import Report, Spec, status_of
from server.session.tail import Tail
from server.traces import trace
from server.trail import span
from server.upstream import Request, Takeover, Upstream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one session may use: events, bytes of events, seconds; bytes kept while Redis is away."""

    tokens: int
    bytes: int
    seconds: float
    backlog: int


class _OverLimit(Exception):
    """The session has used what one may use."""


class Producer:
    """The task behind a running session. `closed` resolves with the report once the upstream is closed.

    `orphaned` is called when nobody has watched for the session's `orphan_ttl`. `held` is the bytes that
    came since the gate was shut.
    """

    def __init__(
        self,
        tail: Tail,
        appender: Appender,
        spec: Spec,
        bounds: Bounds,
        node: str,
        orphaned: Callable[[], Awaitable[None]],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.tail = tail
        self.appender = appender
        self.closed: asyncio.Future[Report] = loop.create_future()
        self.upstream: Upstream | None = None
        self._spec = spec
        self._bounds = bounds
        self._node = node
        self._orphaned = orphaned
        self._started = loop.time()
        self._first: float | None = None
        self._reading: asyncio.Task[FinalEvent] | None = None
        self.held = 0
        self._tokens, self._bytes = len(tail.log.lines), sum(map(len, tail.log.lines))
        self._alone_since: float | None = None
        tail.turned = appender.moved.set

    def start(self, upstream: Upstream, request: Request) -> None:
        """Begin to read the upstream."""
        self.upstream = upstream
        self._reading = asyncio.create_task(self._read(upstream, request))

    def abandon(self) -> None:
        """Hang up on the upstream: there will be no session."""
        assert self._reading is not None
        self._reading.cancel()

    async def run(self, linger: float) -> None:
        """Read the upstream to its end or ours, then linger, so that a lost log can be healed."""
        assert self._reading is not None
        try:
            await asyncio.wait((self._reading, self.appender.over), return_when="FIRST_COMPLETED")
            await self._close()
            why = await self.appender.over
            self.appender.lease.size = self._bytes
            if why is Over.HANDED:
                await self.appender.lease.release()
                return
            self._count()
            self.appender.lease.report = msgspec.json.encode(self.closed.result())
            await self.appender.renew()
            if why in (Over.WRITTEN, Over.CLOSED):
                await asyncio.sleep(linger)
                await self.appender.leave()
        finally:
            self._reading.cancel()
            self.appender.stop()

    async def _close(self) -> None:
        """Take the upstream's last word, or close its connection; say how long that took."""
        assert self._reading is not None
        loop = asyncio.get_running_loop()
        asked = loop.time()
        stopped = not self._reading.done()
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        with suppress(asyncio.CancelledError):  # asked for it, a task lets go of it, and so of all this
            self.appender.add(encode(self._reading.result()), final=True)
        now = loop.time()
        close_ms = round((now - asked) * 1000, 2) if stopped else None
        if stopped:
            COUNTS.upstream_close.add(now - asked)
        self.closed.set_result(Report(self._node, True, close_ms, self._timings()))

    def _timings(self) -> dict[str, float]:
        timings = {"duration_ms": round((asyncio.get_running_loop().time() - self._started) * 1000, 1)}
        if self._first is not None:
            timings["first_token_ms"] = round((self._first - self._started) * 1000, 1)
        return timings

    def _count(self) -> None:
        log_ = self.tail.log
        if not log_.closed:
            return
        final = decode_final(log_.lines[-1])
        word = final.reason.value if isinstance(final, Aborted) else ""
        word = known_code(final.code) if isinstance(final, Error) else word
        COUNTS.ended[status_of(final).value, word] += 1
        log.info("ended: %s %s, %d events", status_of(final).value, word or "-", log_.head)

    def stop(self, reason: AbortReason) -> None:
        """End the session in `aborted` from within."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel(reason)

    def leave(self) -> None:
        """Give the session up, since this node ends: to an heir, if its model and its client can go on.

        A session that ends with its connection (`orphan_ttl` of 0) is told its end on it.
        """
        if self._reading is None or self._reading.done():
            return  # its last word is on its way
        if self._spec.takeover is Takeover.ERROR or self._spec.orphan_ttl == 0:
            self.stop(AbortReason.SHUTDOWN)
            return
        self.appender.end(Over.HANDED)
        for viewer in list(self.tail.viewers):
            viewer.move()

    async def _read(self, upstream: Upstream, request: Request) -> FinalEvent:
        with span("generation", session=self.tail.sid, model=self._spec.model) as told:
            final = await self._end(upstream, request)
            told.tell(status=status_of(final).value, tokens=self._tokens, **self._timings())
        return final

    async def _end(self, upstream: Upstream, request: Request) -> FinalEvent:
        try:
            async with asyncio.timeout(self._bounds.seconds) as limit:
                return await upstream(request, self)
        except _OverLimit:
            return Aborted(AbortReason.LIMIT)
        except UpstreamFailed as error:
            return Error.of(error)
        except TimeoutError:
            # One of the source's own is its failure, not our limit.
            return Aborted(AbortReason.LIMIT) if limit.expired() else Error.of(UpstreamFailed())
        except asyncio.CancelledError as cancelled:
            if cancelled.args and isinstance(cancelled.args[0], AbortReason):
                return Aborted(cancelled.args[0])
            raise
        except Exception as error:
            log.error("an upstream raised: %s", trace(error))
            return Error.of(UpstreamFailed())

    def push(self, event: Event) -> None:
        """Take the upstream's next event (`server.upstream.Feed`)."""
        line = encode(event)
        if self._first is None:
            self._first = asyncio.get_running_loop().time()
            COUNTS.first_token.add(self._first - self._started)
        self._tokens += 1
        self._bytes += len(line)
        if self._tokens > self._bounds.tokens or self._bytes > self._bounds.bytes:
            raise _OverLimit()
        self.held = self.held + len(line) if self.tail.gate is not None else 0
        self.appender.add(line)

    @property
    def full(self) -> bool:
        """Whether a pause holds as much as it may, or Redis is too far behind."""
        paused = self.tail.gate is not None and self.held >= self._spec.hold_limit
        return paused or self.appender.backlog > self._bounds.backlog

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.full and not self.appender.over.done():
            self.appender.moved.clear()
            await self.appender.moved.wait()

    async def landed(self, ended: bool) -> None:
        """Wait until the log holds all that was pushed, and its end if the upstream has `ended`."""
        appender = self.appender
        if ended:
            await asyncio.shield(appender.over)
        while appender.backlog and not appender.over.done():
            appender.moved.clear()
            await appender.moved.wait()

    async def beat(self) -> None:
        """Renew the lease, and see whether anybody is watching."""
        self.appender.lease.size = self._bytes
        await self.appender.renew()
        await self.look()

    async def look(self) -> None:
        """Apply the orphan policy to the viewers of all nodes, as last counted."""
        ttl, now = self._spec.orphan_ttl, asyncio.get_running_loop().time()
        if ttl is None or self.appender.over.done():
            return
        if self.tail.viewers or self.appender.lease.viewers:
            self._alone_since = None
        elif self._alone_since is None and (ttl > 0 or self.appender.lease.watched):
            self._alone_since = now
        if self._alone_since is not None and now - self._alone_since >= ttl:
            await self._orphaned()
