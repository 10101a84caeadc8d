"""A connection to Redis for many commands at once: replies come by callback, all that a read brought.

redis-py opens it, greets and checks the server; then the socket is ours, since a coroutine for every
reply costs more than the reply.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
from redis.exceptions import InvalidResponse

Command = tuple[Any, ...]
Reply = Any
"""What Redis answered; an error reply is the exception itself."""

_MORE = object()


class Link(asyncio.Protocol):
    """A connection that redis-py has opened. `replied` gets the replies to one `send`, all at once.

    `lost` is called when the connection is gone, whoever closed it. Raises `ConnectionError` if it is
    gone already: then nobody would ever tell.
    """

    def __init__(
        self,
        connection: Any,
        replied: Callable[[list[Reply]], None],
        lost: Callable[[], None],
    ) -> None:
        self._replied = replied
        self._lost = lost
        self._expected = 0
        self._replies: list[Reply] = []
        self._parser = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_MORE,
        )
        self._loop = asyncio.get_running_loop()
        self._gone = self._loop.create_future()
        if connection._reader.at_eof() or connection._writer.is_closing():
            raise ConnectionError
        # Kept, because it would close the socket on its way out; not the connection's any more, which
        # would complain on its own way out that nobody closed it.
        self._writer, connection._writer = connection._writer, None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)

    def send(self, commands: Iterable[Command], count: int) -> None:
        """Send `count` commands; no others before their replies are here."""
        self._expected = count
        self._transport.write(b"".join([hiredis.pack_command(command) for command in commands]))

    def close(self) -> None:
        """Break the connection off."""
        self._transport.abort()
        # A transport that closes already does not say so again.
        self._loop.call_soon(self.connection_lost, None)

    async def aclose(self) -> None:
        """Break the connection off, and return when it is."""
        self.close()
        await self._gone

    def data_received(self, data: bytes) -> None:
        """Take what Redis sent."""
        parser, replies = self._parser, self._replies
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not _MORE:
                replies.append(reply)
        except InvalidResponse:
            self.close()
            return
        if len(replies) > self._expected:
            # Nobody asked for that: what belongs to what is in doubt from here on.
            self.close()
        elif self._expected and len(replies) == self._expected:
            self._replies, self._expected = [], 0
            self._replied(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the connection is gone."""
        if not self._gone.done():
            self._gone.set_result(None)
            self._lost()
