"""A TCP proxy that can be told to misbehave: between a node and its Redis."""

import asyncio

from tests.relay import Relay, Streams


class Proxy(Relay):
    """Passes bytes on to a unix socket; `held` keeps them, `delay` (seconds) slows each piece.

    While it is `deaf`, answers get lost.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.delay = 0.0
        self.deaf = False
        self._target = target
        self._open = asyncio.Event()
        self._open.set()

    @property
    def url(self) -> str:
        """Where a node finds it."""
        return f"redis://127.0.0.1:{self.port}"

    def hold(self, held: bool) -> None:
        """Let nothing through, or go on: a partition that loses no byte."""
        self._open.clear() if held else self._open.set()

    async def reach(self) -> Streams:
        """Connect to the socket."""
        return await asyncio.open_unix_connection(self._target)

    async def let_pass(self, answer: bool) -> bool:
        """Hold, slow or lose a piece, as it was told."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._open.wait()
        return not (answer and self.deaf)
