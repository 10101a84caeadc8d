"""The pages' commands and programs do what the pages say."""

import asyncio
import os
import re
import shutil
import subprocess
import sys

import pytest

from server.sources import load
from tests import clients
from tests.docs.blocks import BLOCKS, CHOSEN, PAGES, ROOT, chosen
from tests.processes import free_port
from tests.sdk import npm

LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")
SAID = "You asked about **Tell me about streams**."
NODE = shutil.which("node")
QUICK = {
    '{"prompt":"Tell me about streams"}': '{"prompt":"Tell me about streams","rate":0}',
    "--sessions 500": "--sessions 4",
    "--duration 60": "--duration 2",
    "--duration 140": "--duration 4",
    "lose-on-delivery 1000000": "lose-on-delivery 100",
}
"""What takes long, and a test's short form of it."""


@pytest.fixture
async def nodes(make_process):
    """Two nodes on one Redis."""
    return [await make_process(linger=0, drain=0) for _ in range(2)]


def placed(text, nodes):
    """Put the nodes' addresses in the place of the page's."""
    first, second = (f"127.0.0.1:{node.port}" for node in nodes)
    return text.replace("127.0.0.1:8080", first).replace("127.0.0.1:8081", second)


async def output(*command, folder=ROOT, exits=0, **variables):
    env = {**os.environ, "PYTHONPATH": str(ROOT)} | variables
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == exits, out.decode() + err.decode()
    return out.decode()


def test_every_block_is_run_or_checked():
    # Those of pages in tests/browser/test_docs.py, the README's embedding in tests/test_docs.py.
    elsewhere = {block.name for block in chosen("run", "js", "html")}
    (readme,) = [b.name for b in BLOCKS if b.language == "python" and b.name.startswith("README")]
    assert {block.name for block in BLOCKS} - CHOSEN - elsewhere == {readme}


def test_every_fence_is_a_block():
    fences = sum(len(re.findall("^```", page.read_text(), re.M)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for path, part in LINK.findall(page.read_text()):
        if path.startswith("http"):
            continue
        there = (page.parent / path) if path else page
        assert there.exists(), path
        if part:
            heads = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert part in slugs, f"{path}#{part}"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
@pytest.mark.parametrize("block", chosen("run", "sh"), ids=lambda block: block.name)
async def test_a_command_says_what_it_should(nodes, http, redis_server, block, tmp_path):
    text = placed(block.text, nodes).replace("8090", str(free_port()))
    text = re.sub(r"(?<!\S)(?:run\.py|tokenwire)(?= )", f"{sys.executable} {ROOT / 'run.py'}", text)
    text = re.sub(r"^python(?= )", sys.executable, text, flags=re.M)
    for slow, quick in QUICK.items():
        text = text.replace(slow, quick)
    if "SID" in text:
        text = text.replace("SID", await clients.start(http, nodes[0], tokens=10, rate=0))
    said = await output(
        "bash", "-euo", "pipefail", "-c", f"trap 'jobs -p | xargs -r kill' EXIT\n{text}",
        folder=tmp_path, exits=int(block.option("exits") or 0),
        REDIS_URL=redis_server.url, TOKENWIRE_PORT=str(nodes[0].port),
    )  # fmt: skip
    assert block.option("says") in said


@pytest.mark.parametrize("block", chosen("run", "python"), ids=lambda block: block.name)
async def test_a_program_says_the_answer(nodes, block):
    if "openai" in block.text:
        pytest.importorskip("openai")
    said = await output(sys.executable, "-W", "error", "-c", placed(block.text, nodes))
    assert said.startswith(SAID)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("block", chosen("node", "js"), ids=lambda block: block.name)
async def test_a_module_says_what_it_should(quick, block, tmp_path):
    program, client = tmp_path / "program.mjs", ROOT / "static" / "client" / "tokenwire.js"
    program.write_text(block.text.replace("@tokenwire/client", client.as_uri()))
    page = f'data:text/javascript,globalThis.location={{href:"{quick.url("/")}"}}'
    assert block.option("says") in await output(NODE, "--import", page, str(program))


@pytest.mark.parametrize("block", chosen("check", "sh"), ids=lambda block: block.name)
async def test_a_command_that_cannot_be_run_is_one_at_least(block):
    await output("bash", "-nc", block.text)
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", block.text)) <= rules
    assert all((ROOT / path).exists() for path in re.findall(r"(?:\./static|deploy)/\S+", block.text))
    if programs := re.findall(r"^(?:run\.py|tokenwire) (.*)", block.text, re.M):
        help = await output(sys.executable, "run.py", "--help")
        flags = {word for line in programs for word in line.split() if word.startswith("--")}
        assert flags <= set(re.findall(r"--[a-z-]+", help))


@pytest.mark.parametrize("block", chosen("check", "toml"), ids=lambda block: block.name)
def test_settings_are_as_the_program_reads_them(block, tmp_path):
    (tmp_path / "tokenwire.toml").write_text(block.text)
    loaded = load({}, {}, str(tmp_path / "tokenwire.toml"))
    assert set(loaded.settings.models) == set(re.findall(r"^\[models\.(\w+)\]", block.text, re.M))


@pytest.mark.parametrize("block", chosen("from", "nginx"), ids=lambda block: block.name)
def test_a_part_of_a_file_is_in_it(block):
    lines = {line.strip() for line in (ROOT / block.option("from")).read_text().splitlines()}
    assert [line for line in block.text.splitlines() if line.strip() not in lines] == []


@pytest.mark.parametrize(
    "block", chosen("check", "js", "jsx", "tsx", "vue"), ids=lambda block: block.name
)
def test_a_modules_syntax_is_good(block, tmp_path):
    text = block.text
    if block.language == "vue":
        (text,) = re.findall(r"<script setup>\n(.*?)</script>", text, re.S)
    if block.language in ("jsx", "tsx"):
        script = "const { transform } = require('sucrase'); const { readFileSync } = require('node:fs');"
        script += "const to = { transforms: ['jsx', 'typescript'] };"
        script += "process.stdout.write(transform(readFileSync(0, 'utf8'), to).code)"
        done = subprocess.run(
            ["node", "-e", script],
            input=text,
            text=True,
            capture_output=True,
            cwd=npm.folder("sucrase@3"),
        )
        assert done.returncode == 0, done.stderr
        text = done.stdout
    elif NODE is None:
        pytest.skip("node is not installed")
    (tmp_path / "block.mjs").write_text(text)
    done = subprocess.run(
        ["node", "--check", str(tmp_path / "block.mjs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
