"""A real browser, and its complaints: any, unless a test expects it, fails the test."""

import asyncio
import io
import re
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.security.people import LINES
from tests.sources import lasting

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# As Playwright starts it: no page is slowed down for not being looked at.
FLAGS += ["--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows"]
FLAGS += ["--disable-renderer-backgrounding", "--disable-back-forward-cache"]
LISTENING = re.compile("DevTools listening on (ws://.*)")
SIZE = {"width": 1280, "height": 860}
CACHE = Path(__file__).parent / ".cache"
AXE = CACHE / "axe.min.js"
BROKEN = re.compile("ERR_|WebSocket connection|503|Failed to load resource")


def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.path.parts and not CHROMIUM.exists():
            item.add_marker(pytest.mark.skip(reason="Debian's chromium is not installed"))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """Where the one browser of all tests is listening; what a test sees of it is its own context."""
    place = f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"
    command = [str(CHROMIUM), *FLAGS, place, "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    address = next(found[1] for line in lines if (found := LISTENING.search(line)))
    reading = threading.Thread(target=process.stderr.read)  # else it would wait for us
    reading.start()
    yield address
    process.terminate()
    process.wait()
    reading.join()
    process.stderr.close()


@pytest.fixture
async def browser(chromium):
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.connect_over_cdp(chromium)
        yield browser
        await browser.close()


@pytest.fixture
def expected(request) -> re.Pattern[str]:
    """What may be complained of; `@pytest.mark.parametrize("expected", [BROKEN], indirect=True)`."""
    return getattr(request, "param", None) or re.compile(r"(?!)")


@pytest.fixture
async def context(browser, expected, make_node) -> AsyncIterator:
    """A browser without history; its pages' errors, warnings and violations fail the test.

    It is closed before its nodes are, which would wait for what it has open.
    """
    context = await browser.new_context(viewport=SIZE)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    await context.close()
    assert [text for text in complaints if not expected.search(text)] == []


@pytest.fixture
def the_end() -> asyncio.Event:
    """Once it is set, the answers of `node` and `guarded` that were asked for `LONG` tokens end."""
    return asyncio.Event()


@pytest.fixture
async def node(make_node, the_end):
    """A node whose demo lasts as long as its test needs."""
    return await make_node({"demo": lasting(the_end)})


@pytest.fixture
async def guarded(make_node, tmp_path, the_end):
    """A node that asks for keys."""
    path = tmp_path / "keys"
    path.write_text("\n".join(LINES))
    return await make_node({"demo": lasting(the_end)}, keys_file=path)


@pytest.fixture
async def page(context):
    return await context.new_page()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, fetched once by npm."""
    if not AXE.exists():
        CACHE.mkdir(exist_ok=True)
        command = ["npm", "pack", "--silent", "axe-core@4"]
        try:
            name = subprocess.run(
                command, cwd=CACHE, check=True, capture_output=True, text=True, timeout=60
            )
        except (OSError, subprocess.SubprocessError):
            pytest.skip("axe-core cannot be fetched")
        archive = CACHE / name.stdout.split()[-1]
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as files:
            member = files.extractfile("package/axe.min.js")
            assert member is not None
            AXE.write_bytes(member.read())
    return AXE.read_text()
