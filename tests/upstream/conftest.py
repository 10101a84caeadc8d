"""A fake model server on a real socket, and clients of more or less patience."""

import pytest
from aiohttp import web

from server.upstream.openai import OpenAI
from tests.fake_upstream import fake_app, stats_of


@pytest.fixture
async def fake():
    app = fake_app()
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", stats_of(app)
    await runner.cleanup()


@pytest.fixture
async def client():
    client = OpenAI(stall=0.3, first_token=1.0)
    yield client
    await client.aclose()


@pytest.fixture
async def patient():
    client = OpenAI(stall=0.3, first_token=30)
    yield client
    await client.aclose()
