"""`/metrics`: what Prometheus reads, from a real server."""

import asyncio
import json
import re
import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.counts import COUNTS
from server.ops import metrics
from server.session.state import Action
from tests.clients import Socket, collect, sse, start
from tests.processes import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture
async def watched(make_node):
    """A node and a function that reads its metrics: name and labels → value."""
    server, port = await make_node(), free_port()
    async with metrics.served("127.0.0.1", port, server.node.levels, "1.2.3", patient=False):
        yield server, lambda http: scrape(http, port)


async def scrape(http: aiohttp.ClientSession, port: int) -> dict[str, float]:
    async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return values


def risen(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return what has changed, without buckets, sums and what is not ours."""
    names = [n for n in after if n.startswith("tokenwire_") and not re.search("_bucket|_sum|_created", n)]
    return {n: after[n] - before.get(n, 0) for n in names if after[n] != before.get(n, 0)}


async def test_a_session_shows_in_the_counts(watched, http):
    server, read = watched
    before = await read(http)
    sid = await start(http, server, tokens=5, rate=0)
    await collect(sse(http, server, sid))
    changed = risen(before, await read(http))
    entries = changed["tokenwire_entries_total"]
    assert 1 <= entries <= 6
    assert 1 <= changed["tokenwire_commit_seconds_count"] <= 6
    wanted = {
        "tokenwire_sessions_started_total": 1,
        "tokenwire_events_total": 6,
        "tokenwire_first_token_seconds_count": 1,
        "tokenwire_viewers_ended_total{why=final}": 1,
        "tokenwire_sessions_ended_total{status=done,why=}": 1,
        "tokenwire_writers_over_total{why=written}": 1,
        "tokenwire_sessions{state=lingering}": 1,
    }
    assert {name: changed.get(name) for name in wanted} == wanted


async def test_pauses_aborts_viewers_and_refusals_are_counted(watched, http):
    server, read = watched
    before = await read(http)
    sid = await start(http, server, tokens=5000, rate=100)
    async with http.ws_connect(server.url("/v1/ws")) as ws:
        socket_ = Socket(ws)
        await socket_.ask("attach", session=sid)
        await socket_.ask("pause", session=sid)
        await socket_.ask("nonsense")
        async with http.get(server.url("/v1/sessions/nobody")) as answer:
            assert answer.status == 404
        paused = risen(before, await read(http))
        await socket_.ask("abort", session=sid)
    changed = risen(before, await read(http))
    levels = {"tokenwire_sessions{state=paused}": 1, "tokenwire_viewers{format=websocket}": 1}
    assert {name: paused.get(name) for name in levels} == levels
    wanted = {
        "tokenwire_controls_total{action=pause}": 1,
        "tokenwire_controls_total{action=abort}": 1,
        "tokenwire_upstream_close_seconds_count": 1,
        "tokenwire_errors_total{code=unknown_type}": 1,
        "tokenwire_errors_total{code=not_found}": 1,
    }
    assert {name: changed.get(name) for name in wanted} == wanted


async def test_a_healed_log_and_a_lost_connection_are_counted(make_node, own_redis, http):
    server = await make_node(redis_url=own_redis.url)
    heals, lost = COUNTS.heals, COUNTS.lost_connections
    sid = await start(http, server, tokens=40, rate=100)
    stream = sse(http, server, sid)
    await anext(stream)
    own_redis.kill()
    own_redis.start()
    events = await collect(stream)
    assert events[-1]["type"] == "done"
    assert COUNTS.heals > heals
    assert COUNTS.lost_connections > lost


async def test_no_label_holds_an_id(watched, http):
    server, read = watched
    sid = await start(http, server, tokens=5000, rate=100, session={"conversation": "chat-17"})
    async with http.get(server.url(f"/v1/sessions/{'x' * 30}")):
        pass
    names = "\n".join(await read(http))
    assert sid not in names
    assert "chat-17" not in names
    assert "x" * 30 not in names
    await server.node.control(sid, Action.ABORT)


async def test_a_patient_page_waits_for_its_port(make_node, http):
    server = await make_node()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with metrics.served("127.0.0.1", port, server.node.levels, "1", patient=False):
                pass
        waiting = metrics.served("127.0.0.1", port, server.node.levels, "1", patient=True)
        await waiting.__aenter__()
    while True:
        try:
            assert "tokenwire_info{version=1}" in await scrape(http, port)
            break
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.02)
    await waiting.__aexit__(None, None, None)


async def test_dashboard_and_alerts_ask_only_for_what_there_is(watched, http):
    server, _ = watched
    page = metrics.text(metrics.registry(server.node.levels, "1")).decode()
    kinds = dict(re.findall(r"# TYPE (\w+) (\w+)", page))
    there = {
        f"{n}_{part}" for n in kinds if kinds[n] == "histogram" for part in ("bucket", "sum", "count")
    }
    board = json.loads((DEPLOY / "grafana" / "tokenwire.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries.append((DEPLOY / "prometheus" / "alerts.yml").read_text())
    asked = {name for query in queries for name in re.findall(r"\b(?:tokenwire|process)_\w+", query)}
    assert len(asked) >= 20
    assert asked - there - kinds.keys() == set()
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
