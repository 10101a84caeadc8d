"""What the tests of upstreams share: a request, and its whole run."""

from contextlib import aclosing

from server.errors import UpstreamFailed
from server.events import Content
from server.upstream import Request
from server.upstream.openai import Server

KEY = "sk-very-secret"


def request(prompt="hi", **parameters):
    return Request("m", [{"role": "user", "content": prompt}], parameters)


async def run(upstream, asked=None):
    """Return all that an upstream gives."""
    async with aclosing(upstream(asked or request())) as events:
        return [event async for event in events]


async def drain(client, fake, **parameters):
    """Return what the fake server gives with these parameters, and the failure or None."""
    upstream = client.upstream(Server(fake[0], KEY))
    events = []
    try:
        async with aclosing(upstream(request(**parameters))) as stream:
            async for event in stream:
                events.append(event)
    except UpstreamFailed as error:
        return events, error
    return events, None


def text(events):
    return "".join(e.content for e in events if isinstance(e, Content))
