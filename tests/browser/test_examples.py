"""The examples do what they say."""

import importlib.util
import re
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import expect

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def vanilla(redis_server):
    """The address of the plain page's own server."""
    spec = importlib.util.spec_from_file_location("vanilla", EXAMPLES / "vanilla" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runner = web.AppRunner(
        module.make_app(redis_server.url), handler_cancellation=True, shutdown_timeout=1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_a_plain_page_on_a_server_of_ones_own(page, vanilla):
    await page.goto(vanilla)
    answer = page.locator("pre")
    await page.click("text=Send")
    await expect(answer).to_have_text(re.compile("You asked about"))
    await page.click("text=Pause")
    await expect(page.locator("output")).to_have_text("paused")
    before = await answer.text_content()
    await page.reload()
    await expect(page.locator("output")).to_have_text("paused")
    await expect(answer).to_have_text(re.compile("You asked about"))
    # What was on its way when the gate was shut is shown again behind it.
    assert before.startswith(await answer.text_content())
    await page.click("text=Resume")
    await expect(page.locator("output")).to_have_text("done")
    sid = await page.evaluate("location.hash.slice(1)")
    held = await page.evaluate("sid => fetch('/llm/v1/sessions/' + sid).then(r => r.json())", sid)
    assert await answer.text_content() == held["text"]
