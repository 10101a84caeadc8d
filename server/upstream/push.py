"""Another program as the upstream: it sends its events in request bodies, one after the other.

A body that ends well and holds no final event leaves the session open for the next. One that breaks
off may be sent again, from its start, for some grace; the session then ends in `producer_lost`. If
its producer numbers the bodies, nothing of them is taken twice.
"""

import asyncio
from collections.abc import Iterable

from server.errors import (
    BadEvent,
    PushConflict,
    SessionClosed,
    TokenwireError,
    UpstreamFailed,
    UpstreamInvalid,
    UpstreamStall,
)
from server.events import Aborted, Bytes, Content, FinalEvent
from server.upstream import Feed, Head, Request
from server.upstream.pushed_bodies import Item, Items, items_of
from server.upstream.shapes import MessageReader
from server.upstream.sse_parser import Message

LOOK = 1.0
"""Seconds between looks at the deadline."""


class ProducerLost(UpstreamFailed):
    """Whoever pushed the session's events broke off and did not come back."""

    code, message = "producer_lost", "The program that sent this session's events is gone."


class Push:
    """One session's bodies; seconds for silence, for the first event, for coming again after a break."""

    def __init__(self, stall: float, first_token: float, grace: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall = stall
        self._first_token = first_token
        self._grace = grace
        self._over: asyncio.Future[FinalEvent | Exception] = self._loop.create_future()
        self._body: _Body | None = None
        self._numbered: _Body | None = None
        self._messages: MessageReader | None = None
        self._begun = False
        self._heard = self._loop.time()
        self._missed: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether it has its final event, or failed."""
        return self._over.done()

    async def __call__(self, request: Request, feed: Feed) -> FinalEvent:
        """Wait for the final event, for as long as the silence may last."""
        try:
            while not self._over.done():
                if feed.full:
                    self.heard()  # it is us who do not read
                patience = self._stall if self._begun else self._first_token
                left = self._heard + patience - self._loop.time()
                if left <= 0:
                    raise UpstreamStall()
                await asyncio.wait((self._over,), timeout=min(left, LOOK))
            final = self._over.result()
        finally:
            self.end(SessionClosed(), SessionClosed())
        if isinstance(final, Exception):
            raise final
        return final

    def heard(self) -> None:
        """Know that the producer lives."""
        self._heard = self._loop.time()

    def end(self, final: FinalEvent | Exception, why: TokenwireError | None = None) -> None:
        """Take the end, if there was none before; `why` is for whoever is just sending."""
        self._stay()
        if not self._over.done():
            self._over.set_result(final)
        if self._body is not None:
            self._body.stop(why)

    def open(self, head: Head, feed: Feed) -> "_Body | None":
        """Return the body that may come now, or None for one that came before."""
        items, last = items_of(head.content_type), self._numbered
        if last is not None and head.number is not None and head.number != last.following:
            if head.number > last.following:
                raise PushConflict(f"The next body is number {last.following}, not {head.number}.")
            return None
        if self._over.done():
            raise SessionClosed()
        again = last if last is not None and last.number == head.number else None
        if self._body is not None:
            if self._body is not again:
                raise PushConflict()
            self._body.stop(PushConflict("This body is being sent anew."))
        self._stay()
        self.heard()
        self._messages = self._messages or MessageReader(feed.push, strict=True)
        self._body = _Body(self, head, feed, items, again.reached if again else 0)
        if head.number is not None:
            self._numbered = self._body
        return self._body

    def read(self, item: Item, feed: Feed, content_type: str) -> None:
        """Push what an item of a body of that type holds; raise `UpstreamInvalid` if it is no event."""
        try:
            if isinstance(item, str):
                feed.push(Content(item))
            elif isinstance(item, Message):
                self._take(item)
            else:
                feed.push(Bytes(item, None if self._begun else content_type))
        except UpstreamInvalid:
            raise
        except UpstreamFailed as error:
            self.end(error)
        except Exception as error:  # a limit
            self.end(error, SessionClosed())
        self._begun = True

    def _take(self, message: Message) -> None:
        messages = self._messages
        assert messages is not None
        if messages.take(message.data, message.event == "error"):
            if isinstance(messages.final, Aborted):
                messages.final = None
                raise UpstreamInvalid()
            self.close()

    def close(self) -> None:
        """End as the producer told, or just well."""
        assert self._messages is not None
        self.end(self._messages.final or self._messages.chunks.finish(whole=True))

    def left(self, body: "_Body", lost: bool) -> None:
        """Learn that a body is over; one that broke off has to come again."""
        if body is not self._body:
            return
        self._body = None
        self.heard()
        if lost and not self._over.done():
            self._missed = self._loop.call_later(self._grace, self.end, ProducerLost())

    def _stay(self) -> None:
        if self._missed is not None:
            self._missed.cancel()
            self._missed = None


class _Body:
    """A body under way; of one that is sent anew, `known` messages, characters or bytes were taken."""

    def __init__(self, push: Push, head: Head, feed: Feed, items: Items, known: int) -> None:
        self.stopped: asyncio.Future[TokenwireError | None] = asyncio.get_running_loop().create_future()
        self.number = head.number
        self._push = push
        self._head = head
        self._feed = feed
        self._items = items
        self._known = known
        self._seen = 0
        self._whole = False

    @property
    def following(self) -> int:
        """The number of the body that may come next: this one, until it has come wholly."""
        return (self.number or 0) + self._whole

    @property
    def reached(self) -> int:
        """How much of it was taken, in this try or an earlier one."""
        return max(self._known, self._seen)

    def take(self, piece: bytes) -> None:
        """Push the events that a piece completes; raise `BadEvent` in the place of one that is none."""
        self._push.heard()
        self._read(self._items.feed(piece))

    def end(self) -> None:
        """Learn that the body came to a clean end."""
        self._read(self._items.end())
        self._whole = True
        if self._head.last:
            self._push.close()

    def leave(self, lost: bool) -> None:
        """Learn that no more of it comes."""
        self._push.left(self, lost and not self._whole)

    def stop(self, why: TokenwireError | None) -> None:
        """Want no more of it; without a reason, all is well."""
        if not self.stopped.done():
            self._whole = self._whole or why is None
            self.stopped.set_result(why)

    def _read(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                if self.stopped.done():
                    return
                self._one(item)
        except UpstreamInvalid:
            raise BadEvent(f"After {self._seen} good ones, an item of the body is no event.") from None

    def _one(self, item: Item) -> None:
        """Take an item as far as it is new."""
        size = 1 if isinstance(item, Message) else len(item)
        known = min(size, max(0, self._known - self._seen))
        if not known:
            self._push.read(item, self._feed, self._head.content_type)
        elif known < size and not isinstance(item, Message):
            self._push.read(item[known:], self._feed, self._head.content_type)
        self._seen += size
