"""The inspector as an operator uses it: all nodes' sessions, charts, a log, pause, resume and abort."""

import re

import pytest
from playwright.async_api import expect

from server.session.state import Action
from tests.browser.conftest import BROKEN
from tests.browser.driver import picture, violations
from tests.clients import collect, sse, start
from tests.security.people import KEYS, LINES, bearer

REFUSED = re.compile("401|403")
LONG = {"tokens": 90_000, "rate": 40}
HEADINGS = "Session", "State", "Events", "Rate", "Viewers", "Lag", "Buffered", "Produced by", "Fence"
HELD = "sid => fetch('/v1/sessions/' + sid).then(r => r.json()).then(s => s.text)"
KEPT = "JSON.stringify(localStorage) + document.cookie + location"


@pytest.fixture
async def pair(make_node):
    """The first node runs the sessions, the second is looked at."""
    return [await make_node() for _ in range(2)]


def row(page, sid):
    return page.locator("#list tbody tr", has=page.locator(f"[title='{sid}']"))


def cell(page, sid, heading):
    """Return a session's cell under that heading."""
    return row(page, sid).locator("th, td").nth(HEADINGS.index(heading))


def fact(page, name):
    return page.locator("#facts div", has=page.locator(f"dt:text-is('{name}')")).locator("dd")


async def look(page, sid):
    await row(page, sid).get_by_role("button").click()
    await expect(page.locator("#sid")).to_have_text(sid)


async def test_sessions_of_another_node_are_shown_paused_resumed_and_aborted(page, pair, http):
    first, second = pair
    sid = await start(http, first, **LONG)
    await page.goto(second.url("/inspect"))
    await expect(page.locator("#wire")).to_have_text("live")
    await expect(page.locator("#crew tr")).to_have_count(2)
    await expect(cell(page, sid, "State")).to_have_text("running")
    await expect(cell(page, sid, "Rate")).to_have_text(re.compile(r"^[1-9][\d.]*/s$"))
    await expect(cell(page, sid, "Produced by")).to_have_text(first.node.name)
    async with http.ws_connect(second.url(f"/v1/sessions/{sid}/ws")):
        await expect(cell(page, sid, "Viewers")).to_have_text("1 WebSocket")
        await look(page, sid)
        await expect(page.locator("#viewers")).to_have_text(f"{second.node.name}: 1 WebSocket")
        await page.click("[data-act=pause]")
        await expect(page.locator("#outcome")).to_have_text(
            re.compile(r"^Paused behind event \d+, confirmed in [\d.]+ m?s\.$")
        )
        await expect(cell(page, sid, "State")).to_have_text("paused")
        await expect(fact(page, "Gate")).to_have_text(re.compile(r"^shut behind event \d+$"))
        await expect(fact(page, "Held by a pause")).to_have_text(re.compile(r"^[1-9].* (B|KiB)$"))
        await expect(page.locator("[data-act=pause]")).to_be_disabled()
        await page.click("[data-act=resume]")
        await expect(page.locator("#outcome")).to_have_text(re.compile("^Resumed, confirmed in"))
        await expect(cell(page, sid, "State")).to_have_text("running")
    abort = page.locator("[data-act=abort]")
    await abort.click()
    await expect(abort).to_have_text("Abort for good?")
    await abort.click()
    outcome = page.locator("#outcome")
    await expect(outcome).to_have_text(re.compile(r"^Aborted at \d+-\d+\. The model server's connection"))
    await expect(outcome).to_have_text(re.compile(rf"was closed in [\d.]+ m?s by {first.node.name}\.$"))
    await expect(cell(page, sid, "State")).to_have_text("aborted")
    await expect(page.locator("[data-act=abort]")).to_be_disabled()


async def test_an_abort_that_was_not_meant_does_nothing(page, pair, http):
    sid = await start(http, pair[0], **LONG)
    await page.goto(pair[1].url(f"/inspect#{sid}"))
    await expect(fact(page, "State")).to_have_text("running")
    await page.click("[data-act=abort]")
    await expect(page.locator("[data-act=abort]")).to_have_text("Abort for good?")
    await page.locator("#find").focus()
    await expect(page.locator("[data-act=abort]")).to_have_text("Abort")
    await expect(fact(page, "State")).to_have_text("running")


