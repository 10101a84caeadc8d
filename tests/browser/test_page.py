"""The page as a person uses it: conversations, Markdown, folds, keyboard, phone, eyes and ears."""

import asyncio
import gzip
import re

import aiohttp
import pytest
from playwright.async_api import expect

from server.events import Content, Done, Error, Reasoning, ToolCall
from tests.browser.conftest import BROKEN
from tests.browser.driver import (
    ask,
    bare,
    fact,
    is_whole,
    kept_text,
    over,
    picture,
    set_options,
    show_key,
    shown_text,
    state,
    switch,
    tokens,
    turns,
)  # fmt: skip
from tests.clients import session
from tests.security.people import KEYS, bearer
from tests.sources import LONG

REFUSED = re.compile("401")

EVIL = """# A *title*

Text with <script>window.evil = 1</script> and <b onclick="window.evil = 1">bold</b>.

<img src=x onerror="window.evil = 1"> <style>body { display: none }</style> <iframe src="/"></iframe>

[bad](javascript:window.evil=1) [data](data:text/html,<script>1</script>) ![pixel](https://example.com/p.png)
[good](https://example.com/?a=1&b="2")

| a | b |
|---|--:|
| 1 | `<i>` |

- [x] done
- [ ] open
  1. inner

```html
<script>window.evil = 1</script>
```

> quoted

Last line."""


def saying(*events):
    """Return an upstream that says that, whatever it is asked; it keeps what it was asked."""

    async def source(request):
        source.asked.append(request)
        for event in events:
            await asyncio.sleep(0)
            yield event

    source.asked = []
    return source


async def test_a_conversation_goes_on_with_what_was_said(page, make_node):
    source = saying(Content("Hello "), Content("there."), Done())
    node = await make_node({"mine": source})
    await page.goto(node.url("/"))
    await expect(page.locator("#model")).to_have_value("mine")
    await ask(page, "one")
    await state(page, "done")
    await set_options(page, temperature="0.5", max_tokens="7")
    await ask(page, "two")
    await expect(page.locator(".ask")).to_have_text(["one", "two"])
    await state(page, "done")
    assert [(m["role"], m["content"]) for m in source.asked[1].messages] == [
        ("user", "one"), ("assistant", "Hello there."), ("user", "two"),
    ]  # fmt: skip
    assert source.asked[1].parameters == {"temperature": 0.5, "max_tokens": 7}
    assert [turn["prompt"] for turn in await turns(page)] == ["one", "two"]


async def test_several_conversations_at_once(page, node):
    await page.goto(node.url("/"))
    await ask(page, "the first", tokens=120, rate=60)
    await tokens(page, 5)
    await page.click("#new")
    await expect(page.locator(".welcome")).to_be_visible()
    await expect(page.locator("#prompt")).to_be_focused()
    await ask(page, "the second", tokens=20)
    await state(page, "done")
    await picture(page, "conversations")
    await is_whole(page)
    await expect(page.locator("#list .open")).to_have_text(["the second", "the first"])
    await page.click("#list .open >> text=the first")
    await expect(page.locator("#title")).to_have_text("the first")
    await state(page, "done")
    await is_whole(page)
    await page.hover("#list li >> nth=1")
    await page.click("[aria-label='Delete: the first']")
    await expect(page.locator("#list .open")).to_have_text(["the second"])
    await expect(page.locator(".welcome")).to_be_visible()


