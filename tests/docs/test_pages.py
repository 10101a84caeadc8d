"""The pages' commands and programs do what the pages say."""

import asyncio
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.blocks import BLOCKS, PAGES, ROOT, chosen
from tests.sdk import npm

LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")
SAID = "You asked about **Tell me about streams**."


@pytest.fixture
async def nodes(make_process):
    """Two nodes on one Redis."""
    return [await make_process(linger=0, drain=0) for _ in range(2)]


def placed(text, nodes):
    """Put the nodes' addresses in the place of the page's."""
    first, second = (f"127.0.0.1:{node.port}" for node in nodes)
    return text.replace("127.0.0.1:8080", first).replace("127.0.0.1:8081", second)


async def output(*command):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def test_every_block_is_run_or_checked():
    # The README's embedding has a test of its own, in tests/test_docs.py.
    known = {"run", "check"}
    loose = [b.name for b in BLOCKS if not (known & set(b.words)) and not b.option("from")]
    (readme,) = [b.name for b in BLOCKS if b.language == "python" and b.name.startswith("README")]
    assert loose == [readme]


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
async def test_a_command_says_what_it_should(nodes, block):
    text = re.sub(r"(?<!\S)run\.py", f"{sys.executable} run.py", placed(block.text, nodes))
    # Quick, where the page is not in a hurry.
    text = text.replace(
        '{"prompt":"Tell me about streams"}', '{"prompt":"Tell me about streams","rate":0}'
    )
    said = await output("bash", "-euo", "pipefail", "-c", text)
    assert block.option("says") in said


@pytest.mark.parametrize("block", chosen("run", "python"), ids=lambda block: block.name)
async def test_a_program_says_the_answer(nodes, block):
    pytest.importorskip("openai")
    said = await output(sys.executable, "-c", placed(block.text, nodes))
    assert said.startswith(SAID)


@pytest.mark.parametrize("block", chosen("check", "sh"), ids=lambda block: block.name)
async def test_a_command_that_cannot_be_run_is_one_at_least(block):
    await output("bash", "-nc", block.text)
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)", block.text)) <= rules
    assert all((ROOT / path).exists() for path in re.findall(r"(?:\./static|deploy)/\S+", block.text))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.option("from")], ids=lambda block: block.name)
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
    elif shutil.which("node") is None:
        pytest.skip("node is not installed")
    (tmp_path / "block.mjs").write_text(text)
    done = subprocess.run(
        ["node", "--check", str(tmp_path / "block.mjs")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
