"""The page in a real browser: what a person does with it, and that nothing is lost or complained of."""

import asyncio
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")


@pytest.fixture
async def page():
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        await browser.close()
        assert complaints == []


async def _shows(page, name: str, wanted) -> None:
    """Wait until an element's text is as wanted; polled, since the page's policy forbids eval."""
    async with asyncio.timeout(20):
        while not wanted(await page.text_content(f"#{name}")):
            await asyncio.sleep(0.02)


async def _tokens(page, least: int) -> None:
    await _shows(page, "count", lambda text: int(text) >= least)


async def _status(page, status: str) -> None:
    await _shows(page, "status", lambda text: text == status)


async def _texts(page) -> tuple[str, str]:
    """What the page shows, and what the server holds."""
    shown = await page.evaluate("document.getElementById('answer').textContent")
    held = await page.evaluate(
        "fetch('/v1/sessions/' + sessionStorage.getItem('sid')).then(r => r.json()).then(s => s.text)"
    )
    return shown, held


async def test_an_answer_survives_switch_cut_pause_and_reload(page, make_node):
    node = await make_node()
    await page.goto(node.url("/"))
    await page.click("#send")
    await _tokens(page, 10)
    await page.click("input[value=ws]")
    await _tokens(page, 20)
    await page.click("#cut")
    await _tokens(page, 30)
    await page.click("#pause")
    await _status(page, "paused")
    before = await page.text_content("#answer")
    await page.reload()
    await _status(page, "paused")
    await page.wait_for_function(f"document.getElementById('answer').textContent.length == {len(before)}")
    await page.click("#resume")
    await _status(page, "done")
    shown, held = await _texts(page)
    assert shown == held
    assert len(held) > len(before)


async def test_abort_says_that_the_upstream_is_closed(page, make_node):
    node = await make_node()
    await page.goto(node.url("/"))
    await page.click("#send")
    await _tokens(page, 5)
    await page.click("#abort")
    await _status(page, "aborted")
    await _shows(page, "notices", lambda text: "upstream closed in" in text)
    shown, held = await _texts(page)
    assert shown == held
