"""A TCP proxy to build on: it passes bytes both ways, and can break every connection off."""

import asyncio
from contextlib import suppress

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relay:
    """Listens on `port`; `let_pass` and `passed` are told of each piece, and whether it is an answer."""

    def __init__(self) -> None:
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def reach(self) -> Streams:
        """Connect to where this leads; OSError breaks the caller off."""
        raise NotImplementedError

    async def let_pass(self, answer: bool) -> bool:
        """Return when a piece may go on, and whether it does."""
        return True

    def passed(self, data: bytes, writer: asyncio.StreamWriter, answer: bool) -> None:
        """Take note of a piece that went on."""

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection off."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def aclose(self) -> None:
        """Stop; whoever is still connected is cut off."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await self.reach()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, here}
        await asyncio.gather(self._pass(reader, here, False), self._pass(there, writer, True))
        self._writers -= {writer, here}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if await self.let_pass(answer):
                    writer.write(data)
                    await writer.drain()
                    self.passed(data, writer, answer)
        writer.close()
