"""How long the readme's first screen takes: `python -m tests.browser.newcomer [repository]`.

A clone, `make run` with its fresh environment, and in the browser an answer that is paused, cut,
resumed and finished, by whoever needs no time to think. Prints the seconds of each step.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from playwright.async_api import Page, expect

from tests.browser.conftest import SIZE
from tests.browser.driver import ask, fact, is_whole, state, tokens
from tests.browser.record import opened
from tests.processes import ROOT

LIMIT = 120.0


class Watch:
    """Says what each step took."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def lap(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self.last:6.1f} s  {what}", flush=True)
        self.last = now


async def use(page: Page) -> None:
    """Ask, pause, cut, resume, and read to the end."""
    await ask(page)
    await tokens(page, 30)
    await page.click("#hold")
    await state(page, "paused")
    await page.click(".cut")
    await expect(fact(page, "reconnects")).to_have_text("1")
    await page.click("#hold")
    await state(page, "done")
    await is_whole(page)


async def main(repository: str) -> None:
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "tokenwire"
        git = await asyncio.create_subprocess_exec("git", "clone", "--quiet", repository, str(clone))
        assert await git.wait() == 0
        watch.lap("git clone")
        # Without what our own environment would add to a newcomer's; on any free port.
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        env["PATH"] = env["PATH"].replace(f"{sys.prefix}/bin:", "")
        server = await asyncio.create_subprocess_exec(
            "make", "run", "ARGS=--port 0", cwd=clone, env=env, stdout=asyncio.subprocess.PIPE
        )
        assert server.stdout is not None
        async for line in server.stdout:  # behind what make says
            if line.startswith(b"tokenwire: http"):
                break
        else:
            sys.exit("make run ended")
        url = line.decode().split()[1]
        watch.lap("make run")
        async with opened(url, SIZE) as page:
            await use(page)
        watch.lap("paused, cut, resumed and finished in the browser")
        server.send_signal(signal.SIGTERM)
        await server.wait()
    seconds = watch.last - watch.start
    print(f"{seconds:6.1f} s  in all")
    if seconds > LIMIT:
        sys.exit(f"more than {LIMIT:.0f} s")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT)))
