"""A line of the log says what it is about, in text and in JSON."""

import asyncio
import contextvars
import functools
import json
import logging
import re
import subprocess
import sys

import pytest

from server.ops.logs import JsonLines, TextLines, tell_failure
from server.trail import REQUEST, SESSION
from tests.clients import start
from tests.processes import ROOT
from tests.waiting import HANG

UNHEARD = """
import asyncio, gc, os, signal, sys, uvloop
from server import cli
from server.ops import logs
from server.settings import Settings

async def failing(word):
    raise ValueError(word)

def broken(word):
    raise KeyError(word)

def announce(port):
    loop, word = asyncio.get_running_loop(), sys.argv[3]
    loop.create_task(failing(word))
    loop.call_later(0.01, broken, word)
    loop.call_later(0.1, end)

def end():
    gc.collect()
    os.kill(os.getpid(), signal.SIGTERM)

logs.configure("info", "json")
loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
with asyncio.Runner(loop_factory=loops[sys.argv[1]]) as runner:
    runner.run(cli._node(Settings(redis=sys.argv[2], port=0, drain=0), announce))
"""
HUSH = "hush-3c1f"


def record(message: str, *values: object, failed: bool = False) -> logging.LogRecord:
    error = None
    if failed:
        try:
            raise ValueError("why")
        except ValueError:
            error = sys.exc_info()
    return logging.LogRecord("server.here", logging.WARNING, "f.py", 1, message, values, error)


@pytest.fixture
def about():
    """Run a function with a request and a session at hand."""

    def within(work):
        def run():
            REQUEST.set("r-1")
            SESSION.set("s-1")
            return work()

        return contextvars.Context().run(run)

    return within


def test_a_json_line_is_one_object_with_the_request_and_the_session(about):
    line = about(lambda: JsonLines().format(record("%d of\n%s", 2, "three", failed=True)))
    assert "\n" not in line
    told = json.loads(line)
    assert {k: told[k] for k in ("level", "logger", "message", "request", "session")} == {
        "level": "warning",
        "logger": "server.here",
        "message": "2 of\nthree",
        "request": "r-1",
        "session": "s-1",
    }
    assert told["time"].endswith("Z")
    assert told["error"].startswith("ValueError\n")
    assert "why" not in line


def test_a_line_outside_of_any_request_names_none():
    told = json.loads(contextvars.Context().run(JsonLines().format, record("x")))
    assert {"request", "session", "error"}.isdisjoint(told)


def test_a_text_line_ends_in_what_it_is_about(about):
    assert about(lambda: TextLines().format(record("x"))).endswith(
        "WARNING server.here: x request=r-1 session=s-1"
    )


def test_no_line_holds_what_an_error_says():
    assert "why" not in TextLines().format(record("x", failed=True))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_nobody_handles_is_logged_by_its_kind_and_place(loop, redis_server):
    command = [sys.executable, "-c", UNHEARD, loop, redis_server.url, HUSH]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG)
    told = [json.loads(line)["message"].split("\n")[0] for line in done.stderr.splitlines()]
    assert (done.returncode, HUSH in done.stdout + done.stderr) == (0, False)
    assert "Task exception was never retrieved in failing: ValueError" in told
    # uvloop does not say by which callback.
    assert any(re.fullmatch("Exception in callback( broken)?: KeyError", line) for line in told)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Exception in callback f('hush-3c1f') at f.py:1", "Exception in callback f: no exception"),
        ("Exception in callback <C 'hush-3c1f'>.f()", "Exception in callback: no exception"),
        ("Task was destroyed but it is pending!", "Task was destroyed but it is pending!: no exception"),
        (None, "Unhandled exception in event loop: no exception"),
    ],
)
def test_of_a_loops_words_only_those_are_logged_that_are_its_own(message, told, caplog):
    tell_failure(None, {"message": message, "handle": functools.partial(print, HUSH)})
    assert caplog.messages == [told]


@pytest.fixture
def lines():
    """Everything that is logged meanwhile, as JSON."""
    kept: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(JsonLines().format(record))

    logger, handler = logging.getLogger("server"), Keep()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_every_answer_names_its_request_and_a_sessions_end_names_both(make_node, http, lines):
    server = await make_node()
    url = server.url("/v1/sessions?stream=text")
    body = {"prompt": "a secret prompt", "tokens": 3, "rate": 0}
    async with http.post(url, json=body, headers={"X-Request-Id": "mine-1"}) as answer:
        text = await answer.text()
        sid = answer.headers["X-Session-Id"]
        assert answer.headers["X-Request-Id"] == "mine-1"
    async with http.get(server.url("/v1/models"), headers={"X-Request-Id": "a b"}) as answer:
        assert len(answer.headers["X-Request-Id"]) == 16
    told = [json.loads(line) for line in lines]
    ours = [t for t in told if t.get("request") == "mine-1"]
    facts = {(t["message"].partition(" in ")[0], t.get("session")) for t in ours}
    assert {("POST /v1/sessions 200", sid), ("ended: done -, 4 events", sid)} <= facts
    everything = "\n".join(lines)
    assert "secret prompt" not in everything
    assert text not in everything


async def test_what_outlives_a_request_does_not_bear_its_name(make_node, own_redis, http, lines):
    server = await make_node(redis_url=own_redis.url)
    await start(http, server, tokens=1)
    own_redis.kill()
    while not (bells := [line for line in lines if "doorbell: " in line]):
        await asyncio.sleep(0.01)
    own_redis.start()
    assert "request" not in json.loads(bells[0])