async def test_what_a_model_writes_is_text_and_never_code(page, make_node):
    pieces = [Content(piece) for piece in re.findall(r"(?s).{1,7}", EVIL)]
    node = await make_node({"evil": saying(*pieces, Done())})
    await page.goto(node.url("/"))
    await ask(page)
    await state(page, "done")
    reply = page.locator(".reply")
    assert await reply.locator("script, img, style, iframe, [onclick], [onerror]").count() == 0
    assert await page.evaluate("window.evil") is None
    assert await kept_text(page) == EVIL
    links = await reply.locator("a").evaluate_all(
        "all => all.map(a => [a.textContent, a.getAttribute('href'), a.rel, a.target])"
    )
    rel = ["noopener noreferrer nofollow", "_blank"]
    assert links == [
        ["bad", None, *rel], ["data", None, *rel],
        ["pixel", "https://example.com/p.png", *rel],
        ["good", "https://example.com/?a=1&b=%222%22", *rel],
    ]  # fmt: skip
    assert await reply.locator("h3").inner_html() == "A <em>title</em>"
    assert await reply.locator("li").count() == 3
    assert await reply.locator("td").all_text_contents() == ["1", "<i>"]
    assert "window.evil = 1" in await reply.locator("pre").inner_text()
    await picture(page, "markdown")


async def test_what_grows_looks_as_if_it_had_come_at_once(page, make_node):
    text = EVIL.replace("<", "(") * 3
    grown = [Content(piece) for piece in re.findall(r"(?s).{1,3}", text)]
    node = await make_node({"a": saying(*grown, Done()), "b": saying(Content(text), Done())})
    await page.goto(node.url("/"))
    shown = []
    for model in "ab":
        await page.select_option("#model", model)
        await ask(page)
        await state(page, "done")
        shown.append(await page.locator(".text").last.inner_html())
        await page.click("#new")
    assert re.sub(r">\s+<", "><", shown[0]) == re.sub(r">\s+<", "><", shown[1])


async def test_reasoning_and_tool_calls_are_folded(page, make_node):
    events = [
        Reasoning("Let me "), Reasoning("think."), ToolCall(0, "c1", "search", ""),
        ToolCall(0, arguments='{"q":'), ToolCall(0, arguments='"x"}'), Content("So."), Done(),
    ]  # fmt: skip
    node = await make_node({"m": saying(*events)})
    for transport in ("sse", "ws"):
        await page.goto(node.url("/"))
        await page.click("#new")
        await switch(page, transport)
        await ask(page)
        await state(page, "done")
        folds = page.locator(".fold")
        assert await folds.locator("summary").all_text_contents() == ["Reasoning", "Tool call: search"]
        assert await folds.evaluate_all("all => all.map(f => f.open)") == [False, False]
        assert await folds.nth(0).locator("div").text_content() == "Let me think."
        assert await folds.nth(1).locator("pre").text_content() == '{\n  "q": "x"\n}'
        assert await shown_text(page) == "So."
    await page.reload()
    await state(page, "done")
    assert await folds.nth(0).locator("div").text_content() == "Let me think."


async def test_a_failure_is_told_and_can_be_tried_again(page, make_node):
    node = await make_node({"m": saying(Content("So far "), Error("upstream_error", "It broke.", True))})
    await page.goto(node.url("/"))
    await ask(page, "why")
    await state(page, "failed")
    await expect(page.locator(".end.bad")).to_contain_text("It broke.")
    await picture(page, "failed")
    await page.click("text=Send again")
    await expect(page.locator(".ask")).to_have_text(["why", "why"])
    await state(page, "failed")


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
async def test_a_session_that_is_gone_is_still_shown_as_kept_and_can_be_asked_for_again(page, http, node):
    await page.goto(node.url("/"))
    await ask(page, tokens=LONG, rate=60)
    await tokens(page, 10)
    sid = (await turns(page))[-1]["sid"]
    await page.goto("about:blank")
    async with http.delete(node.url(f"/v1/sessions/{sid}")) as response:
        assert response.status == 204
    await page.goto(node.url("/"))
    await state(page, "gone")
    await expect(page.locator(".end")).to_contain_text("does not keep this answer")
    await set_options(page, tokens=5, rate=0)
    await page.click("text=Send again")
    await state(page, "done")
    await is_whole(page)
    assert [turn["final"]["type"] for turn in await turns(page)] == ["gone", "done"]


