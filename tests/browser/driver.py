"""What the browser tests do over and over: ask, wait, compare, keep a picture."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from tests.waiting import until

PICTURES = Path(__file__).parent / "artefacts"
WAIT = 20_000.0  # milliseconds; the machine may be busy
MARKS = re.compile(r"[*_#>`\-\s]")

expect.set_options(timeout=WAIT)


async def set_options(page: Page, **options: Any) -> None:
    """Choose the demo's parameters."""
    await page.click("#options summary")
    for name, value in options.items():
        field = page.locator(f"#options [name={name}]")
        if isinstance(value, bool):
            await field.set_checked(value)
        else:
            await field.fill(str(value))
    await page.click("#options summary")


async def begin(
    page: Page, base: str, transport: str | None = None, least: int = 10, **options: Any
) -> None:
    """Open the page, over a transport, and ask; return in the middle of the answer."""
    await page.goto(base)
    if transport is not None:
        await switch(page, transport)
    await ask(page, **options)
    await tokens(page, least)


async def ask(page: Page, prompt: str = "Tell me about streams", **options: Any) -> None:
    if options:
        await set_options(page, **options)
    await page.fill("#prompt", prompt)
    await page.press("#prompt", "Enter")


async def show_key(page: Page, key: str) -> None:
    await page.fill("#key", key)
    await page.press("#key", "Enter")


async def tokens(page: Page, least: int, pane: int = 0) -> None:
    """Wait until a pane has that many tokens."""
    async with asyncio.timeout(WAIT / 1000):
        while (
            not (count := await fact(page, "tokens", pane).text_content()).isdigit() or int(count) < least
        ):
            await asyncio.sleep(0.02)


def fact(page: Page, name: str, pane: int = 0) -> Any:
    return page.locator(".pane").nth(pane).locator(f"[data-is={name}]")


async def state(page: Page, wanted: str, pane: int = 0) -> None:
    await expect(fact(page, "status", pane)).to_have_text(wanted)


async def wire(page: Page, wanted: str, pane: int = 0) -> None:
    await expect(fact(page, "wire", pane)).to_have_text(wanted)


async def over(page: Page, transport: str, pane: int = 0) -> None:
    """Wait until a pane is connected over that transport."""
    await wire(page, "connected", pane)
    await expect(page.locator(".pane").nth(pane)).to_have_attribute("data-over", transport)


async def switch(page: Page, transport: str, pane: int = 0) -> None:
    await page.locator(".pane").nth(pane).locator(f"input[value={transport}]").check(force=True)


async def notes(page: Page, pane: int = 0) -> str:
    return str(await fact(page, "notes", pane).text_content())


async def turns(page: Page) -> list[dict[str, Any]]:
    """Return what the page keeps of its conversation."""
    script = "() => JSON.parse(localStorage.getItem('tokenwire.chat.' + location.hash.slice(1))).turns"
    return list(await page.evaluate(script))


async def sid(page: Page) -> str:
    return str((await turns(page))[-1]["sid"])


async def kept_text(page: Page, turn: int = -1) -> str:
    parts = (await turns(page))[turn]["parts"]
    return "".join(part["text"] for part in parts if part["kind"] == "text")


async def held_text(page: Page) -> str:
    """Return what the server holds."""
    script = "sid => fetch('/v1/sessions/' + sid).then(r => r.json()).then(s => s.text)"
    return str(await page.evaluate(script, await sid(page)))


async def shown_text(page: Page, pane: int = 0) -> str:
    """Return the last answer as it is shown, without spaces and marks."""
    reply = page.locator(".pane").nth(pane).locator(".reply").last
    return bare("".join(await reply.locator(".text").all_text_contents()))


async def shows(page: Page, text: str) -> None:
    """Wait until that is all of the last answer that is shown."""

    async def shown() -> bool:
        return await shown_text(page) == bare(text)

    await until(shown, WAIT / 1000, pause=0.02)


def bare(markdown: str) -> str:
    return MARKS.sub("", markdown)


async def is_whole(page: Page, panes: int = 1) -> str:
    """Assert that the page shows and keeps what the server holds; return it."""
    held = await held_text(page)
    assert await kept_text(page) == held
    for pane in range(panes):
        assert await shown_text(page, pane) == bare(held)
        await expect(fact(page, "gaps", pane)).to_have_text("0")
        assert "Refused" not in await notes(page, pane)
    return held


async def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    await page.screenshot(path=str(PICTURES / f"{name}.png"))


async def violations(page: Page, axe: str) -> list[str]:
    """Return what axe-core, whose script is given, finds on the page as it is."""
    await page.evaluate(axe)
    found = await page.evaluate("axe.run().then(r => r.violations)")
    return [f"{v['id']}: {json.dumps([n['target'] for n in v['nodes']])}" for v in found]
