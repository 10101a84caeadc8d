"""The page in front of three nodes and nginx: an answer goes on by itself, whatever befalls them."""

import pytest

from tests.browser.conftest import BROKEN
from tests.browser.driver import ask, fact, is_whole, over, state, tokens
from tests.ops.fleet import EVENTS, fleet
from tests.ops.nginx import BINARY
from tests.processes import demo_text

pytestmark = pytest.mark.skipif(BINARY is None, reason="needs nginx")

PROMPT, ENDLESS = "Tell me about streams", 5000
FURTHER = 10


@pytest.fixture
async def where(redis_server, tmp_path):
    async with fleet(tmp_path, redis_server.url) as made:
        yield made


async def further(page) -> None:
    """Wait until both panes have got more tokens than they have now."""
    for pane in range(2):
        had = await fact(page, "tokens", pane).text_content()
        await tokens(page, int(had if had.isdigit() else 0) + FURTHER, pane)


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
async def test_an_answer_goes_on_through_every_event_over_both_transports(where, page):
    await page.goto(where.url)
    await page.select_option("#model", "demo")
    await page.check("#both")
    await ask(page, PROMPT, tokens=ENDLESS, rate=20, reasoning=False)
    await over(page, "sse")
    await over(page, "ws", 1)
    for befall in EVENTS.values():
        await further(page)
        await befall(where)
        await further(page)
    await page.click("#stop")
    for pane in range(2):
        await state(page, "stopped", pane)
    assert (await demo_text(PROMPT, ENDLESS)).startswith(await is_whole(page, panes=2))
    for pane in range(2):
        assert int(await fact(page, "reconnects", pane).text_content()) >= 2
