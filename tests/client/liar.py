"""A server that does not do what ours does: it answers each request with the next of its lines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(seq: int, text: str, epoch: int = 7) -> bytes:
    return f'id: {epoch}-{seq}\ndata: {{"type":"content","content":"{text}"}}\n\n'.encode()


DONE = b'id: 7-4\ndata: {"type":"done","finish_reason":"stop"}\n\ndata: [DONE]\n\n'


def says(*blocks: bytes, hangs: bool = False) -> Answer:
    """Say these blocks, and then end, or say nothing any more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for block in blocks:
            await response.write(block)
        if hangs:
            await asyncio.Event().wait()
        return response

    return answer


def sends(*texts: bytes, hangs: bool = False) -> Answer:
    """Send these as text frames of a WebSocket, and then close it, or say nothing any more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for text in texts:
            await socket.send_frame(text, web.WSMsgType.TEXT)
        if hangs:
            await asyncio.Event().wait()
        return socket

    return answer


def page(text: str | bytes, code: int = 200) -> Answer:
    """Answer with a page, as a proxy that wants a login does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = text.encode() if isinstance(text, str) else text
        return web.Response(body=body, status=code, content_type="text/html")

    return answer


def status(code: int, **headers: str) -> Answer:
    """Answer with a status."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return answer


class Liar:
    """Where it is, and what it was asked: method, path and cursor, the keys of starts, credentials."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, str | None]] = []
        self.keys: list[str] = []
        self.credentials: set[str | None] = set()
        self._answers = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.headers.get("Last-Event-ID")))
        self.credentials.add(request.headers.get("Authorization"))
        if key := request.headers.get("Idempotency-Key"):
            self.keys.append(key)
        last = len(self._answers) == 1
        return await (self._answers[0] if last else self._answers.pop(0))(request)


@asynccontextmanager
async def lying(*answers: Answer) -> AsyncIterator[Liar]:
    """Serve; the last answer is given for ever."""
    liar = Liar(answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", liar.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    liar.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield liar
    await runner.cleanup()
