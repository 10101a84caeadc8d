"""A TCP proxy in front of two nodes: it resets its connections once, and then leads to the other node."""

import asyncio
import socket
import struct
from contextlib import suppress

_RESET = struct.pack("ii", 1, 0)


class Link:
    """Leads to the first of `ports`; to the next as soon as `mark` has come through."""

    def __init__(self, ports: list[int], mark: bytes | None) -> None:
        self.cuts = 0
        self.url = ""
        self._ports, self._mark = ports, mark
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        self.cuts += 1
        for writer in list(self._open):
            plug = writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def aclose(self) -> None:
        """Stop; whoever is still connected is cut off."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._ports[self.cuts])
        self._open |= {writer, here}
        await asyncio.gather(self._pass(reader, here, None), self._pass(there, writer, self._mark))
        self._open -= {writer, here}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mark: bytes | None
    ) -> None:
        window = b""
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                window = window[-100:] + data
                if mark and not self.cuts and mark in window:
                    self.cut()
        writer.close()
