"""A connection as a viewer's sink: whole pieces straight into its transport.

aiohttp prepares and ends the responses and reads the frames. In between bytes go to the transport
directly, because a coroutine for every piece and viewer costs more than all else; whole frames and
whole chunks may be interleaved with aiohttp's own.
"""

import asyncio
import socket
from typing import Any

from aiohttp import web

SEND_BUFFER = 128 * 1024
USER_TIMEOUT_MS = 12_000
KEEP_IDLE, KEEP_INTERVAL = 8, 2
"""Seconds: a quiet stream has nothing unacknowledged, so its client is asked whether it is there."""


class RawSink:
    """Bytes as they are: WebSocket frames, or a body without chunked coding."""

    __slots__ = ("_protocol", "_request")

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._protocol = request.protocol

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; a lost client's are dropped."""
        transport = self._protocol.transport
        if transport is not None and data:
            transport.write(data)

    @property
    def full(self) -> bool:
        """Whether the client does not keep up."""
        return self._protocol.writing_paused

    async def drain(self) -> None:
        """Wait until the client has caught up; raise `ConnectionError` when it is gone."""
        # All who wait for a connection wait for one future: who gives up must not cancel it for others.
        drained = asyncio.ensure_future(self._request.writer.drain())
        drained.add_done_callback(_hear)
        await asyncio.shield(drained)

    def abort(self) -> None:
        """Break the connection off, without a clean end."""
        if (transport := self._protocol.transport) is not None:
            transport.abort()


def _hear(drained: asyncio.Future[None]) -> None:
    if not drained.cancelled():
        drained.exception()  # whoever waited may have given up; then nobody else would look at it


class ChunkSink(RawSink):
    """A body in HTTP/1.1's chunked coding: a chunk a piece."""

    __slots__ = ()

    _piece = _chunk = b""
    """The last piece of all, as a chunk: a sweep gives the same one to viewer after viewer."""

    def write(self, data: bytes) -> None:
        """Hand one chunk to the transport."""
        transport = self._protocol.transport
        if transport is not None and data:
            if data is not ChunkSink._piece:
                ChunkSink._piece, ChunkSink._chunk = data, b"%x\r\n%b\r\n" % (len(data), data)
            transport.write(ChunkSink._chunk)


def tune(request: web.Request) -> None:
    """Bound what the kernel buffers for a slow client, and how long a vanished one goes unnoticed."""
    transport = request.transport
    sock: Any = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
