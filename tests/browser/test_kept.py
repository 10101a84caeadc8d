"""What the page keeps of its conversations, whatever links, other tabs, keys and storage do to it."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import BROKEN
from tests.browser.driver import (
    ask,
    bare,
    begin,
    fact,
    held_text,
    is_whole,
    picture,
    set_options,
    show_key,
    shown_text,
    state,
    switch,
    tokens,
    turns,
)  # fmt: skip
from tests.processes import demo_text
from tests.security.people import KEYS, bearer
from tests.sources import LONG

BLOCKED = """for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
}"""
FILL = """room => {
    let size = 1 << 22, text = "";
    while (size) {
        const longer = text + "x".repeat(size);
        try { localStorage.setItem("filler", longer); text = longer; } catch { size >>= 1; }
    }
    localStorage.setItem("filler", text.slice(room));
}"""
TITLES = """() => Object.keys(localStorage).filter(key => key.startsWith("tokenwire.chat."))
    .map(key => JSON.parse(localStorage[key]).title).sort()"""
BRIEF = {"tokens": 5, "rate": 0, "reasoning": False}


async def keep(page, chat, turn):
    """Let the browser hold a conversation of one turn, and open it."""
    await page.evaluate(
        """([id, turn]) => {
            const chat = { id, title: id, at: Date.now(), turns: [{ tokens: 0, ...turn }] };
            localStorage.setItem("tokenwire.chat." + id, JSON.stringify(chat));
            location.hash = id;
        }""",
        [chat, turn],
    )


async def test_the_way_to_the_prompt_keeps_the_conversation(page, node, the_end):
    await begin(page, node.url("/"), tokens=LONG, rate=60)
    await page.locator(".skip").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#prompt")).to_be_focused()
    await expect(page.locator(".ask")).to_have_text("Tell me about streams")
    await page.reload()
    the_end.set()
    await state(page, "done")
    await is_whole(page)


async def test_the_way_to_the_prompt_before_the_first_one(page, node):
    await page.goto(node.url("/"))
    await page.locator(".skip").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".welcome")).to_be_visible()
    await ask(page, **BRIEF)
    await state(page, "done")
    await is_whole(page)


async def test_what_another_tab_deletes_in_mid_answer_stays_deleted(page, context, node):
    await page.goto(node.url("/"))
    await ask(page, "kept", **BRIEF)
    await state(page, "done")
    await page.click("#new")
    await ask(page, "deleted", tokens=LONG, rate=60)
    await tokens(page, 5)
    other = await context.new_page()
    await other.goto(node.url("/"))
    await other.hover("#list li >> nth=0")
    await other.click("[aria-label='Delete: deleted']")
    await expect(page.locator("#list .open")).to_have_text(["kept"])
    await page.click("#stop")
    await state(page, "stopped")
    await expect(page.locator(".end")).to_contain_text("Stopped after")
    assert await page.evaluate(TITLES) == ["kept"]
    for tab in (page, other):
        await expect(tab.locator("#list .open")).to_have_text(["kept"])


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_an_answer_of_another_key_is_not_there_and_not_lost(page, http, guarded, transport):
    async with http.post(
        guarded.url("/v1/sessions"), json={"prompt": "x"} | BRIEF, headers=bearer("alice")
    ) as response:
        session = (await response.json())["id"]
    await page.goto(guarded.url("/"))
    await show_key(page, KEYS["bob"])
    await expect(page.locator("#model")).to_have_value("demo")
    await switch(page, transport)
    await keep(page, "hers", {"prompt": "x", "sid": session})
    await state(page, "failed")
    await expect(page.locator(".end")).to_contain_text("could not be read. There is no such session.")
    await picture(page, f"unread-{transport}")
    assert "final" not in (await turns(page))[-1]
    await page.click("text=Read again")
    await state(page, "failed")
    await page.click("text=Use another key")
    await expect(page.locator("#wrong")).to_be_empty()
    await show_key(page, KEYS["alice"])
    await state(page, "done")
    assert (await turns(page))[-1]["final"]["type"] == "done"
    await expect(fact(page, "tokens")).to_have_text("5")


@pytest.mark.parametrize("expected", [BROKEN], indirect=True)
async def test_a_conversation_goes_on_behind_what_could_not_be_read(page, node):
    await page.goto(node.url("/"))
    await keep(page, "lost", {"prompt": "first", "sid": "x" * 22})
    await state(page, "failed")
    await set_options(page, **BRIEF)
    await page.click("text=Send again")
    await state(page, "done")
    await page.reload()
    await expect(page.locator(".end").first).to_contain_text("could not be read")
    await expect(page.locator(".ask")).to_have_text(["first", "first"])
    await is_whole(page)


async def test_without_storage_the_page_keeps_all_to_itself(page, node):
    await page.add_init_script(BLOCKED)
    await page.goto(node.url("/"))
    await expect(page.locator("#unkept")).to_be_hidden()
    await ask(page, "one", **BRIEF)
    await state(page, "done")
    await expect(page.locator("#unkept")).to_contain_text("blocked or full")
    await picture(page, "blocked")
    await page.click("#new")
    await switch(page, "ws")
    await ask(page, "two")
    await state(page, "done")
    await page.click("#list .open >> text=one")
    await expect(page.locator(".ask")).to_have_text("one")
    await state(page, "done")
    await page.hover("#list li >> nth=0")
    await page.click("[aria-label='Delete: two']")
    await expect(page.locator("#list .open")).to_have_text(["one"])


async def test_a_full_storage_makes_room_for_what_is_new(page, node):
    await page.goto(node.url("/"))
    for title in ("first", "second", "third"):
        await keep(page, title, {"prompt": "x" * 3000, "final": {"type": "done"}})
        await expect(page.locator("#title")).to_have_text(title)
    await page.evaluate(FILL, 100)
    await page.click("#new")
    await ask(page, "new", **BRIEF)
    await state(page, "done")
    await is_whole(page)
    assert await page.evaluate(TITLES) == ["new", "second", "third"]
    await expect(page.locator("#unkept")).to_be_hidden()


async def test_what_no_storage_can_hold_drives_nothing_else_out(page, node):
    await page.goto(node.url("/"))
    await keep(page, "other", {"prompt": "x", "final": {"type": "done"}})
    await expect(page.locator("#title")).to_have_text("other")
    await page.evaluate(FILL, 1500)
    await page.click("#new")
    await ask(page, "much", tokens=2000, rate=0, reasoning=False)
    await state(page, "done")
    await expect(page.locator("#unkept")).to_be_visible()
    assert await shown_text(page) == bare(await demo_text("much", 2000))
    assert await page.evaluate("JSON.parse(localStorage['tokenwire.chat.other']).title") == "other"
    await page.click("#list .open >> text=other")
    await expect(page.locator("#title")).to_have_text("other")
    await page.click("#list .open >> text=much")
    await expect(page.locator("#title")).to_have_text("much")
    await state(page, "done")


async def test_an_answer_is_copied(page, context, node):
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(node.url("/"))
    await ask(page, **BRIEF)
    await state(page, "done")
    await page.click("text=Copy")
    await expect(page.locator(".end button")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == await held_text(page)


async def test_a_browser_that_lets_nothing_be_copied(page, context, node):
    await context.grant_permissions([])
    await page.goto(node.url("/"))
    await ask(page, **BRIEF)
    await state(page, "done")
    await page.click("text=Copy")
    await expect(page.locator(".end button")).to_have_text("Not allowed")
