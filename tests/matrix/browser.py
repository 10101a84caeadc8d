"""The clients of a browser, each trial in a page of its own, in Debian's Chromium."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.matrix import packages

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


def bundle(script: str) -> str:
    """Return a client's script as one, with what it imports."""
    if not CHROMIUM.exists():
        pytest.skip("Debian's chromium is not installed")
    place = packages.npm()
    command = [
        str(place / "node_modules/.bin/esbuild"), f"clients/{script}", "--bundle",
        "--format=esm", '--define:process.env.NODE_ENV="production"',
    ]  # fmt: skip
    return subprocess.run(command, cwd=place, check=True, capture_output=True, text=True).stdout


@asynccontextmanager
async def _chromium() -> AsyncIterator[Any]:
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        await browser.close()


async def spoken(script: str, tasks: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Run a client's script, each task in a page; yield what they say until all have ended."""
    code = await asyncio.to_thread(bundle, script)
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    async with _chromium() as browser:
        # One after the other: a page that draws keeps the next one's abort waiting.
        for name, task in tasks.items():
            page = await _open(browser, code, {name: task}, told)
            line: dict[str, Any] = {}
            while "end" not in line:
                line = await told.get()
                yield line
            await page.close()


async def _open(browser: Any, code: str, tasks: dict[str, Any], told: asyncio.Queue[Any]) -> Any:
    """Return a page, open on the address of its one task."""
    (task,) = tasks.values()
    html = f"<!doctype html><body></body><script>MATRIX = {orjson.dumps(tasks).decode()}</script>"
    html += '<script type="module" src="/matrix.js"></script>'
    files = {"/matrix": ("text/html", html), "/matrix.js": ("text/javascript", code)}
    page = await browser.new_page()

    async def serve(route: Any) -> None:
        kind, text = files[route.request.url.removeprefix(task["url"])]
        await route.fulfill(content_type=f"{kind}; charset=utf-8", body=text)

    await page.route("**/matrix*", serve)
    await page.expose_function("tell", lambda line: told.put_nowait(orjson.loads(line)))
    await page.goto(f"{task['url']}/matrix")
    return page
