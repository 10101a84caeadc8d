"""The load test as a user meets it: real processes against real nodes, good ones and broken ones."""

import asyncio
import json
import re
import resource
import signal
import sys
from importlib.util import find_spec

import psutil
import pytest

from tests.loadtest.mutant import MUTANTS
from tests.processes import ROOT, serve
from tests.waiting import HANG

SMALL = ("--sessions=6", "--viewers=2", "--rate=80", "--duration=3", "--processes=2")
STEERED = ("--pause-every=1.5", "--pause-for=0.3", "--drop-every=1", "--abort-share=0.3")
QUIET = ("--pause-every=0", "--drop-every=0", "--abort-share=0")


async def spawn(url, folder, *flags):
    return await asyncio.create_subprocess_exec(
        sys.executable, "run.py", "loadtest", url, f"--out={folder}", *flags,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def loadtest(url, folder, *flags):
    """Return its exit code, its output and its report."""
    process = await spawn(url, folder, *flags)
    out, err = await process.communicate()
    assert err == b"", err.decode()
    return process.returncode, out.decode(), json.loads((folder / "report.json").read_text())


async def broken(redis_url, name, odds):
    """Start a node that is broken on purpose."""
    program = ("-m", "tests.loadtest.mutant", name, str(odds))
    return await serve(redis_url, program=program, linger=0, drain=0)


@pytest.fixture
async def node(make_process):
    return await make_process(linger=0, drain=0)


async def test_a_good_server_is_complete(node, tmp_path):
    code, out, report = await loadtest(node.url(""), tmp_path, *SMALL, *STEERED)
    assert re.fullmatch(r"complete: 12 viewers of 6 sessions .*", out.splitlines()[-1]), out
    assert code == 0
    assert report["verdict"]["complete"]
    assert report["findings"] == {}
    counts = report["counts"]
    assert counts["whole"] == 12
    assert min(counts["pauses"], counts["drops"]) > 0
    wanted = {"first_token", "gap", "end_to_end", "pause", "pause_answer", "resume", "reconnect"}
    assert wanted <= report["milliseconds"].keys()
    assert set(report["load"]["cpu"]) == {"process 1", "process 2"}
    page = (tmp_path / "report.html").read_text()
    assert "complete: 12 viewers" in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []


@pytest.fixture
def many_files():
    """Let processes that are started here have as many files as they may: a viewer is one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_thousand_viewers_get_everything(many_files, node, tmp_path):
    crowd = ("--sessions=500", "--viewers=2", "--rate=4", "--duration=4", "--pause-every=3")
    code, out, report = await loadtest(node.url(""), tmp_path, *crowd, "--drop-every=3")
    assert code == 0, out
    assert out.splitlines()[-1].startswith("complete: 1,000 viewers of 500 sessions"), out
    assert (report["findings"], report["counts"]["whole"]) == ({}, 1000)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra is not installed")
async def test_the_plots_are_pictures_and_in_the_page(node, tmp_path):
    await loadtest(node.url(""), tmp_path, *SMALL, *STEERED, "--duration=2")
    images = {path.name: path.read_bytes()[:4] for path in tmp_path.glob("*.png")}
    names = {"throughput.png", "delays.png", "controls.png", "load.png"}
    assert images == dict.fromkeys(names, b"\x89PNG")
    assert (tmp_path / "report.html").read_text().count("data:image/png") == 4


@pytest.mark.parametrize(
    ("name", "odds", "flags", "finds"),
    [
        ("lose-on-the-wire", 1000, (*SMALL, *QUIET), "a gap"),
        ("repeat-on-the-wire", 1000, (*SMALL, *QUIET), "a duplicate"),
        ("lose-on-delivery", 1000, (*SMALL, *QUIET), "a gap"),
        ("lose-before-the-log", 500, (*SMALL, *QUIET), "tokens lost"),
        ("swap-before-the-log", 500, (*SMALL, *QUIET), "wrong token"),
        ("leak-in-a-pause", 10_000, (), "sent in a pause"),  # without any flags
    ],
)
async def test_a_broken_server_is_incomplete(redis_server, tmp_path, name, odds, flags, finds):
    node = await broken(redis_server.url, name, odds)
    code, out, report = await loadtest(node.url(""), tmp_path, *flags)
    await node.end()
    assert code == 1
    assert out.splitlines()[-1].startswith("incomplete:")
    assert finds in report["findings"], report["findings"]


def test_every_mutant_is_tried():
    (mark,) = test_a_broken_server_is_incomplete.pytestmark
    assert {case[0] for case in mark.args[1]} == MUTANTS.keys()


async def started(http, node):
    async with http.get(node.url("/v1/sessions")) as response:
        return len((await response.json())["sessions"])


async def test_a_server_that_loses_much_is_not_even_loaded(redis_server, tmp_path):
    node = await broken(redis_server.url, "lose-on-the-wire", 100)
    process = await spawn(node.url(""), tmp_path, *SMALL)
    out, err = await process.communicate()
    await node.end()
    assert (process.returncode, out) == (1, b"")
    assert re.fullmatch(
        r"tokenwire: loadtest: the first session cannot be read: a gap: .*\n", err.decode()
    )


async def test_it_stops_when_told_and_leaves_nobody_behind(node, http, tmp_path):
    process = await spawn(node.url(""), tmp_path, *SMALL, "--duration=60")
    while await started(http, node) < 7:  # six, and the one to compare with
        await asyncio.sleep(0.05)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    assert process.returncode == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["findings"].keys() == {"unfinished"}, out.decode()
    assert report["findings"]["unfinished"]["count"] == 12
    assert psutil.wait_procs(children, timeout=HANG)[1] == []


async def test_a_process_of_clients_that_dies_is_not_overlooked(node, tmp_path):
    process = await spawn(node.url(""), tmp_path, *SMALL)
    children: list[psutil.Process] = []
    while len(children) < 2:
        await asyncio.sleep(0.05)
        children = psutil.Process(process.pid).children()
    children[0].kill()
    await process.communicate()
    report = json.loads((tmp_path / "report.json").read_text())
    assert process.returncode == 1
    assert "client lost" in report["findings"]


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("http://192.0.2.1:80", 2, "--i-own-this-server"),
        ("http://127.0.0.1:1", 1, "127.0.0.1:1"),
    ],
)
async def test_what_cannot_be_loaded_is_one_line(tmp_path, url, code, says):
    process = await spawn(url, tmp_path / "none", *SMALL)
    out, err = await process.communicate()
    assert process.returncode == code
    assert out == b""
    assert says in err.decode()
    assert err.count(b"\n") == 1
    assert not (tmp_path / "none").exists()
