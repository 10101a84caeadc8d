"""Conversations: the newest session answers to the name, and what a second prompt does is a choice."""

import asyncio
from urllib.parse import quote

import pytest

from server.errors import StoreUnavailable
from server.session.answers import Flag
from server.session.connections import RedisUrl
from server.session.follower import HEALING
from server.session.pipeline import Pipeline
from server.session.rows import KEPT, NOBODY, WHOEVER, Rows, kept, row_key
from server.session.scripts import Runner, load
from server.session.state import OnBusy, Options
from tests import sources
from tests.clients import collect, sse, text_of
from tests.redis_groups import RedisCluster
from tests.waiting import HANG


@pytest.fixture
async def runner(each_redis):
    connections = RedisUrl(each_redis.url).server()
    pipeline = Pipeline(connections.make, connections.ready)
    yield Runner(pipeline, load((await connections.facts()).flags))
    await pipeline.aclose()


@pytest.fixture
def rows(runner):
    return Rows(runner)


async def test_only_one_of_many_takes_the_place_that_all_saw(rows):
    taken = await asyncio.gather(*(rows.take("c", f"s{n}", NOBODY) for n in range(20)))
    assert [t.flag for t in taken].count(Flag.OK) == 1
    (winner,) = (f"s{n}" for n, t in enumerate(taken) if t.flag is Flag.OK)
    assert await rows.newest("c") == winner
    assert {t.other for t in taken} == {"", winner}
    again = await asyncio.gather(*(rows.take("c", f"t{n}", winner) for n in range(20)))
    assert [t.flag for t in again].count(Flag.OK) == 1


async def test_a_take_asked_again_is_answered_the_same(rows):
    await rows.take("c", "a", NOBODY)
    first = await rows.take("c", "b", WHOEVER)
    again = await rows.take("c", "b", NOBODY)
    assert (first.flag, first.other) == (again.flag, again.other) == (Flag.OK, "a")
    assert first.start == again.start


async def test_starts_rise_even_within_a_millisecond(rows):
    starts = [(await rows.take("c", f"s{n}", WHOEVER)).start for n in range(50)]
    assert starts == sorted(set(starts))


async def test_who_leaves_gives_the_place_back(rows):
    assert await rows.newest("c") is None
    await rows.take("c", "a", NOBODY)
    await rows.take("c", "b", WHOEVER)
    await rows.leave("c", "b")
    assert await rows.newest("c") == "a"


async def test_a_row_that_was_lost_is_put_back_and_never_over_a_newer_one(rows, runner, each_redis):
    first = await rows.take("c", "a", NOBODY)
    second = await rows.take("c", "b", WHOEVER)
    client = each_redis.client()
    client.flushall()
    for sid, start in (("b", second.start), ("a", first.start)):
        (note,) = kept("c", sid, start)
        await runner.ask(note.key, *note.commands())
    assert await rows.newest("c") == "b"
    assert client.ttl(row_key("c")) > 0
    assert kept(None, "a", 1) == ()
    client.close()


async def test_a_row_stays_short(rows, each_redis):
    for n in range(KEPT + 5):
        await rows.take("c", f"s{n}", WHOEVER)
    client = each_redis.client()
    assert client.zcard(row_key("c")) == KEPT
    client.close()


NAMES = ["chat-1", "{c}", "a b/ü%2F{}\n", "x" * 200]


async def prompt(http, node, name="c", **options):
    """Start a session of a conversation; return the status, the body."""
    chosen = {"conversation": name} | {k: options.pop(k) for k in ("on_busy", "ttl") if k in options}
    body = {"prompt": "x", "session": chosen} | options
    async with http.post(node.url("/v1/sessions"), json=body) as response:
        return response.status, await response.json()


async def call(http, node, method, path):
    async with http.request(method, node.url(f"/v1/conversations/{path}")) as response:
        body = await response.json() if response.status != 204 else None
        return response.status, body


@pytest.mark.parametrize("attempt", range(3))
async def test_of_two_nodes_prompts_at_once_exactly_one_is_let_through(pair, http, stepped, attempt):
    answers = await asyncio.gather(*(prompt(http, pair[n % 2]) for n in range(20)))
    assert sorted(status for status, _ in answers) == [201] + [409] * 19
    refused = [body["error"]["code"] for status, body in answers if status == 409]
    assert set(refused) == {"conversation_busy"}
    stepped.step("a")
    stepped.finish()
    (sid,) = [body["id"] for status, body in answers if status == 201]
    assert text_of(await collect(sse(http, pair[1], sid))) == "a"
    assert stepped.given == 1
    # Once it has ended, the next one may come.
    assert (await prompt(http, pair[1], model="paced"))[0] == 201


