"""The command that makes keys and tickets, and the server that wants them: real processes."""

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from server.ops.keys import Key, hash_of, parse
from tests.clients import start
from tests.security.people import KEYS, LINES, bearer

ROOT = Path(__file__).parent.parent.parent
ALIASES = ("HOST", "PORT", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "TW_TOKEN")


def run(*arguments: str, **env: str) -> tuple[int, str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TOKENWIRE_") and k not in ALIASES}
    done = subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT, env=clean | env, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_key_is_printed_once_and_its_line_beside_it():
    code, key, line = run("token", "--name", "app", "--rights", "read,create")
    assert (code, line.strip()) == (0, f"app:create+read:{hash_of(key.strip())}")


def test_keys_are_added_to_a_file_that_only_its_owner_reads(tmp_path):
    path = tmp_path / "keys"
    made = [run("token", "--name", name, "--file", str(path)) for name in ("a", "b")]
    assert [(code, errors) for code, _, errors in made] == [(0, ""), (0, "")]
    kept = [Key.parse(line) for line in path.read_text().splitlines()]
    assert [(key.name, key.hash) for key in kept] == [
        (name, hash_of(key.strip())) for name, (_, key, _) in zip("ab", made, strict=True)
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_last_line_without_an_end_stays_a_line(tmp_path):
    path = tmp_path / "keys"
    path.write_text(LINES[0])
    code, key, _ = run("token", "--name", "new", "--file", str(path))
    kept = parse(path.read_text())
    assert (code, [found.name for found in kept.values()]) == (0, ["alice", "new"])
    assert path.read_text().endswith(f"{hash_of(key.strip())}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--name", "a b"], 2, "tokenwire: expected keys like name:create+read+control:"),
        (["--rights", "root"], 2, "tokenwire: --rights: 'root' is not a valid Right"),
        (["--file", "/nowhere/keys"], 2, "tokenwire: /nowhere/keys: No such file or directory"),
        (["--surprise"], 2, "tokenwire: unrecognized arguments: --surprise"),
        (
            ["--session", "s" * 32, "--url", "http://u:hush@127.0.0.1:1"],
            1,
            "tokenwire: http://***@127.0.0.1:1 cannot be reached",
        ),
        (["--session", "s", "--url", "ftp://h"], 2, "tokenwire: --url: ftp is not supported"),
    ],
)
def test_what_it_cannot_do_is_one_line(arguments, code, line):
    found, out, errors = run("token", *arguments)
    assert (found, out, errors.count("\n")) == (code, "", 1)
    assert errors.startswith(line)


async def test_a_ticket_of_a_running_server(make_process, http, tmp_path):
    path = tmp_path / "keys"
    path.write_text("\n".join(LINES))
    node = await make_process(model="demo", keys_file=path)
    url = node.url("")
    http.headers.update(bearer("alice"))
    sid = await start(http, node, tokens=3, rate=0)
    del http.headers["Authorization"]
    ask = ("token", "--session", sid, "--url", url)
    code, link, _ = await asyncio.to_thread(run, *ask, TW_TOKEN=KEYS["alice"])
    assert code == 0
    async with http.get(link.strip()) as response:
        assert (await response.text()).endswith("data: [DONE]\n\n")
    code, _, errors = await asyncio.to_thread(run, *ask, TW_TOKEN=KEYS["bob"])
    assert (code, errors) == (1, "tokenwire: There is no such session. (404)\n")
    assert await node.end() < 0


STRANGE = {
    "a redirect": (302, b"", "the server answered 302"),
    "a proxy's failure": (502, b"<html>", "the server answered 502"),
    "a refusal that is none of ours": (403, b"[]", "the server answered 403"),
    "a page": (200, b"<html>", "{url} is no tokenwire"),
    "a list": (200, b"[]", "{url} is no tokenwire"),
    "no URL": (201, b"{}", "{url} is no tokenwire"),
}


@pytest.mark.parametrize(("status", "body", "line"), STRANGE.values(), ids=STRANGE)
async def test_a_key_goes_to_no_other_server(status, body, line):
    """Neither where a server sends us, nor to a proxy that the environment names."""
    seen: dict[str, list[str]] = {"server": [], "other": []}
    urls = {}

    def serve(name: str) -> web.ServerRunner:
        async def handler(request: web.BaseRequest) -> web.Response:
            seen[name].append(request.headers["Authorization"])
            return web.Response(status=status, body=body, headers={"Location": urls["other"]})

        return web.ServerRunner(web.Server(handler))

    async with AsyncExitStack() as running:
        for name in seen:
            runner = serve(name)
            await runner.setup()
            running.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls[name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ask = ("token", "--session", "s" * 32, "--url", urls["server"])
        proxy = {"http_proxy": urls["other"], "no_proxy": ""}
        code, out, errors = await asyncio.to_thread(run, *ask, TW_TOKEN="tw_x", **proxy)
    assert (code, out, errors) == (1, "", f"tokenwire: {line.format(url=urls['server'])}\n")
    assert seen == {"server": ["Bearer tw_x"], "other": []}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_for_the_world_that_asks_nobody_does_not_start(tmp_path, workers):
    env = {"TOKENWIRE_DATA_DIR": str(tmp_path)}
    code, out, errors = run("--host", "0.0.0.0", "--port", "0", "--workers", workers, **env)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("tokenwire: host: 0.0.0.0 can be reached from outside")
    assert "--insecure" in errors


def test_a_bad_key_is_one_line():
    code, out, errors = run("--keys", "hush")
    assert (code, out) == (2, "")
    assert errors.startswith("tokenwire: keys: expected keys like ")
    assert "hush" not in errors
