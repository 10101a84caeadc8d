"""Two thousand tokens a second, and no frame that a person would see missing."""

import pytest

from tests.browser.driver import ask, is_whole, picture, state, switch
from tests.processes import serve

pytestmark = pytest.mark.alone

RECORD = """() => {
    window.frames_ = [];
    let last = performance.now();
    (function frame() {
        const now = performance.now();
        window.frames_.push(now - last);
        last = now;
        requestAnimationFrame(frame);
    })();
    window.tasks = [];
    const note = ({ duration, startTime }) => window.tasks.push([duration, Math.round(startTime)]);
    new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ type: "longtask" });
}"""


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_no_frame_takes_over_100_ms_at_2000_tokens_a_second(page, redis_server, transport):
    node = await serve(redis_server.url)
    await page.goto(node.url("/"))
    await switch(page, transport)
    await ask(page, "warm up", tokens=200, rate=2000)
    await state(page, "done")
    await page.click("#new")
    await page.evaluate(RECORD)
    await ask(page, tokens=12_000, rate=2000)
    await state(page, "done")
    frames, tasks = await page.evaluate("[window.frames_, window.tasks]")
    await is_whole(page)
    await picture(page, f"fast-{transport}")
    print(f"{transport}: {len(frames)} frames, longest {max(frames):.0f} ms, tasks {sorted(tasks)[-3:]}")
    assert len(frames) > 100
    assert max(frames) <= 100
    await node.end()