async def test_parallel_sessions_all_run_and_the_newest_answers(pair, http, stepped):
    sids = [(await prompt(http, pair[n % 2], on_busy="parallel"))[1]["id"] for n in range(3)]
    status, newest = await call(http, pair[0], "GET", "c")
    assert (status, newest["id"], newest["status"]) == (200, sids[-1], "running")
    for _ in sids:
        stepped.finish()
    for sid in sids:
        assert (await collect(sse(http, pair[0], sid)))[-1]["type"] == "done"


async def test_a_prompt_may_abort_the_one_before_it(pair, http, stepped):
    first = (await prompt(http, pair[0]))[1]["id"]
    stepped.step("a")
    await collect(sse(http, pair[1], first), count=1)
    status, second = await prompt(http, pair[1], on_busy="abort_previous", model="paced", tokens=3)
    assert status == 201
    end = (await collect(sse(http, pair[1], first)))[-1]
    assert (end["type"], end["reason"]) == ("aborted", "user")
    await stepped.closed.wait()
    assert (await collect(sse(http, pair[0], second["id"])))[-1]["type"] == "done"


async def test_of_many_that_abort_each_other_one_lives(pair, http):
    starts = (
        prompt(http, pair[n % 2], on_busy="abort_previous", model="paced", tokens=2000, rate=100)
        for n in range(10)
    )
    answers = await asyncio.gather(*starts)
    assert {status for status, _ in answers} == {201}
    sessions = []
    for _, body in answers:
        async with http.get(pair[0].url(f"/v1/sessions/{body['id']}")) as response:
            sessions.append(await response.json())
    running = [session["id"] for session in sessions if session["status"] == "running"]
    assert running == [(await call(http, pair[1], "GET", "c"))[1]["id"]]
    await call(http, pair[0], "POST", "c/abort")


@pytest.mark.parametrize("name", NAMES)
async def test_the_verbs_reach_the_newest_session_under_any_name(pair, http, stepped, name):
    path = quote(name, safe="")
    sid = (await prompt(http, pair[0], name))[1]["id"]
    paused = await call(http, pair[1], "POST", f"{path}/pause")
    assert (paused[0], paused[1]["session"], paused[1]["paused"]) == (200, sid, True)
    assert (await call(http, pair[1], "POST", f"{path}/resume"))[1]["paused"] is False
    aborted = (await call(http, pair[1], "POST", f"{path}/abort"))[1]
    assert (aborted["status"], aborted["upstream_closed"]) == ("aborted", True)
    assert (await call(http, pair[0], "GET", path))[1]["conversation"] == name
    assert await call(http, pair[1], "DELETE", path) == (204, None)
    assert (await call(http, pair[0], "GET", path))[0] == 410


@pytest.mark.parametrize("path", ["nobody", "nobody/events", "x" * 201])
async def test_an_unknown_conversation_is_404(pair, http, path):
    status, body = await call(http, pair[0], "GET", path)
    assert (status, body["error"]["code"]) == (404, "not_found")


async def _events(http, node, after=None):
    headers = {"Last-Event-ID": after} if after else {}
    async with http.get(node.url("/v1/conversations/c/events"), headers=headers) as response:
        text = await response.text()
        blocks = [block for block in text.split("\n\n") if block.startswith("id: ")]
        return response.status, text, [block.split("\n")[0][4:] for block in blocks]


async def test_a_conversations_stream_resumes_and_tells_when_a_newer_one_came(pair, http):
    first = (await prompt(http, pair[0], model="paced", tokens=5))[1]["id"]
    _, _, ids = await _events(http, pair[1])
    assert [id.partition(".")[0] for id in ids] == [first] * 6
    assert (await _events(http, pair[0], ids[2]))[2] == ids[3:]
    assert (await _events(http, pair[0], ids[-1]))[0] == 204
    assert (await _events(http, pair[0], ids[2].partition(".")[2]))[2] == ids[3:]
    second = (await prompt(http, pair[1], model="paced", tokens=2))[1]["id"]
    _, text, newer = await _events(http, pair[0], ids[2])
    assert '"reason":"superseded"' in text
    assert [id.partition(".")[0] for id in newer] == [second] * 3
    assert (await _events(http, pair[0], "x.1-2"))[0] == 400


