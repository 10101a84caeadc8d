"""The examples run as they stand, and say the whole text."""

import asyncio
import re
import shutil
import sys

import pytest

from tests import processes
from tests.matrix import packages
from tests.waiting import HANG

EXAMPLES = processes.ROOT / "examples"


@pytest.fixture
async def node(make_process):
    return await make_process(linger=1)


async def output(*command):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(HANG):
        told, _ = await process.communicate()
    assert process.returncode == 0
    return told.decode()


async def test_the_example_for_aiohttp(node):
    told = await output(sys.executable, str(EXAMPLES / "aiohttp_client.py"), node.url(""))
    text, _, end = told.partition("\n[done at ")
    assert text.replace("[cut]", "") == await processes.demo_text("Tell me about streams", 60)
    assert end.endswith("-61]\n")


async def test_the_example_for_curl(node):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    told = await output("sh", str(EXAMPLES / "curl.sh"), node.url(""))
    assert told.startswith(await processes.demo_text("Tell me about streams", 20) + "\n")
    places = [int(seq) for seq in re.findall(r"^id: \d+-(\d+)$", told, re.M)]
    assert places == list(range(places[0], 62))
    assert 1 < places[0] < 61
    assert '"status":"done"' in told.splitlines()[-1]


async def test_the_example_for_openai_in_node(quick):
    script = packages.npm() / "clients" / "openai_node.mjs"
    script.write_text((EXAMPLES / "openai_node.mjs").read_text())
    told = await output(str(packages.node()), str(script), quick.url(""))
    text = await processes.demo_text("Tell me about streams", 150)
    chat, cut, response = told.partition(" … ")
    assert cut
    assert chat + response == f"{text}\n\n{text}\n\ncompleted\n"
