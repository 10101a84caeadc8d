"""What is done to a page in mid-answer, and that no token is lost or doubled by it."""

import asyncio
import signal

import pytest
from playwright.async_api import expect

from tests.browser.conftest import BROKEN
from tests.browser.driver import (
    WAIT,
    ask,
    begin,
    fact,
    is_whole,
    notes,
    over,
    picture,
    shows,
    sid,
    state,
    switch,
    tokens,
    wire,
)  # fmt: skip
from tests.clients import collect, session, sse, start, text_of
from tests.processes import serve
from tests.sources import LONG

broken = pytest.mark.parametrize("expected", [BROKEN], indirect=True)
each = pytest.mark.parametrize("transport", ["sse", "ws"])


async def test_an_answer_survives_switch_cut_pause_and_reload(page, http, node, the_end):
    await begin(page, node.url("/"), tokens=LONG, rate=60)
    await switch(page, "ws")
    await over(page, "ws")
    await tokens(page, 30)
    await page.click(".cut")
    await expect(fact(page, "reconnects")).to_have_text("1")
    await over(page, "ws")
    await switch(page, "sse")
    await over(page, "sse")
    await page.click(".cut")
    await expect(fact(page, "reconnects")).to_have_text("2")
    await picture(page, "running")
    await page.click("#hold")
    await state(page, "paused")
    await expect(page.locator("#hold")).to_have_text("Resume")
    name = await sid(page)
    gate = (await session(http, node, name))["gate"]
    before = text_of(await collect(sse(http, node, name), count=gate))
    await shows(page, before)
    await page.reload()
    await state(page, "paused")
    await shows(page, before)
    await picture(page, "paused")
    await page.click("#hold")
    the_end.set()
    await state(page, "done")
    assert len(await is_whole(page)) > len(before)


@each
async def test_the_wire_may_be_cut_again_and_again(page, node, the_end, transport):
    await page.goto(node.url("/"))
    await switch(page, transport)
    await ask(page, tokens=LONG, rate=100)
    for count in range(1, 6):
        await expect(page.locator(".cut")).to_be_enabled()
        await page.click(".cut")
        await expect(fact(page, "reconnects")).to_have_text(str(count))
    the_end.set()
    await state(page, "done")
    await is_whole(page)
    assert (await notes(page)).count("Connection lost (cut)") == 5


async def test_stop_closes_the_upstream_and_says_so(page, node):
    await begin(page, node.url("/"), least=5, tokens=LONG)
    await page.click("#stop")
    await state(page, "stopped")
    await expect(fact(page, "latest")).to_contain_text("connection was closed in")
    await expect(page.locator("#prompt")).to_be_focused()
    await expect(page.locator(".end")).to_contain_text("Stopped after")
    await is_whole(page)


@each
async def test_back_and_forward_in_mid_answer(page, node, the_end, transport):
    await page.goto("about:blank")
    await begin(page, node.url("/"), transport, tokens=LONG, rate=60)
    await page.go_back()
    await page.go_forward()
    await tokens(page, 20)
    await page.goto("about:blank")
    await page.go_back()
    the_end.set()
    await state(page, "done")
    await is_whole(page)


@broken
@each
async def test_offline_and_online_again(page, context, node, the_end, transport):
    await begin(page, node.url("/"), transport, tokens=LONG, rate=60)
    await context.set_offline(True)
    # The emulation does not reach a shared worker: over its socket the page is back at once.
    await expect(fact(page, "notes")).to_contain_text("Connection lost (offline)")
    await picture(page, f"offline-{transport}")
    await context.set_offline(False)
    the_end.set()
    await state(page, "done")
    await is_whole(page)


@each
async def test_a_frozen_page_goes_on_when_it_wakes_up(page, context, node, the_end, transport):
    await begin(page, node.url("/"), transport, tokens=LONG, rate=60)
    devtools = await context.new_cdp_session(page)
    await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    await asyncio.sleep(1.0)  # asleep, while the answer goes on
    await devtools.send("Page.setWebLifecycleState", {"state": "active"})
    the_end.set()
    await state(page, "done")
    await is_whole(page)


@broken
@each
async def test_a_server_that_restarts(page, http, node, the_end, redis_server, transport):
    front = await serve(redis_server.url)  # the page's; the answer's is another, and goes on
    session = await start(http, node, rate=60)
    await page.goto(front.url("/"))
    await switch(page, transport)
    await page.evaluate(
        """sid => {
            const turn = { prompt: "x", sid, tokens: 0 };
            const chat = { id: "restart", title: "x", at: Date.now(), turns: [turn] };
            localStorage.setItem("tokenwire.chat.restart", JSON.stringify(chat));
            location.hash = "restart";
        }""",
        session,
    )
    await tokens(page, 20)
    front.signal(signal.SIGKILL)
    await front.process.wait()
    await wire(page, "reconnecting")
    front = await serve(redis_server.url, port=front.port)
    the_end.set()
    await state(page, "done")
    await is_whole(page)
    assert await sid(page) == session
    await front.end()