async def test_a_start_that_fails_leaves_the_conversation_as_it_was(pair, http):
    before = (await prompt(http, pair[0], model="paced", tokens=1))[1]["id"]
    status, body = await prompt(http, pair[0], model="nobody-has-this")
    assert (status, body["error"]["code"]) == (404, "unknown_model")
    assert (await call(http, pair[1], "GET", "c"))[1]["id"] == before
    options = Options(conversation="c", on_busy=OnBusy.PARALLEL)
    with pytest.raises(StoreUnavailable):
        async with pair[0].node._conversations.place("n" * 32, options, there=False):
            assert await pair[1].node.conversation("c") == "n" * 32
            raise StoreUnavailable
    async with asyncio.timeout(HANG):
        while await pair[1].node.conversation("c") != before:
            await asyncio.sleep(0.01)


async def test_a_row_that_may_still_be_put_back_is_not_empty(
    pair, http, stepped, redis_server, monkeypatch
):
    sid = (await prompt(http, pair[0]))[1]["id"]
    client = redis_server.client()
    row = client.zrange(row_key("c"), 0, -1, withscores=True)
    client.delete(row_key("c"))
    monkeypatch.setattr(Rows, "back_for", lambda rows, name: HEALING - 1.0)
    second = asyncio.create_task(prompt(http, pair[1]))
    await asyncio.sleep(0.1)
    client.zadd(row_key("c"), dict(row))
    client.expire(row_key("c"), 60)
    client.close()
    assert (await second)[0] == 409
    assert (await call(http, pair[1], "GET", "c"))[1]["id"] == sid
    stepped.finish()


async def test_the_same_idempotency_key_is_the_same_session_of_a_busy_conversation(pair, http, stepped):
    body = {"prompt": "x", "session": {"conversation": "c"}}

    async def post(n):
        url, headers = pair[n % 2].url("/v1/sessions"), {"Idempotency-Key": "k"}
        async with http.post(url, json=body, headers=headers) as response:
            return response.status, (await response.json())["id"]

    answers = await asyncio.gather(*(post(n) for n in range(10)))
    assert sorted(status for status, _ in answers) == [200] * 9 + [201]
    assert len({sid for _, sid in answers}) == 1
    stepped.finish()


async def test_a_conversation_survives_a_redis_that_lost_it(make_node, http, own_redis, stepped):
    node = await make_node({"stepped": stepped}, redis_url=own_redis.url)
    sid = (await prompt(http, node))[1]["id"]
    stepped.step("a")
    await collect(sse(http, node, sid), count=1)
    own_redis.kill()
    own_redis.start()
    while (found := await call(http, node, "GET", "c"))[0] == 503:
        await asyncio.sleep(0.02)
    assert (found[0], found[1]["id"]) == (200, sid)
    assert (await prompt(http, node))[0] == 409
    stepped.finish()
    assert text_of(await collect(sse(http, node, sid))) == "a"


async def test_on_a_cluster_a_conversation_has_a_slot_of_its_own(make_node, http, tmp_path):
    with RedisCluster(tmp_path, replicas=0) as cluster:
        upstreams = {"paced": sources.paced}
        nodes = [await make_node(upstreams, redis_url=cluster.url) for _ in range(2)]
        for name in ("a", "b", "c", "d"):
            slow = {"tokens": 500, "rate": 50}
            answers = await asyncio.gather(*(prompt(http, nodes[n % 2], name, **slow) for n in range(6)))
            assert sorted(status for status, _ in answers) == [201] + [409] * 5
            (sid,) = [body["id"] for status, body in answers if status == 201]
            assert (await call(http, nodes[1], "GET", name))[1]["id"] == sid
            newer = (await prompt(http, nodes[0], name, on_busy="abort_previous", **slow))[1]["id"]
            assert (await collect(sse(http, nodes[1], sid)))[-1]["type"] == "aborted"
            told = (await call(http, nodes[1], "POST", f"{name}/abort"))[1]
            assert (told["session"], told["status"]) == (newer, "aborted")
