"""Clients of more or less patience."""

from contextlib import aclosing

import pytest

from server.upstream.openai import OpenAI
from tests.upstream.runs import FIRST_TOKEN, STALL


@pytest.fixture
async def client():
    async with aclosing(OpenAI(stall=STALL, first_token=FIRST_TOKEN)) as client:
        yield client


@pytest.fixture
async def patient():
    async with aclosing(OpenAI(stall=STALL, first_token=30)) as client:
        yield client
