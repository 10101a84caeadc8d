"""A WebSocket of a client's that keeps to no rule: its frames are bytes, and it reads when it likes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.clients import Server
from tests.waiting import HANG

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_UPGRADE = (
    "Host: localhost", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {'A' * 22}==",
)  # fmt: skip


@asynccontextmanager
async def opened(node: Server, path: str, *headers: str) -> AsyncIterator[Ends]:
    """Open a socket, of whose answers little is kept on the way while nobody reads them."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", node.port))
    reader, writer = await asyncio.open_connection(sock=made, limit=4096)
    writer.write("\r\n".join((f"GET {path} HTTP/1.1", *_UPGRADE, *headers, "", "")).encode())
    try:
        async with asyncio.timeout(HANG):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.transport.abort()


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the opcode and the payload of what the server sends, until it has closed."""
    async with asyncio.timeout(HANG):
        while head := await reader.read(1):
            (size,) = await reader.readexactly(1)
            if size > 125:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
            yield head[0] & 15, await reader.readexactly(size)
            if head[0] & 15 == 8:
                return


async def close_code(reader: asyncio.StreamReader) -> int:
    """Read to the end; return the code that the server closes with."""
    *_, (opcode, payload) = [frame async for frame in frames(reader)]
    assert opcode == 8
    return int.from_bytes(payload[:2])
