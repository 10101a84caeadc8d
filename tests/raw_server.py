"""A server on a real socket that writes just what its script says, byte for byte.

A script is called with each request and yields steps: bytes to write, seconds to wait, `RESET` to break
the connection off, `HANG` to wait until the client leaves; a script that runs out waits for the next
request, or, with `CLOSE` last, ends the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import orjson

RESET, HANG, CLOSE = object(), object(), object()
Step = bytes | float | object
CHUNKED = b"Transfer-Encoding: chunked"


class Asked(NamedTuple):
    """A request: its first line, its headers by lower-case name, its body as JSON (or None)."""

    line: str
    headers: dict[str, str]
    body: Any


def head(kind: str, *lines: bytes, status: int = 200) -> bytes:
    """Return the head of an answer."""
    return b"\r\n".join(
        [b"HTTP/1.1 %d X" % status, b"Content-Type: %b" % kind.encode(), *lines, b"", b""]
    )


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; an empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunks(body: bytes, size: int = 0) -> Iterable[bytes]:
    """Yield a whole chunked body, in chunks of a size (0: all in one)."""
    step = size or max(1, len(body))
    yield from (chunk(body[at : at + step]) for at in range(0, len(body), step))
    yield chunk(b"")


class Caller:
    """A connection as a server sees it that a test speaks for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each piece, and give the client a turn to read it before the next."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def close(self) -> None:
        self._writer.close()


def refusal(asked: Asked, body: bytes) -> list[Step]:
    """Return a whole answer with the `status` and the `retry_after`, if any, that were asked for."""
    lines = [b"Content-Length: %d" % len(body)]
    if "retry_after" in asked.body:
        lines.append(b"Retry-After: %d" % asked.body["retry_after"])
    return [head("application/json", *lines, status=asked.body["status"]), body]


class RawServer:
    """The server: what it was asked, and how many connections are over."""

    def __init__(self, script: Callable[[Asked], Iterable[Step]]) -> None:
        self.asked: list[Asked] = []
        self.closed = 0
        self._script = script
        self._serving: set[asyncio.Task[Any] | None] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._serving:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(t for t in self._serving if t is not None), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            while True:
                asked = await _request(reader)
                self.asked.append(asked)
                for step in self._script(asked):
                    if not await _take(step, reader, writer):
                        return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            self.closed += 1
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._serving.discard(task)


@asynccontextmanager
async def raw_server(script: Callable[["RawServer", Asked], Iterable[Step]]) -> AsyncIterator[RawServer]:
    """Run a server whose script is also told what was asked before."""
    server = RawServer(lambda asked: script(server, asked))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def _request(reader: asyncio.StreamReader) -> Asked:
    text = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = text.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (h.partition(": ") for h in rest)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(line, headers, orjson.loads(body) if body else None)


async def _take(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Do a step; return whether the connection goes on."""
    if step is RESET:
        writer.transport.abort()
    elif step is HANG:
        await reader.read()
    elif isinstance(step, bytes):
        writer.write(step)
        await writer.drain()
        await asyncio.sleep(0)
    elif isinstance(step, int | float):
        await asyncio.sleep(step)
    return step is not RESET and step is not HANG and step is not CLOSE