async def test_a_second_tab_picks_the_answer_up_over_the_same_socket(page, context, node, the_end):
    await begin(page, node.url("/"), "ws", tokens=LONG, rate=60)
    other = await context.new_page()
    await other.goto(node.url("/"))
    await switch(other, "ws")
    await over(other, "ws")
    await tokens(other, 30)
    assert len(node.node.leavers) == 1  # one connection for both
    await other.click("#hold")
    await state(page, "paused")
    await page.click("#hold")
    the_end.set()
    for tab in (page, other):
        await state(tab, "done")
        await is_whole(tab)


async def test_a_shared_worker_that_dies_is_begun_anew(page, browser, node, the_end):
    await page.clock.install()
    await begin(page, node.url("/"), "ws", tokens=LONG, rate=60)
    other = await page.context.new_page()
    await other.goto(node.url("/"))
    await over(other, "ws")
    devtools = await browser.new_browser_cdp_session()
    targets = (await devtools.send("Target.getTargets"))["targetInfos"]
    (worker,) = [t for t in targets if t["type"] == "shared_worker" and node.url("/") in t["url"]]
    await devtools.send("Target.closeTarget", {"targetId": worker["targetId"]})
    await page.clock.fast_forward(31_000)  # in both; so long nothing is heard, and nobody is told of it
    for tab in (page, other):
        await expect(fact(tab, "notes")).to_contain_text("Connection lost (silence)")
    the_end.set()
    for tab in (page, other):
        await state(tab, "done")
        await is_whole(tab)
    assert len(node.node.leavers) == 1  # it serves both


async def test_where_the_shared_worker_is_mute_a_page_has_a_socket_of_its_own(page, node, the_end):
    mute = "window.SharedWorker = class { port = new MessageChannel().port1; };"
    await page.add_init_script(mute)
    await page.clock.install()
    await page.goto(node.url("/"))
    await switch(page, "ws")
    await ask(page, tokens=LONG, rate=60)
    await wire(page, "connecting")
    await page.clock.fast_forward(31_000)
    await over(page, "ws")
    the_end.set()
    await state(page, "done")
    await is_whole(page)


async def test_more_tabs_than_a_browser_has_connections(page, context, node):
    await page.goto(node.url("/"))
    await switch(page, "ws")
    await ask(page, tokens=LONG, rate=60)
    tabs = [page]
    for _ in range(7):
        tabs.append(await context.new_page())
        await tabs[-1].goto(node.url("/"))
        await over(tabs[-1], "ws")
    assert len(node.node.leavers) == 1
    await tabs[-1].click("#stop")
    for tab in tabs:
        await state(tab, "stopped")
        await is_whole(tab)


async def test_more_tabs_than_a_browser_has_connections_over_sse(page, context, node):
    await begin(page, node.url("/"), "sse", tokens=LONG, rate=60)
    tabs = [page]
    for _ in range(7):
        tabs.append(await context.new_page())
        await tabs[-1].goto(node.url("/"))
    first, last = tabs[:4], tabs[4:]
    for tab in first:
        await over(tab, "sse")
    for tab in last:  # each has its page, though no stream
        await wire(tab, "waiting")
    # One that nobody looks at makes room for one of those.
    hidden = "() => Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })"
    await first[1].evaluate(hidden)
    await last[0].evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    await wire(first[1], "waiting")
    async with asyncio.timeout(WAIT / 1000):
        while [await fact(tab, "wire").text_content() for tab in last].count("connected") != 1:
            await asyncio.sleep(0.02)
    # And the others, too, though they are hidden after all who wait have asked.
    for tab in (first[0], *first[2:]):
        await tab.evaluate(hidden)
    for tab in last:
        await wire(tab, "connected")
    for tab in first:
        await wire(tab, "waiting")
    # And each can stop the answer, which all have whole in the end.
    await last[-1].click("#stop")
    for tab in tabs:
        await state(tab, "stopped")
        await is_whole(tab)


async def test_a_prompt_in_one_tab_shows_in_the_other(page, context, node):
    await page.goto(node.url("/"))
    await ask(page, "first", tokens=5)
    await state(page, "done")
    other = await context.new_page()
    await other.goto(node.url("/"))
    await ask(page, "second", tokens=20)
    await expect(other.locator(".ask").last).to_have_text("second")
    for tab in (page, other):
        await state(tab, "done")
        await is_whole(tab)


async def test_side_by_side_over_both_transports(page, node, the_end):
    await page.goto(node.url("/"))
    await page.check("#both")
    await ask(page, tokens=LONG, rate=60)
    await over(page, "sse")
    await over(page, "ws", 1)
    await tokens(page, 20, pane=1)
    await page.locator(".cut").nth(1).click()
    await expect(fact(page, "reconnects", 1)).to_have_text("1")
    await picture(page, "side-by-side")
    the_end.set()
    for pane in range(2):
        await state(page, "done", pane)
    held = await is_whole(page, panes=2)
    await expect(page.locator("#match")).to_have_text(f"✓ The same {len(held)} characters in both")
