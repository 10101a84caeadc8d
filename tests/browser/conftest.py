"""A real browser, and its complaints: any, unless a test expects it, fails the test."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SIZE = {"width": 1280, "height": 860}
BROKEN = re.compile("ERR_|WebSocket connection|503|Failed to load resource")


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts and not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason="Debian's chromium is not installed"))


@pytest.fixture
async def browser():
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
def expected(request) -> re.Pattern[str]:
    """What may be complained of; `@pytest.mark.parametrize("expected", [BROKEN], indirect=True)`."""
    return getattr(request, "param", None) or re.compile(r"(?!)")


@pytest.fixture
async def context(browser, expected) -> AsyncIterator:
    """A browser without history; its pages' errors, warnings and violations fail the test."""
    context = await browser.new_context(viewport=SIZE)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    await context.close()
    assert [text for text in complaints if not expected.search(text)] == []


@pytest.fixture
async def page(context):
    return await context.new_page()
