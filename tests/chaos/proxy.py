"""A TCP proxy that can be told to misbehave: between a node and its Redis."""

import asyncio
from contextlib import suppress


class Proxy:
    """Passes bytes on to a unix socket; `held` keeps them, `delay` (seconds) slows each piece.

    While it is `deaf`, answers get lost.
    """

    def __init__(self, target: str) -> None:
        self.port = 0
        self.delay = 0.0
        self.deaf = False
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where a node finds it."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self, held: bool) -> None:
        """Let nothing through, or go on: a partition that loses no byte."""
        self._open.clear() if held else self._open.set()

    def cut(self) -> None:
        """Break every connection off."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def aclose(self) -> None:
        """Stop."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, here = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, here}
        await asyncio.gather(self._pass(reader, here), self._pass(there, writer, answers=True))
        self._writers -= {writer, here}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if answers and self.deaf:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()
