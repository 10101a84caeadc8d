"""The example runs as it stands, but for the address; the load test's page knows it all."""

import asyncio
import re
import sys

import pytest

from server.ops.loadtest.plan import _parser
from server.ops.loadtest.tally import MEASURES
from tests.processes import ROOT


@pytest.fixture
async def node(make_process):
    return await make_process(linger=0, drain=0)


async def run(*words):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *words, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode()


async def test_the_example_runs(node):
    said = await run("examples/python_client.py", node.url(""))
    marks = re.findall(r"\[([a-z ]+)", said)
    assert marks == [
        "connected over ws", "paused at ", "resumed", "cutting the wire", "connected over ws", "done at ",
    ]  # fmt: skip


def test_every_flag_and_measure_is_on_the_load_tests_page():
    page = (ROOT / "docs" / "loadtest.md").read_text()
    flags = [action.option_strings[-1] for action in _parser()._actions if action.option_strings]
    wanted = [*(flag for flag in flags if flag != "--help"), *MEASURES]
    assert [name for name in wanted if f"`{name}`" not in page] == []
