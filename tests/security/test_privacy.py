"""Prompts, answers, keys and tickets are in no log and in no error."""

import asyncio
import base64
import logging
import time
from contextlib import aclosing

import pytest

from server.callers import Right
from server.ops import metrics
from server.settings import Settings
from server.sources import Loaded, as_toml
from server.transport.bodies import digest_of
from tests import sources
from tests.clients import Socket
from tests.inspect.reader import seconds, session_of, until
from tests.processes import free_port
from tests.security.people import KEYS, LINES, SECRET, bearer, signed, ticket
from tests.waiting import HANG

HUSH = "hush-3c1f"
FAILED_LINE = b"GET /\x00" + HUSH.encode() + b" HTTP/1.1\r\nAuthorization: " + HUSH.encode() + b"\r\n\r\n"


async def failing(request):
    yield sources.Content(HUSH)
    raise RuntimeError(f"could not say {HUSH} to {request.prompt}")


async def _use(node, http) -> list[str]:
    """Do what anybody does and much that nobody should; return all that was answered."""
    told, sid = [], ""
    alice = bearer("alice") | {"Referer": f"https://a/{HUSH}"}
    for headers, data in (
        (alice, f'{{"prompt":"{HUSH}"}}'),
        (alice, f'{{"prompt":"{HUSH}'),
        (alice, f'["{HUSH}"]'),
        (alice, f'{{"prompt":"{HUSH}","session":{{"ttl":"{HUSH}"}}}}'),
        (alice, f'{{"prompt":"{HUSH}","model":["{HUSH}"]}}'),
        (alice | {"Idempotency-Key": f"{HUSH}"}, f'{{"prompt":"{HUSH}"}}'),
        ({"Authorization": f"Bearer tw_{HUSH}"}, "{}"),
        ({"Authorization": f"Bearer {HUSH}.{HUSH}.{HUSH}"}, "{}"),
    ):
        async with http.post(node.url("/v1/sessions"), data=data, headers=headers) as response:
            body = await response.json()
            told.append(str(body.get("error", "")))
            sid = body.get("id") or sid
    stale = signed(ticket(sid, Right.READ, at=time.time() - 100))
    events = f"/v1/sessions/{sid}/events"
    queries = (f"after={HUSH}", f"ticket={stale}", f"stream={HUSH}", f"delivery={HUSH}")
    for path in (f"/{HUSH}", f"/v1/sessions/{HUSH}", *(f"{events}?{query}" for query in queries)):
        async with http.get(node.url(path), headers=alice) as response:
            assert response.status >= 400
            told.append(await response.text())
    async with http.get(node.url(f"{events}?stream=ndjson"), headers=alice) as response:
        told.append((await response.text()).splitlines()[-1])
    async with http.ws_connect(node.url("/v1/ws"), headers=alice) as ws:
        await ws.send_str(f'{{"type":"{HUSH}"')
        told.append((await ws.receive(HANG)).data)
        told.append(str(await Socket(ws).ask("attach", session=HUSH)))
        await ws.send_bytes(HUSH.encode())
        await ws.send_str(HUSH * 10_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(FAILED_LINE)
    await reader.read()
    writer.close()
    return told


async def test_nothing_that_was_said_is_in_a_log_or_an_error(make_node, http, caplog):
    caplog.set_level(logging.DEBUG)
    node = await make_node({"failing": failing}, keys=LINES, secret=SECRET, log_level="debug")
    told = await _use(node, http)
    assert "an upstream raised: RuntimeError" in caplog.text
    assert "test_privacy.py" in caplog.text
    for secret in (HUSH, *KEYS.values(), SECRET):
        assert secret not in caplog.text
        assert secret not in "\n".join(told)


async def _show(node, http, key: str, jwt: str) -> tuple[str, str]:
    """Show each kind of credential in each of its places; return the session and its ticket."""
    sessions = node.url("/v1/sessions")
    async with http.post(sessions, json={"prompt": "x"}, headers=bearer("alice")) as response:
        sid = (await response.json())["id"]
    wanted = {"json": {"rights": ["read", "control"]}, "headers": bearer("alice")}
    async with http.post(f"{sessions}/{sid}/tickets", **wanted) as response:
        ticket = (await response.json())["ticket"]
    for credential in (key, jwt):
        async with http.get(
            f"{sessions}/{sid}", headers={"Authorization": f"Bearer {credential}"}
        ) as response:
            assert response.status in (200, 404)  # nobody else's session, but known
        async with http.get(
            f"{sessions}/{sid}", headers={"Cookie": f"tokenwire={credential}"}
        ) as response:
            assert response.status in (200, 404)
        async with http.ws_connect(node.url("/v1/ws")) as ws:
            assert (await Socket(ws).ask("auth", token=credential))["ok"]
    async with http.get(f"{sessions}/{sid}/events?ticket={ticket}") as response:
        assert response.status == 200
    async with http.ws_connect(node.url("/v1/ws"), protocols=("tokenwire.v1", f"ticket.{ticket}")) as ws:
        assert (await Socket(ws).ask("pause", session=sid))["ok"]
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        assert (await Socket(ws).ask("auth", ticket=ticket))["ok"]
        assert (await Socket(ws).ask("attach", session=sid))["ok"]
    return sid, ticket


async def test_no_credential_is_in_a_metric_a_log_or_what_operators_see(make_node, http, caplog):
    pyjwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
    caplog.set_level(logging.DEBUG)
    source, port = sources.Stepped(), free_port()
    settings = {"keys": LINES, "secret": SECRET, "jwt_secret": "j" * 32, "log_level": "debug"}
    node = await make_node({"stepped": source}, **settings)
    claims = {"sub": "ann", "exp": time.time() + 60, "scope": "read"}
    jwt = pyjwt.encode(claims, settings["jwt_secret"])
    served = metrics.served("127.0.0.1", port, node.node.levels, "1", patient=False)
    inspected = seconds(http, node, headers=bearer("operator"))
    async with served, aclosing(inspected) as stream:
        sid, ticket = await _show(node, http, KEYS["alice"], jwt)
        second, _ = await until(stream, session_of(sid))
        async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
            page = await response.text()
    source.finish()
    assert "tokenwire_sessions_started_total" in page
    assert sid in str(second)
    assert caplog.records
    hashes = [line.rpartition(":")[2] for line in LINES]
    pieces = [piece for text in (jwt, ticket) for piece in text.split(".")[1:]]
    for secret in (*KEYS.values(), *hashes, *pieces, SECRET, settings["jwt_secret"]):
        for told in (page, str(second), caplog.text):
            assert secret not in told


async def test_a_handler_that_fails_says_where_and_not_what(make_node, http, caplog, monkeypatch):
    node = await make_node({"paced": sources.paced})

    async def broken(*_args):
        raise KeyError(HUSH) from ValueError(HUSH)

    monkeypatch.setattr(node.node, "session", broken)
    async with http.get(node.url(f"/v1/sessions/{'s' * 32}")) as response:
        assert (response.status, HUSH in await response.text()) == (500, False)
    assert "a handler failed: KeyError" in caplog.text
    assert "after ValueError" in caplog.text
    assert HUSH not in caplog.text


async def test_a_command_that_fails_says_where_and_not_what(make_node, http, caplog, monkeypatch):
    node = await make_node({"paced": sources.paced})

    async def broken(*_args):
        raise KeyError(HUSH)

    monkeypatch.setattr(node.node, "control", broken)
    async with http.ws_connect(node.url("/v1/ws")) as ws:
        refused = await Socket(ws).ask("pause", session="s" * 32)
        assert refused["error"]["code"] == "internal_error"
    assert "a command failed: KeyError" in caplog.text
    assert HUSH not in caplog.text


async def test_what_redis_has_of_a_request_is_no_guess_without_the_secret(make_node, http, redis_server):
    nodes = [await make_node({"paced": sources.paced}, secret=s) for s in (SECRET, SECRET, "o" * 32)]
    body = {"prompt": HUSH}
    client = redis_server.client()
    marks = []
    for number, key in ((0, "k"), (1, "k"), (0, "other"), (2, "k")):
        url, headers = nodes[number].url("/v1/sessions"), {"Idempotency-Key": key}
        async with http.post(url, json=body, headers=headers) as response:
            marks.append(client.hget(f"tw:{{{(await response.json())['id']}}}:m", "digest").decode())
    client.close()
    assert (marks[0] == marks[1], len(set(marks))) == (True, 3)
    assert digest_of(body) not in marks


async def test_with_a_key_what_a_response_repeats_of_its_request_is_sealed(make_node, http, redis_server):
    node = await make_node({"paced": sources.paced}, log_keys=f"1:{base64.b64encode(bytes(32)).decode()}")
    body = {"input": HUSH, "instructions": HUSH, "metadata": {"a": HUSH}, "text": {"verbosity": HUSH}}
    async with http.post(node.url("/v1/responses"), json=body) as response:
        assert (await response.json())["instructions"] == HUSH
    client = redis_server.client()
    kept = b"".join(client.dump(key) for key in client.scan_iter("*"))
    client.close()
    assert (HUSH.encode() in kept, len(kept) > 500) == (False, True)


@pytest.mark.parametrize("kind", ["jwt_secret", "secret", "api_key", "log_keys"])
def test_settings_show_no_secret(kind):
    settings = Settings(**{kind: HUSH * 4})
    assert HUSH not in repr(settings)
    assert HUSH not in as_toml(Loaded(settings, {}))
