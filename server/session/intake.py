"""Brings pushed bodies to the session they are for, on the node that runs it.

A body is read at the pace of its session: while a pause holds as much as it may, or Redis is too far
behind, nothing is read, and TCP makes the pusher wait. It is answered when Redis holds what it brought.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from server.errors import PushConflict, SessionClosed, TokenwireError, WrongNode
from server.session import snapshot
from server.session.hub import Hub
from server.session.producer import Producer
from server.session.producers import Producers
from server.session.store import Store
from server.upstream import Body, Feed, Head, Pushed


class Intake:
    """Takes the bodies that are pushed to one node."""

    def __init__(self, store: Store, hub: Hub, producers: Producers) -> None:
        self._store = store
        self._hub = hub
        self._producers = producers

    async def push(self, sid: str, head: Head, pieces: AsyncGenerator[bytes, None]) -> dict[str, Any]:
        """Take a whole body, and return where the log stands with it.

        Raise `BadEvent`, `SessionClosed`, `PushConflict`, `WrongNode`, `NotFound` or `Gone`, and what
        `pieces` raises when the body breaks off.
        """
        producer = self._producers.get(sid)
        if producer is None:
            raise await self._absent(sid)
        upstream = producer.upstream
        if not isinstance(upstream, Pushed):
            raise PushConflict("This session has a model server as its upstream.")
        body = upstream.open(head, producer)
        if body is not None:
            await _read(body, pieces, producer)
        return await _answer(producer, upstream, duplicate=body is None)

    async def _absent(self, sid: str) -> TokenwireError:
        read = await self._store.peek(sid)
        await self._hub.present(sid, read)
        return SessionClosed() if read.closed else WrongNode()


async def _read(body: Body, pieces: AsyncGenerator[bytes, None], feed: Feed) -> None:
    reading = asyncio.create_task(_pour(body, pieces, feed))
    lost = True
    try:
        await asyncio.wait((reading, body.stopped), return_when=asyncio.FIRST_COMPLETED)
        if not body.stopped.done():
            await reading
        lost = False
    except TokenwireError:
        lost = False
        raise
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        body.leave(lost)
    why = body.stopped.result() if body.stopped.done() else None
    if why is not None:
        raise why


async def _pour(body: Body, pieces: AsyncGenerator[bytes, None], feed: Feed) -> None:
    async with aclosing(pieces):
        async for piece in pieces:
            if feed.full:
                await feed.room()
            body.take(piece)
            if body.stopped.done():
                return
    body.end()


async def _answer(producer: Producer, upstream: Pushed, duplicate: bool) -> dict[str, Any]:
    await producer.landed(upstream.ended)
    if producer.appender.over.done() and not producer.tail.log.closed:
        raise SessionClosed()  # elsewhere, which this node has not read yet
    return snapshot.pushed(producer.tail, duplicate)
