"""What the tests of upstreams share: a request, its whole run, and leaving one."""

import asyncio
from contextlib import aclosing

import pytest

from server.errors import UpstreamFailed
from server.events import Content
from server.upstream import Request
from tests.raw_server import raw_server

KEY = "sk-very-secret"
STALL, FIRST_TOKEN = 0.5, 2.0
"""Seconds that a client waits for a token, and for the first one."""
LATE = 0.8
"""Seconds that are too many between tokens, and not before the first."""
NOWHERE = ("http://127.0.0.1:1", "http://no-such-host.invalid")


def request(prompt="hi", **parameters):
    return Request("m", [{"role": "user", "content": prompt}], parameters)


def client_of(kind, first_token=FIRST_TOKEN):
    """Return the fixture of a client."""

    @pytest.fixture
    async def client():
        async with aclosing(kind(stall=STALL, first_token=first_token)) as client:
            yield client

    return client


def server_of(script):
    """Return the fixture of a server that answers so."""

    @pytest.fixture
    async def server():
        async with raw_server(script) as server:
            yield server

    return server


class Tray:
    """A feed that keeps what it gets, and is full while `shut`."""

    def __init__(self):
        self.events = []
        self.pushed = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    def push(self, event):
        self.events.append(event)
        self.pushed.set()

    @property
    def full(self):
        return not self.open.is_set()

    async def room(self):
        await self.open.wait()


async def run(source, asked=None):
    """Return all that a source gives."""
    async with aclosing(source(asked or request())) as events:
        return [event async for event in events]


async def outcome(upstream, **parameters):
    """Return what an upstream gives for these parameters, and the failure or None."""
    tray = Tray()
    try:
        tray.push(await upstream(request(**parameters), tray))
    except UpstreamFailed as error:
        return tray.events, error
    return tray.events, None


async def leave(upstream, full, **parameters):
    """Break off a run that would go on, while its feed is `full` or not."""
    tray = Tray()
    reading = asyncio.create_task(upstream(request(**parameters), tray))
    await tray.pushed.wait()
    if full:
        tray.open.clear()
        tray.pushed.clear()
        await tray.pushed.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


def text(events):
    return "".join(e.content for e in events if isinstance(e, Content))
