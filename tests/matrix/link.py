"""A TCP proxy in front of two nodes: it resets its connections once, and then leads to the other node."""

import asyncio
import socket
import struct
from collections import defaultdict

from tests.relay import Relay, Streams

_RESET = struct.pack("ii", 1, 0)


class Link(Relay):
    """Leads to the first of `ports`; to the next as soon as `mark` has come through."""

    def __init__(self, ports: list[int], mark: bytes | None) -> None:
        super().__init__()
        self.cuts = 0
        self._ports, self._mark = ports, mark
        self._windows: defaultdict[asyncio.StreamWriter, bytes] = defaultdict(bytes)

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        self.cuts += 1
        for writer in self._writers:
            plug = writer.get_extra_info("socket")
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        super().cut()

    async def reach(self) -> Streams:
        """Connect to the node that it leads to now."""
        return await asyncio.open_connection("127.0.0.1", self._ports[self.cuts])

    def passed(self, data: bytes, writer: asyncio.StreamWriter, answer: bool) -> None:
        """Cut once the mark has come, be it in two pieces."""
        window = self._windows[writer] = self._windows[writer][-100:] + data
        if answer and self._mark and not self.cuts and self._mark in window:
            self.cut()
