"""What the tests of upstreams share: a request, and its whole run."""

import asyncio
from contextlib import aclosing

from server.errors import UpstreamFailed
from server.events import Content
from server.upstream import Request
from server.upstream.openai import Server

KEY = "sk-very-secret"


def request(prompt="hi", **parameters):
    return Request("m", [{"role": "user", "content": prompt}], parameters)


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


async def drain(client, fake, **parameters):
    """Return what the fake server gives with these parameters, and the failure or None."""
    upstream = client.upstream(Server(fake[0], KEY))
    tray = Tray()
    try:
        tray.push(await upstream(request(**parameters), tray))
    except UpstreamFailed as error:
        return tray.events, error
    return tray.events, None


def text(events):
    return "".join(e.content for e in events if isinstance(e, Content))
