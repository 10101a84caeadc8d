"""The operator's tools, against a running server."""

import asyncio
import json

import pytest
from aiohttp import web

from server.cli import main
from server.ops.operator import printable
from tests.clients import start
from tests.processes import demo_text
from tests.security.people import KEYS, LINES


@pytest.fixture
def run(capsys):
    """Run a tool beside the server; return its exit code and what it printed."""

    async def tool(*argv: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, argv)
        return code, *capsys.readouterr()

    return tool


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\nlines\t", "plain\nlines\t"),
        ("\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?"),
        ("a\rb\x9b31m", "a?b?31m"),
        ("naïve ✓ 漢", "naïve ✓ 漢"),
    ],
)
def test_no_text_steers_the_terminal(text, shown):
    assert printable(text) == shown


async def test_a_session_is_listed_shown_followed_and_aborted(make_node, http, run):
    server = await make_node()
    url = f"--url={server.url('')}"
    short = await start(http, server, tokens=30, rate=100)
    code, out, notes = await run("tail", url, short)
    assert (code, out) == (0, await demo_text("x", 30))
    assert "[done " in notes
    endless = await start(http, server, tokens=90_000, rate=100)
    code, out, _ = await run("sessions", url)
    rows = [line.split() for line in out.splitlines()]
    assert [row[:2] for row in rows] == [["SESSION", "STATUS"], [endless, "running"], [short, "done"]]
    code, out, _ = await run("inspect", url, short)
    assert "status        done" in out.splitlines()
    assert "characters" in out
    assert await demo_text("x", 30) not in out
    code, out, _ = await run("abort", url, endless)
    assert code == 0
    assert out.startswith("aborted at ")
    assert "; upstream closed in " in out
    code, _, notes = await run("tail", url, endless)
    assert code == 1
    assert "reason=user" in notes


async def test_json_is_what_the_server_said(make_node, http, run):
    server = await make_node()
    sid = await start(http, server, tokens=5, rate=0)
    url = f"--url={server.url('')}"
    _, out, _ = await run("tail", url, "--json", sid)
    items = [json.loads(line) for line in out.splitlines()]
    assert [item["type"] for item in items] == ["session", *["content"] * 5, "done"]
    _, out, _ = await run("tail", url, "--json", "--after", items[3]["id"], sid)
    assert [json.loads(line) for line in out.splitlines()][1:] == items[4:]
    assert await run("tail", url, "--json", "--after", items[-1]["id"], sid) == (0, "", "")
    _, out, _ = await run("sessions", url, "--json")
    assert [s["id"] for s in json.loads(out)] == [sid]
    _, out, _ = await run("inspect", url, "--json", "--text", sid)
    assert json.loads(out)["text"] == await demo_text("x", 5)


async def test_a_broken_connection_is_taken_up_again(run, tmp_path):
    """A server that breaks off after each event, and once says that it is shutting down."""
    asked = []

    async def events(request: web.Request) -> web.StreamResponse:
        asked.append(request.query.get("after"))
        assert request.headers["Authorization"] == "Bearer k-1"
        if len(asked) == 2:
            return web.json_response({"error": {"message": "Shutting down."}}, status=503)
        response = web.StreamResponse()
        await response.prepare(request)
        event = {"type": "content", "content": "a", "id": f"1-{len(asked)}"}
        if len(asked) == 4:
            event = {"type": "done", "finish_reason": "stop", "id": "1-4"}
        await response.write(json.dumps(event).encode() + b"\n")
        if len(asked) < 4 and request.transport is not None:
            request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/base/v1/sessions/{sid}/events", events)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "key").write_text("k-1\n")
    try:
        url = f"--url=http://127.0.0.1:{runner.addresses[0][1]}/base"
        code, out, _ = await run("tail", url, f"--key-file={tmp_path}/key", "x" * 22)
    finally:
        await runner.cleanup()
    assert (code, out) == (0, "aa")
    assert asked == [None, "1-1", "1-1", "1-3"]


async def test_a_key_comes_from_the_environment(make_node, run, monkeypatch):
    server = await make_node(keys=LINES)
    monkeypatch.setenv("TW_TOKEN", KEYS["alice"])
    refused = "tokenwire: The credentials do not include the right to admin. (403)\n"
    assert await run("sessions", f"--url={server.url('')}") == (1, "", refused)
    monkeypatch.setenv("TW_TOKEN", KEYS["operator"])
    assert (await run("sessions", f"--url={server.url('')}", "--json"))[:2] == (0, "[]\n")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"<html>\n", b"[1]\n", b"7\n", b'{"a":1}\n', b'{"type":"content"}\n', b"\n"],
)
async def test_a_server_of_another_kind_is_not_asked_for_ever(run, monkeypatch, body):
    monkeypatch.setattr("server.ops.operator.PATIENCE", 0)

    async def page(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, content_type="text/html")

    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for tool in (("tail", "x"), ("inspect", "x"), ("abort", "x"), ("sessions",)):
            found = await run(tool[0], f"--url={url}", *tool[1:])
            assert found == (1, "", f"tokenwire: {url} is no tokenwire\n")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("tool", ["sessions", "inspect", "tail", "abort"])
@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--url=ftp://u:hush@h"], 2, "--url: ftp is not supported; expected a URL like http"),
        (["--url=http://u:hush@127.0.0.1:1"], 1, "http://***@127.0.0.1:1 cannot be reached"),
        (["--key-file=/no/such"], 2, "--key-file: No such file or directory"),
        (["--colour"], 2, "unrecognized arguments: --colour"),
    ],
)
def test_what_fails_is_one_line(monkeypatch, capsys, tool, arguments, code, line):
    monkeypatch.setattr("server.ops.operator.PATIENCE", 0)
    session = [] if tool == "sessions" else ["x" * 22]
    assert main([tool, *arguments, *session]) == code
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(f"tokenwire: {line}")
    assert errors.count("\n") == 1
    assert "hush" not in errors


async def test_a_session_that_is_not_there_is_one_line(make_node, run):
    server = await make_node()
    for tool in ("inspect", "tail", "abort"):
        answer = await run(tool, f"--url={server.url('')}", "../../x")
        assert answer == (1, "", "tokenwire: There is no such session. (404)\n")
