"""Three nodes behind nginx: whoever can go on goes on, whatever befalls them; the rest is told."""

import asyncio

import aiohttp
import pytest

from tests.matrix.table import CLIENTS
from tests.ops.fleet import EVENTS, NEW, fleet
from tests.ops.nginx import BINARY
from tests.ops.rounds import held

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs nginx")

# One of each kind; `python -m tests.ops.front` has all of them, the browser's too.
SCRIPTS = ("openai_chat.py", "httpx_sse_events.py", "websockets_client.py", "ai_websocket.mjs")
SOME = [client for client in CLIENTS if client.script in SCRIPTS]


@pytest.fixture(scope="module")
def told(shared_redis, tmp_path_factory):
    """Each event's round; the page that is served in the end; once for all tests."""

    async def rounds():
        async with fleet(tmp_path_factory.mktemp("fleet"), shared_redis.url) as where:
            found = {event: await held(where, SOME, event) for event in EVENTS}
            async with aiohttp.ClientSession() as http, http.get(where.url) as answer:
                return found, await answer.read()

    return asyncio.run(rounds())


@pytest.mark.parametrize("client", SOME, ids=lambda client: client.script)
@pytest.mark.parametrize("event", EVENTS)
def test_who_can_go_on_has_the_whole_text_and_who_cannot_says_so(told, event, client):
    reading = told[0][event].readings[client]["goes_on"]
    # A chat completion has no way back: cut off, or told that its node ended.
    end = {"kill": client.lost, "reload": client.failed, "upgrade": client.failed}.get(event)
    if client.lost is None or end is None:
        assert (reading.end, reading.text) == ("done", reading.whole)
    else:
        assert reading.end == end
        assert reading.whole.startswith(reading.text)


@pytest.mark.parametrize("client", SOME, ids=lambda client: client.script)
def test_without_a_takeover_a_lost_worker_is_an_error_to_everybody(told, client):
    reading = told[0]["kill"].readings[client]["ends"]
    assert reading.end == (client.lost or client.failed)
    assert reading.whole.startswith(reading.text)


@pytest.mark.parametrize("event", EVENTS)
def test_meanwhile_sessions_are_started(told, event):
    asked = told[0][event].asked
    assert asked[201] > 10
    # What a worker that goes was just being asked may have begun: it is not asked again elsewhere.
    assert set(asked) <= ({201, 502} if event in ("kill", "reload") else {201})
    assert asked[502] < 10


def test_the_new_version_is_there_in_the_end(told):
    assert told[1].endswith(NEW)
