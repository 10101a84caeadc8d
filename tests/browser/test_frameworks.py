"""The examples for React and Vue, built and served as their readers would do it, in a real browser."""

import asyncio
import os
import re
import shutil
import subprocess

import orjson
import pytest
from playwright.async_api import expect

from tests.browser.conftest import BROKEN
from tests.processes import ROOT, free_port
from tests.sdk import npm
from tests.waiting import until

EXAMPLES = ROOT / "examples"
BUILDING = 120.0
each = pytest.mark.parametrize("name", ["react", "vue"])
ACCEPTED = {"sse": "text/event-stream", "fetch": "application/x-ndjson"}  # else it is a socket


def built(name, place):
    """Copy an example to `place`, with its packages from npm, and build it; return its Vite."""
    shutil.copytree(EXAMPLES / name, place, ignore=shutil.ignore_patterns("node_modules", "dist"))
    listed = orjson.loads((place / "package.json").read_bytes())
    wanted = listed["dependencies"] | listed["devDependencies"]
    assert wanted.pop("@tokenwire/client") == "file:../../static/client"
    modules = npm.folder(*(f"{package}@{version}" for package, version in wanted.items()))
    # What npm does with a package that is a folder.
    (place / "node_modules" / "@tokenwire").mkdir(parents=True)
    (place / "node_modules" / "@tokenwire" / "client").symlink_to(ROOT / "static" / "client")
    for module in (modules / "node_modules").iterdir():
        (place / "node_modules" / module.name).symlink_to(module)
    vite = [npm.node(), str(modules / "node_modules" / "vite" / "bin" / "vite.js")]
    done = subprocess.run([*vite, "build"], cwd=place, capture_output=True, text=True, timeout=BUILDING)
    assert done.returncode == 0, done.stderr
    return vite


@pytest.fixture
async def served(node, tmp_path):
    """Build an example and serve it in front of a node; return its address."""
    processes = []

    async def serve(name):
        place = tmp_path / name
        vite = await asyncio.to_thread(built, name, place)
        port = free_port()
        flags = ("--host", "127.0.0.1", "--port", str(port), "--strictPort")
        env = {**os.environ, "TOKENWIRE": node.url(""), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            *vite, "preview", *flags, cwd=place, env=env, stdout=asyncio.subprocess.PIPE
        )
        processes.append(process)
        async for line in process.stdout:
            if str(port).encode() in line:
                return f"http://127.0.0.1:{port}/"
        raise AssertionError("vite does not serve")

    yield serve
    for process in processes:
        process.kill()
        await process.communicate()


async def session_of(page):
    """Return what the server says of the session that the page reads."""
    script = "() => fetch('/v1/sessions/' + location.hash.slice(1)).then(answer => answer.json())"
    return await page.evaluate(script)


async def head(page, least):
    """Wait until the server has that many events."""
    async with asyncio.timeout(20):
        while (await session_of(page))["seq"] < least:
            await asyncio.sleep(0.02)


async def last(page):
    return await page.locator("li").last.text_content()


async def grown(page, length=0):
    """Wait until the last message is longer than that; return it."""
    async with asyncio.timeout(20):
        while not (text := await last(page)).startswith("assistant") or len(text) <= length:
            await asyncio.sleep(0.02)
    return text


async def begin(page, address, transport):
    """Ask over a transport; return a list that all transports that the page reads over are put on."""
    used = []

    def note(request):
        if request.url.endswith("/events"):
            used.append(
                next(name for name, kind in ACCEPTED.items() if kind == request.headers["accept"])
            )

    page.on("request", note)
    await page.goto(address)
    await page.get_by_label("Transport").select_option(transport)
    await page.get_by_label("Prompt").fill("Tell me about streams")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("li").first).to_have_text("user Tell me about streams")
    await grown(page, len("assistant "))
    return used


@each
@pytest.mark.parametrize("transport", ["ws", "sse"])
async def test_an_answer_is_paused_reloaded_resumed_and_whole(page, served, the_end, name, transport):
    used = await begin(page, await served(name), transport)
    assert used == [transport] * (transport in ACCEPTED)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("paused")
    gate = (await session_of(page))["gate"]
    await head(page, gate + 5)  # the server reads on
    held = await last(page)
    await head(page, gate + 20)
    assert await last(page) == held
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("paused")
    # What was on its way when the gate was shut is shown again behind it.
    assert held.startswith(await grown(page, len("assistant ")))
    await page.get_by_role("button", name="Resume").click()
    await grown(page, len(held))
    await page.get_by_label("Transport").select_option("fetch")
    await until(lambda: "fetch" in used)
    the_end.set()
    await expect(page.get_by_role("status")).to_have_text("done")
    assert await last(page) == "assistant " + (await session_of(page))["text"]


@each
async def test_a_reload_in_mid_answer_reads_on_and_stop_ends_it(page, served, name):
    await begin(page, await served(name), "auto")
    before = await grown(page, 40)
    await page.reload()
    after = await grown(page, len(before))
    assert after.startswith(before)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("status")).to_have_text("aborted")
    session = await session_of(page)
    assert session["status"] == "aborted"
    assert await last(page) == "assistant " + session["text"]


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
@each
async def test_a_refused_pause_is_told_and_the_answer_goes_on(page, served, name):
    refusal = {"error": {"code": "forbidden", "message": "Not by you.", "type": "permission_error"}}
    pauses = re.compile("/pause$")
    await page.route(pauses, lambda route: route.fulfill(status=403, json=refusal))
    await begin(page, await served(name), "sse")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("running Not by you.")
    before = await last(page)
    await page.unroute(pauses)
    await grown(page, len(before))
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("paused")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("status")).to_have_text("aborted")
