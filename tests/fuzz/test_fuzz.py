"""Every target, a little and always the same; and what fuzzing is there to find, it finds."""

import random
import subprocess
import sys

import pytest
from aiohttp import web

from tests.clients import Server
from tests.fuzz import live, tally
from tests.fuzz.__main__ import main
from tests.fuzz.answers import complaint
from tests.fuzz.calls import CALLS, Caller, frame
from tests.fuzz.dice import by_dice
from tests.fuzz.judge import Finding, verdict, watched
from tests.fuzz.splits import same
from tests.fuzz.tally import Tally, report
from tests.fuzz.targets import TARGETS, Target
from tests.processes import ROOT

INPUTS = 150
CALLED = 240
SEEDS = (b"data: a\n\n", b'{"a":[1,"x"]}\ndata: b\n\n')
KEPT: list[bytes] = []


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in(name):
    tally = by_dice(name, TARGETS[name], 1, lambda count: count >= INPUTS)
    assert not tally.findings, report([tally])


async def test_nothing_is_found_in_a_real_server():
    tally = await live.fuzz(1, lambda count: count >= CALLED)
    assert not tally.findings, report([tally])


def _drops_a_byte_at_a_split(data):
    same(
        lambda pieces: b"".join(piece[: len(piece) - (not piece.endswith(b"\n"))] for piece in pieces),
        data,
    )


def _raises(data):
    if b"\r" in data:
        raise KeyError("a carriage return")


def _keeps(data):
    KEPT.append(data * 100)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (_drops_a_byte_at_a_split, "another split, another outcome"),
        (_raises, "KeyError at test_fuzz.py"),
        (_keeps, "leak"),
    ],
)
def test_a_target_that_is_wrong_is_found(run, kind):
    tally = by_dice("wrong", Target(run, SEEDS), 1, lambda count: count >= INPUTS)
    (finding,) = [found for found in tally.findings.values() if kind in found.kind]
    if kind != "leak":
        with watched():
            again = verdict(run, finding.data)
        assert again is not None
        assert again.kind == finding.kind


def _hangs(data):
    try:
        while data:
            pass
    except Exception:
        return


def test_an_input_that_takes_for_ever_is_found_and_ended():
    with watched():
        assert verdict(_hangs, b"") is None
        finding = verdict(_hangs, b"x")
    assert finding is not None
    assert finding.kind == "Hang at test_fuzz.py:_hangs"


def test_an_input_that_needs_much_memory_is_found():
    code = (
        "from tests.fuzz.judge import verdict, watched\n"
        "with watched():\n"
        "    print(verdict(lambda data: data * (160 << 20) and None, b'x').kind)\n"
    )
    # A process begins with the peak of the one that it was: here a shell's, not ours.
    command = ["sh", "-c", '"$0" -c "$1"; exit $?', sys.executable, code]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "memory\n"


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:", None),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x88\x02\x03\xe8", None),
        (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", "HTTP 500"),
        (b"HTTP/1.1 204 X\r\n\r\nHTTP/1.1 502 X\r\n\r\n", "HTTP 502"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x01a\x88\x02\x03\xf3",
         "close code 1011"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"error":{"code":"internal_error"}}', "internal_error"),
        (b"Traceback", "what was answered is not HTTP"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_seen(answer, wrong):
    assert complaint(answer) == wrong


async def test_a_server_that_fails_is_found_and_what_it_logged_is_blamed_on_the_input(tmp_path):
    async def fails(request):
        if request.path != "/v1/models":
            return web.Response()
        raise web.HTTPInternalServerError

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fails)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with (tmp_path / "log").open("wb") as log:
        fuzzed = live.Fuzzed(Server(runner.addresses[0][1]), None, log, None)
        fuzzed.names = [(b"x" * 32, b"1" * 13)]
        bad, good = (b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/v1/models", b"/"))
        found = await fuzzed.round([good, bad, good])
        assert [(finding.kind, finding.data) for finding in found] == [
            ("HTTP 500 to GET /v1/models", bad)
        ]
        log.write(b"2026 ERROR server.x: it failed: KeyError\n  /a/server/x/y.py:12 z\n")
        (found,) = await fuzzed.round([good])
        assert found.kind == "logged: server.x: it failed: KeyError x/y.py:12 z"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("after", "more"),
    [
        (live.Held(5, 20, 80 << 20), False),
        (live.Held(3, 19, 80 << 20), False),
        (live.Held(6, 20, 80 << 20), True),
        (live.Held(5, 21, 80 << 20), True),
        (live.Held(5, 20, 130 << 20), True),
    ],
)
def test_what_is_left_afterwards_is_found(after, more):
    assert after.exceeds(live.Held(5, 20, 80 << 20)) is more


def test_the_same_seed_makes_the_same_inputs():
    first, second = (Caller(random.Random(7)) for _ in range(2))
    inputs = [first.next() for _ in range(200)]
    assert inputs == [second.next() for _ in range(200)]
    assert len(set(inputs)) > len(CALLS)


def test_a_frame_is_one_of_the_rfcs():
    assert frame(b"hi") == b"\x81\x82\0\0\0\0hi"
    assert frame(b"x" * 126)[:4] == b"\x81\xfe\x00\x7e"
    assert frame(b"hi", opcode=0, final=False, size=70_000)[:10] == b"\x00\xff" + (70_000).to_bytes(
        8, "big"
    )


def test_the_table_says_how_to_see_a_finding_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tally, "FOLDER", tmp_path)
    found = Tally("cursor", 1000, 2.0)
    found.add(Finding("ValueError at x.py:1 f", b"1-2\n", "Traceback …"))
    found.add(Finding("ValueError at x.py:1 f", b"1-2", "Traceback …"))
    lines = report([found, Tally("live", 10, 1.0)]).splitlines()
    assert lines[1].split() == ["cursor", "1,000", "500", "1"]
    assert lines[2].split() == ["live", "10", "10", "0"]
    (path,) = (tmp_path / "findings").iterdir()
    assert lines[-1] == f"again: python -m tests.fuzz --again cursor {path}"
    assert path.read_bytes() == b"1-2"
    assert main(["--again", "cursor", str(path)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