async def test_a_sessions_log_is_read_only_when_asked_for_with_the_times_at_which_it_came(
    page, pair, http
):
    first, second = pair
    sid = await start(http, first, **LONG)
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    await page.goto(second.url("/inspect"))
    await look(page, sid)
    await expect(fact(page, "Rate")).to_contain_text("a second")
    assert not [url for url in urls if "/v1/sessions" in url]
    await page.click("#read")
    lines = page.locator("#lines li")
    await expect(lines.first).to_contain_text("before")
    await expect(lines.nth(2)).to_contain_text(re.compile(r"^\d\d:\d\d:\d\d\.\d{3}\d+"))
    await first.node.control(sid, Action.ABORT)
    await expect(lines.last).to_contain_text("reason user")
    await expect(fact(page, "First token after")).to_have_text(re.compile("s$"))
    await expect(fact(page, "Ended after")).to_have_text(re.compile("s$"))
    said = "".join(await page.locator("#lines li:not(:last-child) .said").all_text_contents())
    assert said == await page.evaluate(HELD, sid)
    await page.keyboard.press("Escape")
    await expect(page.locator("#details")).to_be_hidden()


async def test_the_charts_move(page, pair, http):
    await start(http, pair[0], **LONG)
    await page.goto(pair[1].url("/inspect"))
    chart = page.locator(".chart").first
    await expect(chart).to_contain_text("Tokens a second")
    await expect(chart.locator(".keys b")).to_have_text(re.compile(r"^[1-9]"))
    line = chart.locator(".line0").first
    drawn = await line.get_attribute("d")
    await expect(line).not_to_have_attribute("d", drawn)
    await expect(chart.locator("svg")).to_have_attribute(
        "aria-label", re.compile("^Tokens a second: now [1-9]")
    )
    named = await page.locator("figcaption > b").all_text_contents()
    assert named == [
        "Tokens a second", "Time to first token", "Viewers", "Running sessions", "Redis round trip",
        "Event loop lag",
    ]  # fmt: skip
    for place in (0, 3, 4, 5):
        await expect(page.locator(".chart").nth(place).locator(".keys b").first).not_to_have_text("–")
    first_token = page.locator(".chart").nth(1).locator("svg")
    await expect(first_token).to_have_attribute("aria-label", re.compile("at most [1-9]"))


async def test_what_is_looked_for_is_found_and_what_is_sorted_stays_so(page, pair, http):
    first, second = pair
    slow = await start(http, first, tokens=90_000, rate=5, session={"conversation": "slow"})
    fast = await start(http, first, tokens=90_000, rate=200)
    over = await start(http, first, tokens=1)
    await collect(sse(http, first, over))
    await page.goto(second.url("/inspect"))
    rows = page.locator("#list tbody button")

    async def are(*sids):
        await expect(rows).to_have_count(len(sids))
        for place, sid in enumerate(sids):
            await expect(rows.nth(place)).to_have_attribute("title", sid)

    await are(over, fast, slow)
    await expect(cell(page, fast, "Rate")).to_have_text(re.compile(r"^\d+/s$"))
    await page.click("#list thead >> text=Rate")
    await are(fast, slow, over)
    await expect(page.locator("th[aria-sort=descending]")).to_have_text("Rate")
    await page.click("#list thead >> text=Rate")
    await are(over, slow, fast)
    await page.select_option("#state", "running")
    await are(slow, fast)
    await page.select_option("#state", "ended")
    await are(over)
    await page.select_option("#state", "")
    await page.fill("#find", "slow")
    await are(slow)
    await page.fill("#find", fast[:10])
    await are(fast)
    await page.fill("#find", "nothing like it")
    await expect(page.locator("#none")).to_have_text("No session is like that.")
    await page.fill("#find", "u" * 32)
    await page.click("text=Look at it all the same")
    await expect(fact(page, "State")).to_have_text("not among the live sessions")


