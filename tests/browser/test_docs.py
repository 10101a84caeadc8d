"""What the pages give to a browser works in one."""

import asyncio
import re

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.docs.blocks import chosen
from tests.waiting import HANG


@pytest.mark.parametrize("expected", [re.compile("^log: ")], indirect=True, ids=["log"])
@pytest.mark.parametrize("block", chosen("run", "js"), ids=lambda block: block.name)
async def test_a_script_reads_an_answer_to_its_end(page, quick, block):
    over = asyncio.Event()
    page.on("console", lambda message: over.set() if "done" in message.text else None)
    text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{quick.port}")
    await page.goto(quick.url("/"))
    await page.evaluate(f"() => {{ {text} }}")
    async with asyncio.timeout(HANG):
        await over.wait()


@pytest.fixture
async def elsewhere():
    """A server of one page, to be put into its dictionary; its origin."""
    said: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=said["page"], content_type="text/html")

    app = web.Application()
    app.router.add_get("/chat.html", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield said, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_tutorials_chat(page, make_node, elsewhere):
    (block,) = chosen("run", "html")
    script = block.text.partition('<script type="module">\n')[2].partition("</script>")[0]
    assert len(script.splitlines()) <= 20
    said, origin = elsewhere
    node = await make_node(allow_origin=(origin,))
    said["page"] = block.text.replace("http://127.0.0.1:8080", node.url(""))

    state, text = page.locator("output"), page.locator("p")
    await page.goto(f"{origin}/chat.html")
    await page.click("text=Send")
    await expect(text).to_have_text(re.compile("You asked about"))
    await page.click("text=Pause")
    await expect(state).to_have_text("paused")
    before = await text.text_content()
    await page.reload()
    await expect(text).to_have_text(re.compile(re.escape(before.strip())))
    await page.click("text=Resume")
    await expect(text).to_have_text(re.compile(re.escape(before.strip()) + r".+", re.S))
    await page.click("text=Stop")
    await expect(state).to_have_text("over")
