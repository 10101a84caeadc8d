"""Each client streams, survives a cut or says that it did not, aborts, and shows a failure as one."""

import asyncio

import orjson
import pytest

from tests.fake_upstream import expected_text
from tests.matrix import trial
from tests.matrix.table import CLIENTS

_FAILED = trial.TRIALS["fails"]["tokens"]


@pytest.fixture(scope="module")
def outcomes(shared_redis):
    """Each client's four outcomes, once for all tests of them."""
    found: dict[str, dict[str, trial.Outcome]] = {}

    def of(client):
        if client.script not in found:
            found[client.script] = asyncio.run(_alone(client, shared_redis.url))
        return found[client.script]

    return of


async def _alone(client, redis_url):
    async with trial.site(redis_url) as where:
        return await trial.trials(client, where)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.script)
def test_a_client_streams_is_cut_aborts_and_fails_in_its_own_words(outcomes, client):
    told = outcomes(client)
    streams, resumes, aborts, fails = (told[name] for name in trial.TRIALS)
    assert (streams.end, streams.text) == ("done", streams.whole)

    assert resumes.cuts == 1
    if client.lost is None:
        assert (resumes.end, resumes.text) == ("done", resumes.whole)
    else:
        assert resumes.end == client.lost
        assert resumes.whole.startswith(resumes.text)
        assert resumes.text != resumes.whole

    assert aborts.end == client.aborted
    assert aborts.whole.startswith(aborts.text)
    assert aborts.closed["closed_by_peer"]

    assert (fails.end, fails.text) == (client.failed, expected_text(fails.seed, _FAILED))


def _data(body):
    lines = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    return [orjson.loads(line) for line in lines if line != "[DONE]"]


READINGS = {
    "/v1/sessions/{sid}/events": lambda e: e["content"] if e.get("type") == "content" else "",
    "/v1/sessions/{sid}/events?format=openai": lambda e: e["choices"][0]["delta"].get("content") or "",
    "/v1/responses/{sid}?stream=true": lambda e: (
        e["delta"] if e["type"] == "response.output_text.delta" else ""
    ),
    "/v1/sessions/{sid}/events?format=ai-sdk": lambda e: e["delta"] if e["type"] == "text-delta" else "",
}


async def _read(http, url, text_of):
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return "".join(text_of(event) for event in _data((await answer.read()).decode()))


async def _socket(http, url):
    text = ""
    async with http.ws_connect(url) as socket:
        async for message in socket:
            event = orjson.loads(message.data)
            text += event["content"] if event["type"] == "content" else ""
    return text


async def test_a_session_read_in_five_ways_at_once_is_one_text(redis_server, http):
    async with trial.site(redis_server.url) as where:
        bases = [f"http://127.0.0.1:{port}" for port in where.ports]
        body = {"model": "m", "input": "hi", "background": True, "seed": "a", "tokens": 80, "rate": 100}
        async with http.post(f"{bases[0]}/v1/responses", json=body) as answer:
            id = (await answer.json())["id"]
        sid = id.removeprefix("resp_")
        readers = []
        for base in bases:
            for path, text_of in READINGS.items():
                name = id if "responses" in path else sid
                readers.append(_read(http, base + path.format(sid=name), text_of))
            readers.append(_socket(http, f"{base}/v1/sessions/{sid}/ws"))
        assert await asyncio.gather(*readers) == [expected_text("a", 80)] * 10
