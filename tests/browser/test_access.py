"""What axe-core finds: nothing, in light and dark, in every state of the page."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.browser.driver import ask, picture, state, tokens

CACHE = Path(__file__).parent / ".cache"
AXE = CACHE / "axe.min.js"


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


async def violations(page, axe: str) -> list[str]:
    await page.evaluate(axe)
    found = await page.evaluate("axe.run().then(r => r.violations)")
    return [f"{v['id']}: {json.dumps([n['target'] for n in v['nodes']])}" for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
async def test_axe_finds_nothing(page, make_node, axe, scheme, width):
    node = await make_node()
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 860})
    await page.goto(node.url("/"))
    found = {"welcome": await violations(page, axe)}
    await picture(page, f"welcome-{scheme}-{width}")
    await ask(page, tokens=300, rate=60, tool_call=True)
    await tokens(page, 20)
    await page.click(".fold summary")
    await page.click(".log summary")
    found["running"] = await violations(page, axe)
    await page.check("#both")
    await state(page, "running", 1)
    await page.click("#hold")
    await state(page, "paused", 1)
    found["paused, side by side"] = await violations(page, axe)
    await picture(page, f"both-{scheme}-{width}")
    await page.click("#stop")
    await state(page, "stopped", 1)
    await page.click("#options summary")
    found["stopped, options open"] = await violations(page, axe)
    await picture(page, f"options-{scheme}-{width}")
    assert {where: what for where, what in found.items() if what} == {}
