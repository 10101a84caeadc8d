"""The command line, as a user meets it: real processes, exit codes, one line when something is wrong."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import main
from tests.processes import ROOT
from tests.supervised import Supervised, alive, started
from tests.waiting import HANG, eventually

RUN = str(ROOT / "run.py")
HANGS = """
import asyncio, sys
import server.app
from aiohttp import web
from server import cli

def create_app(settings):
    async def hang(app):
        await asyncio.Event().wait()

    app = web.Application()
    app.on_cleanup.append(hang)
    return app

server.app.create_app = create_app
cli.LEFTOVER = 0.1
sys.exit(cli.main())
"""
ALIASES = ("HOST", "PORT", "REDIS_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "XDG_DATA_HOME")


def clean(tmp_path: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if "TOKENWIRE" not in k and k not in ALIASES}
    return env | {"TOKENWIRE_DATA_DIR": str(tmp_path / "data")}


def run(tmp_path: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", RUN, *arguments],
        cwd=tmp_path,
        env=clean(tmp_path) | env,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    return done.returncode, done.stdout, done.stderr


class Running(Supervised):
    """A server, and the processes that it began with."""

    def __init__(self, tmp_path: Path, *arguments: str, start: tuple[str, ...] = (RUN,)) -> None:
        command = ("-W", "error", *start, "--port", "0", *arguments)
        super().__init__(*command, env=clean(tmp_path), errors=subprocess.PIPE)
        self.family = self.process.children(recursive=True)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def page(self) -> str:
        return self.get().lower()

    def gone(self) -> bool:
        """Tell whether all its processes have ended."""
        return not any(map(alive, self.family))


@pytest.fixture
def serve(tmp_path, request):
    return lambda *arguments, **how: started(request, Running(tmp_path, *arguments, **how))


def test_the_version_is_told(tmp_path):
    assert run(tmp_path, "--version") == (0, "tokenwire 0.1.0\n", "")


def test_help_names_every_flag(tmp_path):
    code, text, _ = run(tmp_path, "--help")
    assert code == 0
    flags = {"--host", "--port", "--redis", "--upstream", "--model", "--config", "--workers"}
    assert flags | {"--data-dir"} <= set(text.split())


def test_check_config_shows_the_effective_settings_without_secrets(tmp_path):
    (tmp_path / "a.toml").write_text("port = 1\nlease = 2")
    flags = ("check-config", "--config", "a.toml", "--lease=1", "--allow-origin=https://a")
    env = {"REDIS_URL": "redis://:hush@db", "OPENAI_API_KEY": "hush"}
    code, text, errors = run(tmp_path, *flags, "--allow-origin=https://b", **env)
    assert (code, errors) == (0, "")
    assert {
        'host = "127.0.0.1"  # default',
        "port = 1  # a.toml: port",
        "lease = 1.0  # --lease",
        'redis = "redis://***@db"  # REDIS_URL',
        'api_key = "***"  # OPENAI_API_KEY',
        'allow_origin = ["https://a", "https://b"]  # --allow-origin',
    } <= set(text.splitlines())
    assert "hush" not in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "x"], "tokenwire: --port: expected int, not 'x'"),
        (["--porT", "1"], "tokenwire: --porT: unknown flag or command"),
        (["--por", "1"], "tokenwire: --por: unknown flag or command"),
        (["--port"], "tokenwire: argument --port: expected one argument"),
        (["--api-key", "k"], "tokenwire: --api-key: unknown flag or command"),
        (["--api-key=k"], "tokenwire: --api-key: unknown flag or command"),
        (["start"], "tokenwire: start: unknown flag or command"),
        (["serve", "again"], "tokenwire: again: unknown flag or command"),
        (["--config", "no.toml"], "tokenwire: no.toml: No such file or directory"),
        (["--redis", "http://a"], "tokenwire: --redis: http is not supported; expected a URL like "),
        (["check-config", "--lease", "0"], "tokenwire: --lease: expected float >= 0.2, not '0'"),
    ],
)
def test_a_bad_setting_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, line):
    for name in {*os.environ} - {*clean(tmp_path)}:
        monkeypatch.delenv(name)
    assert main(arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(line)
    assert errors.count("\n") == 1


def test_an_unknown_variable_is_one_line_and_code_2(tmp_path):
    line = "tokenwire: TOKENWIRE_PROT: unknown variable; did you mean TOKENWIRE_PORT?\n"
    assert run(tmp_path, TOKENWIRE_PROT="1") == (2, "", line)


def test_a_host_that_is_not_here_is_one_line_and_code_1(tmp_path):
    line = "tokenwire: cannot listen on 192.0.2.1:80: Cannot assign requested address\n"
    for workers in ("1", "2"):
        flags = ("--workers", workers, "--insecure")
        assert run(tmp_path, *flags, HOST="192.0.2.1", PORT="80") == (1, "", line)


def test_a_redis_that_is_not_there_is_one_line_and_code_1(tmp_path):
    code, out, errors = run(tmp_path, REDIS_URL=f"unix://{tmp_path}/none.sock")
    assert (code, out) == (1, "")
    assert errors.startswith("tokenwire: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_one_line_and_code_1(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, out, errors = run(tmp_path, "--port", port, "--workers", workers)
    line = f"tokenwire: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (code, out, errors) == (1, "", line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_the_page_and_stops_in_good_order(serve, tmp_path, number):
    running = serve()
    assert running.redis == "embedded"
    assert running.page().startswith("<!doctype html>")
    assert running.end(number) == (0, "")
    assert running.gone()
    assert "ready to exit" in (tmp_path / "data" / "valkey" / "valkey.log").read_text()


def test_what_hangs_does_not_keep_it_from_stopping(serve, tmp_path):
    running = serve("--drain", "0", start=("-c", HANGS))
    assert running.end() == (1, "tokenwire: still busy after 0.2 s; stopped by force\n")
    assert running.gone()
    assert "ready to exit" in (tmp_path / "data" / "valkey" / "valkey.log").read_text()


def test_a_killed_server_takes_its_valkey_along_and_finds_its_data_again(serve, tmp_path):
    first = serve()
    (valkey,) = first.family
    first.end(signal.SIGKILL)
    second = serve()
    assert second.page().startswith("<!doctype html>")
    assert not alive(valkey)
    assert second.end()[0] == 0


def test_workers_share_a_port_and_a_crashed_one_is_replaced(serve):
    running = serve("--workers", "2")
    before = running.children()
    assert len(before) == 2
    assert running.page().startswith("<!doctype html>")
    victim = min(before, key=lambda worker: worker.pid)
    victim.kill()
    eventually(lambda: len(running.children() - before) == 1)
    running.family += running.children()
    code, errors = running.end()
    assert code == 0
    assert "a worker ended with code -9; starting another in 0.1 s" in errors
    assert running.gone()


def test_a_second_server_does_not_join_the_workers_of_the_first(serve, tmp_path):
    running = serve("--workers", "2")
    code, _, errors = run(tmp_path, "--workers", "2", "--port", str(running.port))
    assert code == 1
    assert errors.endswith(": Address already in use\n")
    assert running.end()[0] == 0


def test_workers_end_with_their_parent_even_one_that_is_killed(serve):
    running = serve("--workers", "2")
    assert len(running.family) == 3
    running.end(signal.SIGKILL)
    eventually(running.gone)


def test_workers_that_cannot_serve_end_it_all(tmp_path):
    url = f"unix://{tmp_path}/none.sock"
    code, out, errors = run(tmp_path, "--workers", "2", "--port", "0", REDIS_URL=url)
    assert (code, out) == (1, "")
    assert all(line.startswith("tokenwire: ") for line in errors.splitlines())
