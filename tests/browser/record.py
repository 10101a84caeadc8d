"""Record the page at work, as docs/images/recording.webp: `python -m tests.browser.record`.

A prompt, an answer that is paused, resumed, cut and switched to WebSocket, and a second reader beside it.
"""

import asyncio
import io
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, async_playwright, expect

from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.driver import fact, over, state, tokens
from tests.processes import ROOT, serve
from tests.redis_server import RedisServer, binaries

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1080, "height": 640}
FRAME = 0.125
MOST = 1_500_000  # bytes; a readme is not to keep its reader waiting
QUALITY = 80
# A pointer, which a picture of a page does not have by itself.
POINTER = """() => {
    const dot = document.createElement("div");
    Object.assign(dot.style, {
        position: "fixed", zIndex: 99, left: "540px", top: "400px",
        width: "22px", height: "22px", margin: "-11px", borderRadius: "50%",
        background: "rgb(229 72 77 / 45%)", border: "2px solid rgb(229 72 77)",
        pointerEvents: "none", transition: "left .35s, top .35s, scale .15s",
    });
    document.body.append(dot);
    addEventListener("mousemove", ({ clientX, clientY }) => {
        Object.assign(dot.style, { left: `${clientX}px`, top: `${clientY}px` });
    });
    addEventListener("mousedown", () => { dot.style.scale = 0.6; });
    addEventListener("mouseup", () => { setTimeout(() => { dot.style.scale = 1; }, 200); });
}"""


@asynccontextmanager
async def opened(url: str, size: dict[str, int]) -> AsyncIterator[Page]:
    """Open a page in a browser of its own."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = await browser.new_page(viewport=size)  # type: ignore[arg-type]
        await page.goto(url)
        yield page
        await browser.close()


class Film:
    """What the page looked like, and for how long."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._times: list[float] = []

    async def roll(self) -> None:
        """Take a picture each eighth of a second."""
        due = time.monotonic()
        while True:
            shot = await self._page.screenshot(caret="initial")
            self._times.append(time.monotonic())
            self._frames.append(Image.open(io.BytesIO(shot)).convert("RGB"))
            due = max(due + FRAME, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def save(self, path: Path) -> None:
        lengths = [round(1000 * (b - a)) for a, b in zip(self._times, self._times[1:], strict=False)]
        first, *others = self._frames
        first.save(
            path, save_all=True, append_images=others, duration=[*lengths, 2000], loop=0,
            quality=QUALITY, method=4, minimize_size=True, allow_mixed=True,
        )  # fmt: skip
        seconds, size = sum(lengths) / 1000 + 2, path.stat().st_size
        print(f"{path.name}: {len(self._frames)} frames, {seconds:.1f} s, {size / 1000:.0f} kB")
        assert size <= MOST


async def click(page: Page, selector: str) -> None:
    """Go there so that a reader can follow, and click."""
    where = page.locator(selector).last
    await where.hover(force=True)
    await asyncio.sleep(0.45)
    await where.click(force=True)


async def play(page: Page) -> None:
    """Do what the page is for."""
    await asyncio.sleep(0.6)
    await click(page, "#prompt")
    await page.keyboard.type("Tell me about streams that survive", delay=30)
    await page.keyboard.press("Enter")
    await tokens(page, 60)
    await click(page, "#hold")
    await state(page, "paused")
    await asyncio.sleep(1.2)
    await click(page, "#hold")
    await state(page, "running")
    await asyncio.sleep(1.0)
    await click(page, ".cut")
    await expect(fact(page, "reconnects")).to_have_text("1")
    await asyncio.sleep(1.5)
    await click(page, ".switch label:has([value=ws])")
    await over(page, "ws")
    await asyncio.sleep(1.2)
    await click(page, "#both")
    await over(page, "sse", 1)
    await state(page, "done")
    await state(page, "done", 1)
    await expect(page.locator("#match")).to_have_text(re.compile("✓ The same"))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(binaries()[0], Path(folder))
        node = await serve(redis.url)
        async with opened(node.url("/"), SIZE) as page:
            await page.evaluate(POINTER)
            film = Film(page)
            rolling = asyncio.create_task(film.roll())
            await play(page)
            await asyncio.sleep(1)
            rolling.cancel()
            await asyncio.wait([rolling])
        await node.end()
        redis.kill()
    film.save(IMAGES / "recording.webp")


if __name__ == "__main__":
    asyncio.run(main())
