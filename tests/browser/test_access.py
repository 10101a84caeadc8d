"""What axe-core finds: nothing, in light and dark, in every state of the page."""

import pytest

from tests.browser.driver import ask, picture, state, tokens, violations
from tests.sources import LONG


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
async def test_axe_finds_nothing(page, node, axe, scheme, width):
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 860})
    await page.goto(node.url("/"))
    found = {"welcome": await violations(page, axe)}
    await picture(page, f"welcome-{scheme}-{width}")
    await ask(page, tokens=LONG, rate=60, tool_call=True)
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