async def test_numbers_tell_how_it_goes(page, node):
    await page.goto(node.url("/"))
    await ask(page, tokens=200, rate=50, reasoning=False)
    await expect(fact(page, "rate")).to_have_text(re.compile("^(4[5-9]|5[0-5])/s$"))
    await expect(fact(page, "first")).to_have_text(re.compile(r"^\d+ ms$"))
    await state(page, "done")
    await expect(fact(page, "tokens")).to_have_text("200")
    await expect(fact(page, "event")).to_have_text(re.compile(r"^\d{13}-201$"))
    await expect(fact(page, "longest")).to_have_text(re.compile("ms$"))


async def test_everything_by_keyboard(page, node):
    await page.goto(node.url("/"))
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.locator("#prompt").focus()
    await page.keyboard.type("first line")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second line")
    await page.keyboard.press("Enter")
    await expect(page.locator(".ask")).to_have_text("first line\nsecond line")
    await tokens(page, 5)
    await page.locator(".switch input:checked").focus()
    await page.keyboard.press("ArrowRight")
    await over(page, "ws")
    await page.locator("#hold").focus()
    await page.keyboard.press("Space")
    await state(page, "paused")
    await expect(page.locator("#hold")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#stop")).to_be_focused()
    await page.keyboard.press("Enter")
    await state(page, "stopped")
    await expect(page.locator("#prompt")).to_be_focused()
    await page.locator("#options summary").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".sheet")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".sheet")).to_be_hidden()


async def test_a_screen_reader_is_told_whole_paragraphs_and_changes(page, make_node):
    long = "It goes on and on. " * 100
    events = [Content("First."), Content("\n\nSecond."), Content(f"\n\n{long}"), Done()]
    node = await make_node({"m": saying(*events)})
    await page.goto(node.url("/"))
    await page.evaluate("""() => {
        window.said = [];
        new MutationObserver(() => window.said.push(document.getElementById("live").innerText))
            .observe(document.getElementById("live"), { childList: true });
    }""")
    await ask(page)
    await state(page, "done")
    await expect(page.locator("#live")).to_contain_text("Answer complete, 3 tokens.")
    said = "\n".join(await page.evaluate("window.said")).split("\n")
    assert [text for text in said if text][-4:] == [
        "First.",
        "Second.",
        long.strip(),
        "Answer complete, 3 tokens.",
    ]


async def test_on_a_phone_nothing_sticks_out(page, node):
    await page.set_viewport_size({"width": 375, "height": 740})
    await page.goto(node.url("/"))
    await picture(page, "phone-welcome")
    assert await page.evaluate("document.querySelector('.thread').scrollTop") == 0
    await ask(page, "a" * 200, tokens=60, rate=60)
    await tokens(page, 20)
    await picture(page, "phone")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    await page.click("#menu")
    await expect(page.locator("#new")).to_be_visible()
    await picture(page, "phone-menu")
    await page.keyboard.press("Escape")
    await expect(page.locator("#new")).to_be_hidden()
    await expect(page.locator("#menu")).to_be_focused()
    await page.check("#both")
    await state(page, "done", 1)
    await picture(page, "phone-both")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    assert await shown_text(page) == bare(await kept_text(page))


@pytest.mark.parametrize("width", [720, 980, 1080])
async def test_side_by_side_nothing_covers_or_sticks_out(page, node, width):
    await page.set_viewport_size({"width": width, "height": 640})
    await page.goto(node.url("/"))
    await expect(page.locator(".starters button").last).to_be_in_viewport()
    await page.check("#both")
    await ask(page, tokens=20, rate=0)
    await state(page, "done", 1)
    script = "all => all.map(e => e.scrollWidth - e.clientWidth)"
    assert await page.locator(".strip, .pane").evaluate_all(script) == [0, 0, 0, 0]


