"""Model servers of every kind behind a real server, from its settings to its clients."""

import base64
import os
import subprocess
import sys

import pytest

from tests import clients
from tests.clients import collect, start, text_of
from tests.processes import ROOT
from tests.raw_server import CHUNKED, chunk, chunks, head, raw_server
from tests.upstream import messages
from tests.waiting import until

WORDS = ("Hel", "lo é🙂", "\n\nevent: done\ndata: {}")
SOUND = bytes(range(256)) * 2000
CONFIG = """
[models.claude]
upstream = "anthropic"
base_url = "{url}"
model = "claude-x"

[models.llama]
upstream = "http"
base_url = "{url}/run/llama?key=sk-query"
api_key_env = "WORKERS_KEY"

[models.speech]
upstream = "http"
base_url = "{url}/speech"
method = "GET"

[models.local]
base_url = "{url}/v1"

[models.endless]
upstream = "http"
base_url = "{url}/endless"
"""


def _endless():
    yield head("text/plain", CHUNKED)
    while True:
        yield chunk(b"x")


def _script(_, asked):
    path = asked.line.split()[1]
    if path == "/v1/messages":
        return [
            head("text/event-stream", CHUNKED),
            *chunks(messages.stream(messages.text(0, *WORDS)), 11),
        ]
    if path == "/speech":
        return [head("audio/mpeg", b"Content-Length: %d" % len(SOUND)), SOUND]
    if path == "/endless":
        return _endless()
    return [head("application/json", b"Content-Length: 6", status=401), b"sk-bad"]


@pytest.fixture
async def model_server():
    async with raw_server(_script) as server:
        yield server


@pytest.fixture
def config(model_server, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("WORKERS_KEY", "sk-workers")
    path = tmp_path / "tokenwire.toml"
    path.write_text(CONFIG.format(url=model_server.url))
    return path


@pytest.fixture
async def node(make_process, config):
    return await make_process(config=config, max_tokens=5000, drain=0.2)


async def test_each_kind_of_server_is_asked_with_its_own_key_and_no_other(node, http, model_server):
    events = await collect(clients.sse(http, node, await start(http, node, model="claude")))
    assert text_of(events) == "".join(WORDS)
    assert (events[-1]["finish_reason"], events[-1]["usage"]) == ("stop", messages.USAGE)
    await collect(clients.sse(http, node, await start(http, node, model="llama")))
    await collect(clients.sse(http, node, await start(http, node, model="speech")))
    await collect(clients.sse(http, node, await start(http, node, model="local")))
    claude, llama, speech, local = model_server.asked
    assert (claude.body["model"], claude.headers["x-api-key"]) == ("claude-x", "sk-anthropic")
    assert (llama.body["model"], llama.headers["authorization"]) == ("llama", "Bearer sk-workers")
    assert local.line.split()[1] == "/v1/chat/completions"
    assert "sk-" not in str((speech, local))
    assert "sk-openai" not in str(model_server.asked)


async def test_a_refusal_says_nothing_of_what_was_said(node, http):
    (event,) = await collect(clients.sse(http, node, await start(http, node, model="llama")))
    assert (event["code"], event["status"], "sk-" in str(event)) == ("upstream_rejected", 401, False)


async def test_bytes_are_bytes_at_the_other_end(node, http):
    sid = await start(http, node, model="speech")
    events = await collect(clients.ndjson(http, node, sid))
    assert b"".join(base64.b64decode(e["data"]) for e in events if e["type"] == "bytes") == SOUND
    assert events[-1]["type"] == "done"
    async with http.get(node.url(f"/v1/sessions/{sid}/raw")) as response:
        assert (response.content_type, await response.read()) == ("audio/mpeg", SOUND)


async def test_what_never_ends_is_ended_by_the_limit(node, http, model_server):
    sid = await start(http, node, model="endless")
    events = await collect(clients.sse(http, node, sid))
    assert (events[-1]["type"], events[-1]["reason"]) == ("aborted", "limit")
    await until(lambda: model_server.closed == 1)


def test_the_settings_are_shown_without_a_key(config):
    command = [sys.executable, "run.py", "check-config", f"--config={config}"]
    shown = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert (shown.returncode, "sk-" in shown.stdout + shown.stderr) == (0, False)
    assert "/speech" in shown.stdout
