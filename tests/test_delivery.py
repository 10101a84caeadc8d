"""One stream, every transport: whole, in order, resumable anywhere."""

import asyncio
import random
from itertools import pairwise

import pytest
from aiohttp import web

from tests import clients, sources
from tests.clients import collect, seqs, start, text_of

READERS = {"sse": clients.sse, "ndjson": clients.ndjson, "ws": clients.ws}


@pytest.fixture
async def pair(make_node):
    """Two nodes over one Redis."""
    return [await make_node({"paced": sources.paced}) for _ in range(2)]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("where", [0, 1])
async def test_each_transport_on_each_node_gets_the_whole_stream(pair, http, reader, where):
    sid = await start(http, pair[0], prompt="p", tokens=200, rate=400)
    events = await collect(READERS[reader](http, pair[where], sid))
    assert text_of(events) == sources.text("p", 200)
    assert seqs(events) == list(range(1, 202))
    assert events[-1] == {"id": events[-1]["id"], "type": "done", "finish_reason": "stop",
                          "usage": {"completion_tokens": 200}}  # fmt: skip


async def _wander(http, nodes, sid, dice):
    """Read a session in short visits, each on another transport and node."""
    events: list = []
    while not events or events[-1]["type"] != "done":
        reader, node = READERS[dice.choice(sorted(READERS))], dice.choice(nodes)
        after = events[-1]["id"] if events else None
        events += await collect(reader(http, node, sid, after), count=dice.randint(1, 40))
    return events


async def test_a_client_that_wanders_over_transports_and_nodes_gets_every_token_once(pair, http):
    names = [f"w{i}" for i in range(8)]
    sids = [await start(http, pair[i % 2], prompt=n, tokens=300, rate=150) for i, n in enumerate(names)]
    walks = [_wander(http, pair, sid, random.Random(sid)) for sid in sids for _ in range(2)]
    for place, events in enumerate(await asyncio.gather(*walks)):
        assert text_of(events) == sources.text(names[place // 2], 300)
        assert all(b == a + 1 for a, b in pairwise(seqs(events)))


async def test_a_cursor_at_the_end_is_answered_204(pair, http):
    sid = await start(http, pair[0], prompt="p", tokens=3)
    events = await collect(clients.sse(http, pair[1], sid))
    url = pair[0].url(f"/v1/sessions/{sid}/events")
    async with http.get(url, headers={"Last-Event-ID": events[-1]["id"]}) as response:
        assert response.status == 204
    missing = await collect(clients.sse(http, pair[0], sid, after=events[1]["id"]))
    assert missing == events[2:]


async def test_a_session_notice_comes_before_the_first_token(make_node, http):
    source = sources.Stepped()
    node = await make_node({"s": source})
    sid = await start(http, node)
    stream = clients.sse(http, node, sid)
    notice = await anext(stream)
    assert notice["type"] == "session"
    assert notice["facts"] | {"epoch": 0} == {
        "id": sid, "status": "running", "epoch": 0, "seq": 0, "paused": False, "gate": None,
        "model": "s",
    }  # fmt: skip
    source.step("a")
    source.finish()
    assert text_of(await collect(stream)) == "a"


async def test_start_and_stream_in_one_response_as_text(pair, http):
    body = {"prompt": "t", "tokens": 40}
    async with http.post(pair[0].url("/v1/sessions?stream=text"), json=body) as response:
        assert await response.text() == sources.text("t", 40)
        sid = response.headers["X-Session-Id"]
    async with http.get(pair[1].url(f"/v1/sessions/{sid}")) as response:
        session = await response.json()
    assert session["text"] == sources.text("t", 40)
    assert (session["status"], session["seq"]) == ("done", 41)


async def test_merged_delivery_gives_the_same_text_in_fewer_events(pair, http):
    sid = await start(http, pair[0], prompt="m", tokens=200)
    await collect(clients.sse(http, pair[0], sid))
    events = await collect(clients.sse(http, pair[1], sid, query="?delivery=merged"))
    assert text_of(events) == sources.text("m", 200)
    assert sum(e.get("n", 1) for e in events) == 201
    assert len(events) < 10


async def test_the_one_shot_stream_resumes_by_its_own_ids(pair, http):
    url = "/v1/stream?prompt=o&model=paced"
    async with http.get(pair[0].url(url)) as response:
        body = await response.text()
    ids = [line[4:] for line in body.split("\n") if line.startswith("id: ")]
    assert len(ids) == 22  # the first is with the notice: who drops before a token has it
    async with http.get(pair[1].url(url), headers={"Last-Event-ID": ids[9]}) as response:
        rest = await response.text()
    assert [line[4:] for line in rest.split("\n") if line.startswith("id: ")] == ids[9:]
    async with http.get(pair[1].url(url), headers={"Last-Event-ID": ids[-1]}) as response:
        assert response.status == 204


async def test_fifty_posts_with_one_idempotency_key_are_one_session(pair, http):
    headers = {"Idempotency-Key": "k1"}

    async def post(n):
        async with http.post(pair[n % 2].url("/v1/sessions"), json={"prompt": "i"}, headers=headers) as r:
            return r.status, (await r.json())["id"]

    answers = await asyncio.gather(*(post(n) for n in range(50)))
    assert sorted(status for status, _ in answers) == [200] * 49 + [201]
    assert len({sid for _, sid in answers}) == 1
    async with http.post(pair[0].url("/v1/sessions"), json={"prompt": "other"}, headers=headers) as r:
        assert (r.status, (await r.json())["error"]["code"]) == (409, "idempotency_conflict")


async def test_models_are_those_of_settings_and_upstream(make_node, http, aiohttp_server):
    async def models(request):
        return web.json_response({"object": "list", "data": [{"id": "big"}, {"id": "small"}]})

    upstream = web.Application()
    upstream.router.add_get("/v1/models", models)
    server = await aiohttp_server(upstream)
    node = await make_node(upstream=str(server.make_url("/v1")), model=None)
    async with http.get(node.url("/v1/models")) as response:
        assert [m["id"] for m in (await response.json())["data"]] == ["big", "demo", "small"]
    async with http.post(node.url("/v1/sessions"), json={"prompt": "x"}) as response:
        assert response.status == 400