async def test_reduced_motion_has_no_animation(page, node):
    await page.emulate_media(reduced_motion="reduce")
    await page.goto(node.url("/"))
    await ask(page)
    await tokens(page, 5)
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_the_page_is_light_and_needs_no_other_host(page, node):
    urls = {node.url("/client/shared.js"), node.url("/icon.svg")}  # these are not always told of
    page.context.on("request", lambda request: urls.add(request.url.split("#")[0]))
    await page.goto(node.url("/"))
    await switch(page, "ws")
    await ask(page, tokens=5)
    await state(page, "done")
    assert {url.split("/")[2] for url in urls} == {f"127.0.0.1:{node.port}"}
    files = {url for url in urls if "/v1/" not in url}
    assert len(files) > 10
    sizes, packed = {}, {}
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        for url in files:
            for found, accepted in ((sizes, "identity"), (packed, "gzip")):
                async with http.get(url, headers={"Accept-Encoding": accepted}) as response:
                    encoding = response.headers.get("Content-Encoding", "identity")
                    assert (response.status, encoding) == (200, accepted)
                    found[url] = await response.read()
    assert {url: gzip.decompress(body) for url, body in packed.items()} == sizes
    assert sum(map(len, sizes.values())) <= 150 * 1024, {url: len(sizes[url]) for url in sizes}
    assert sum(map(len, packed.values())) <= 64 * 1024, {url: len(packed[url]) for url in packed}


@pytest.mark.parametrize("expected", [REFUSED], indirect=True)
@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_a_key_is_asked_for_and_kept_in_its_tab_only(
    page, context, http, guarded, the_end, transport
):
    http.headers.update(bearer("alice"))
    await page.goto(guarded.url("/"))
    door, wrong = page.locator("#door"), page.locator("#wrong")
    await expect(page.locator("#key")).to_be_focused()
    await expect(page.locator("#ask")).to_be_hidden()
    await picture(page, "door")
    await show_key(page, "tw_x")
    await expect(wrong).to_have_text("The server does not take this key.")
    await show_key(page, KEYS["alice"])
    await expect(page.locator("#model")).to_have_value("demo")
    await expect(door).to_be_hidden()
    await switch(page, transport)
    await ask(page, tokens=LONG, rate=60, reasoning=False)
    await tokens(page, 10)
    await page.click(".cut")
    await expect(fact(page, "reconnects")).to_have_text("1")
    await page.click("#hold")
    await state(page, "paused")
    await page.reload()
    await state(page, "paused")
    other = await context.new_page()  # it has the conversation, but not the key
    await other.goto(guarded.url("/"))
    await state(other, "locked")
    await show_key(other, KEYS["alice"])
    await state(other, "paused")
    await other.click("#hold")
    the_end.set()
    for tab in (page, other):
        await state(tab, "done")
        assert bare(await kept_text(tab)) == await shown_text(tab)
    answer = await session(http, guarded, (await turns(page))[-1]["sid"])
    for tab in (page, other):
        assert await kept_text(tab) == answer["text"]
        await expect(fact(tab, "tokens")).to_have_text(str(answer["seq"] - 1))
        kept = "JSON.stringify(localStorage) + document.cookie + location"
        assert KEYS["alice"] not in await tab.evaluate(kept)


@pytest.mark.parametrize("expected", [REFUSED], indirect=True)
async def test_what_was_asked_under_a_bad_key_is_asked_again_under_a_good_one(page, guarded):
    await page.goto(guarded.url("/"))
    await show_key(page, KEYS["alice"])
    await expect(page.locator("#model")).to_have_value("demo")
    await page.evaluate("sessionStorage.setItem('tokenwire.key', 'tw_x')")
    await ask(page, "why", tokens=20, rate=0)
    await state(page, "locked")
    await show_key(page, KEYS["alice"])
    await state(page, "done")
    await expect(page.locator(".ask")).to_have_text(["why"])
