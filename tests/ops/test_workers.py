"""A crew and its Valkey: replaced while others serve, revived when it dies alone."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.processes import ROOT, free_port
from tests.supervised import Supervised, alive, started
from tests.waiting import HANG, eventually

CREW = """
import asyncio, logging, os, signal, sys
from pathlib import Path
from server.ops.workers import Crew, Post

if post := Post.of(os.environ):
    post.take()
    if not Path(sys.argv[1]).exists():
        post.report()
    signal.pause()
logging.basicConfig(level="WARNING")
crew = Crew(2, 1, os.environ, lambda: print("all serve", flush=True))
sys.exit(asyncio.run(crew.run(patience=3)))
"""
"""Workers that do nothing; those that are born while the file is there never serve."""


class Running(Supervised):
    """A server that logs to a file, and has metrics on a port and the one above it."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.log = folder / "log"
        self.metrics_port = free_port()
        ours = {k: v for k, v in os.environ.items() if not k.startswith("TOKENWIRE")}
        flags = (
            f"--data-dir={folder}/data",
            f"--metrics-port={self.metrics_port}",
            "--max-requests=1000000",
        )
        with self.log.open("wb") as log:
            super().__init__("run.py", "--port=0", *flags, *arguments, env=ours | env, errors=log)

    def said(self) -> str:
        return self.log.read_text()

    def answers(self, path: str, base: str | None = None) -> bool:
        try:
            return bool(self.get(path, base))
        except (OSError, http.client.HTTPException):
            return False

    def start(self, **body: object) -> str:
        data = json.dumps({"prompt": "x"} | body).encode()
        with urllib.request.urlopen(f"{self.url}/v1/sessions", data, timeout=HANG) as answer:
            return str(json.load(answer)["id"])


@pytest.fixture
def serve(tmp_path, request):
    return lambda *arguments, **env: started(request, Running(tmp_path, *arguments, **env))


def test_a_hangup_replaces_every_worker_while_somebody_always_answers(serve):
    server = serve("--workers=2", "--drain=1")
    before = server.children()
    server.process.send_signal(signal.SIGHUP)
    while server.children() & before:
        # What the kernel had queued for a port just closed is cut off: a client asks once more.
        assert server.answers("/healthz") or server.answers("/healthz")
    eventually(lambda: "reloaded: 2 workers replaced" in server.said())
    assert len(server.children()) == 2
    assert server.end()[0] == 0
    assert "ERROR" not in server.said()


def test_a_reload_takes_new_settings_on_and_bad_ones_not(serve, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text('model = "demo"')
    server = serve("--workers=2", "--drain=0.2", f"--config={config}")
    before = server.children()
    config.write_text("modle = 1")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "a new worker does not serve" in server.said())
    assert "modle: unknown key; did you mean model?" in server.said()
    assert server.children() == before
    config.write_text('models = {other = {upstream = "demo"}}')
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: not server.children() & before)
    eventually(lambda: '"other"' in server.get("/v1/models"))
    assert server.end()[0] == 0


def test_a_successor_that_hangs_is_given_up_and_the_next_reload_works(tmp_path, request):
    script, hanging, log = (tmp_path / name for name in ("crew.py", "hanging", "log"))
    script.write_text(CREW)
    with log.open("wb") as errors:
        crew = psutil.Popen(
            [sys.executable, str(script), str(hanging)], env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    request.addfinalizer(lambda: crew.poll() is None and crew.kill())
    assert crew.stdout.readline() == "all serve\n"
    before = set(crew.children())
    hanging.touch()
    crew.send_signal(signal.SIGHUP)
    eventually(lambda: "a new worker does not serve; the others stay as they are" in log.read_text())
    eventually(lambda: set(crew.children()) == before)
    hanging.unlink()
    crew.send_signal(signal.SIGHUP)
    eventually(lambda: "reloaded: 2 workers replaced" in log.read_text())
    assert not set(crew.children()) & before
    crew.terminate()
    assert crew.communicate(timeout=HANG) == ("", None)
    assert crew.returncode == 0


def metrics_ports(process: psutil.Process, first: int) -> list[int]:
    """Return those of two ports on which a process listens."""
    listening = [c.laddr.port for c in process.net_connections("inet") if c.status == "LISTEN"]
    return [port for port in (first, first + 1) if port in listening]


def test_each_worker_has_its_metrics_and_its_successor_takes_them_over(serve):
    server = serve("--workers=2", "--drain=0.2")
    bases = [f"http://127.0.0.1:{server.metrics_port + place}" for place in range(2)]
    for base in bases:
        eventually(lambda base=base: server.answers("/metrics", base))
    first = server.metrics_port
    assert sorted(metrics_ports(worker, first) for worker in server.children()) == [[first], [first + 1]]
    victim = min(server.children(), key=lambda worker: worker.pid)
    victim.kill()
    eventually(lambda: len(server.children() - {victim}) == 2)
    for base in bases:
        eventually(lambda base=base: server.answers("/metrics", base))
    assert server.end()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_valkey_that_dies_alone_is_started_again_and_nothing_is_lost(serve, workers):
    server = serve(f"--workers={workers}", "--drain=5")
    sid = server.start(tokens=150, rate=50)
    (first,) = server.children(valkey=True)
    first.kill()
    eventually(lambda: server.children(valkey=True) - {first})

    def ended() -> bool:
        with suppress(OSError, http.client.HTTPException):
            session = json.loads(server.get(f"/v1/sessions/{sid}"))
            return (session["status"], session["seq"]) == ("done", 151)
        return False

    eventually(ended)
    assert "the private Valkey ended with code -9; starting it again" in server.said()
    assert server.end()[0] == 0
    assert not alive(first)


def test_a_valkey_that_dies_again_and_again_is_started_less_and_less_often(serve):
    server = serve()
    for _ in range(3):
        (valkey,) = server.children(valkey=True)
        valkey.kill()
        eventually(lambda dead=valkey: server.children(valkey=True) - {dead})
    assert re.findall(r"starting it again in (.*) s", server.said()) == ["0.2", "0.4", "0.8"]
    assert server.end()[0] == 0


def test_a_metrics_port_that_is_taken_is_one_line_and_code_1(tmp_path):

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "run.py", "--port=0", f"--data-dir={tmp_path}", f"--metrics-port={port}"],
            cwd=ROOT, capture_output=True, text=True, timeout=HANG,
        )  # fmt: skip
    line = f"tokenwire: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert (done.returncode, done.stderr) == (1, line)