async def test_without_sessions_it_says_how_to_start_one(page, pair):
    await page.goto(pair[1].url("/inspect"))
    await expect(page.locator("#none")).to_contain_text("No sessions yet.")
    await expect(page.locator("#list")).to_be_hidden()
    await page.click("#none >> text=playground")
    await expect(page.locator("#prompt")).to_be_visible()


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
async def test_a_lost_connection_is_told_and_comes_back_without_a_hole(page, pair, http):
    sid = await start(http, pair[0], **LONG)
    await page.goto(pair[1].url("/inspect"))
    await expect(cell(page, sid, "Rate")).to_contain_text("/s")
    await page.context.set_offline(True)
    await expect(page.locator("#wire")).to_have_text("reconnecting")
    await expect(page.locator("#lost")).to_contain_text("The connection is lost")
    await picture(page, "inspect-lost")
    await page.context.set_offline(False)
    await expect(page.locator("#wire")).to_have_text("live")
    await expect(page.locator("#lost")).to_be_hidden()
    drawn = await page.locator(".line0").first.get_attribute("d")
    await expect(page.locator(".line0").first).not_to_have_attribute("d", drawn)
    assert drawn.count("M") == 1  # one line, and nothing missing in it


@pytest.mark.parametrize("expected", [REFUSED], indirect=True)
async def test_it_takes_a_key_with_the_right_admin(page, make_node, http):
    node = await make_node(keys=LINES)
    async with http.post(
        node.url("/v1/sessions"), json={"prompt": "x", **LONG}, headers=bearer("alice")
    ) as answer:
        sid = (await answer.json())["id"]
    await page.goto(node.url("/inspect"))
    key, wrong = page.locator("#key"), page.locator("#wrong")
    await expect(key).to_be_focused()
    await expect(page.locator("#all")).to_be_hidden()
    await expect(wrong).to_have_text("")
    for shown, said in (
        ("tw_x", "The server does not take this key."),
        (KEYS["alice"], "This key does not have the right admin."),
    ):
        await key.fill(shown)
        await key.press("Enter")
        await expect(wrong).to_have_text(said)
    await picture(page, "inspect-door")
    await key.fill(KEYS["operator"])
    await key.press("Enter")
    await expect(cell(page, sid, "State")).to_have_text("running")
    await look(page, sid)
    await expect(fact(page, "Owner")).to_have_text("key:alice")
    await page.click("[data-act=pause]")
    await expect(page.locator("#outcome")).to_contain_text("Paused behind event")
    await page.click("#read")
    await expect(page.locator("#lines li").first).to_be_visible()
    assert KEYS["operator"] not in await page.evaluate(KEPT)


async def test_everything_by_keyboard(page, pair, http):
    sid = await start(http, pair[0], **LONG)
    await page.goto(pair[1].url("/inspect"))
    await expect(cell(page, sid, "State")).to_have_text("running")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#sessions")).to_be_focused()
    await row(page, sid).get_by_role("button").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#who")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#outcome")).to_contain_text("Paused behind event")
    await page.keyboard.press("Escape")
    await expect(page.locator("#details")).to_be_hidden()
    await expect(row(page, sid).get_by_role("button")).to_be_focused()


async def test_the_playground_loads_nothing_of_it(page, pair):
    urls = []
    page.on("request", lambda request: urls.append(request.url))
    await page.goto(pair[0].url("/"))
    await expect(page.locator("#model")).to_have_value("demo")
    assert len(urls) > 5
    assert [url for url in urls if "inspect" in url] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
async def test_axe_finds_nothing(page, pair, http, axe, scheme, width):
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await page.set_viewport_size({"width": width, "height": 860})
    first, second = pair
    await page.goto(second.url("/inspect"))
    await expect(page.locator("#none")).to_be_visible()
    found = {"empty": await violations(page, axe)}
    sids = [await start(http, first, tokens=90_000, rate=rate) for rate in (3, 40, 90)]
    await first.node.control(sids[0], Action.PAUSE)
    await first.node.control(await start(http, first, **LONG), Action.ABORT)
    await expect(page.locator("#list tbody tr")).to_have_count(4)
    async with http.ws_connect(second.url(f"/v1/sessions/{sids[1]}/ws")):
        await expect(cell(page, sids[1], "Viewers")).to_have_text("1 WebSocket")
        found["list"] = await violations(page, axe)
        await picture(page, f"inspect-{scheme}-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await look(page, sids[1])
        await page.click("#read")
        await expect(page.locator("#lines li").nth(3)).to_be_visible()
        found["details"] = await violations(page, axe)
        await picture(page, f"inspect-details-{scheme}-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.evaluate("document.getElementById('door').hidden = false")
    found["door"] = await violations(page, axe)
    assert {where: what for where, what in found.items() if what} == {}
