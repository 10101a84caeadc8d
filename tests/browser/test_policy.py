"""No text becomes code or markup in our pages: their policy demands Trusted Types."""

import re

import pytest

from tests.browser.driver import begin, state

REFUSED = re.compile("TrustedHTML|TrustedScript")
INSERT = "() => { document.body.innerHTML = '<b>markup</b>'; }"
WORKER = "(url) => { new SharedWorker(new URL(url, location)); }"


async def refusal(page, code: str, *given: str) -> str | None:
    """Return what a page's own code is told, if it is refused."""
    tried = f"(given) => {{ try {{ ({code})(given); }} catch (e) {{ return e.name; }} }}"
    return await page.evaluate(tried, *given)


@pytest.mark.parametrize("path", ["/", "/inspect"])
@pytest.mark.parametrize("expected", [REFUSED], indirect=True, ids=["refused"])
async def test_text_is_neither_markup_nor_the_address_of_a_script(page, make_node, path):
    node = await make_node()
    await page.goto(node.url(path))
    assert await refusal(page, INSERT) == "TypeError"
    assert await refusal(page, WORKER, "/app.js") == "TypeError"
    assert await refusal(page, WORKER, "/client/shared.js") is None


async def test_the_shared_worker_is_let_through(page, make_node):
    """Without it the page would open a socket of its own."""
    node, own = await make_node(), []
    page.on("websocket", lambda socket: own.append(socket.url))
    await begin(page, node.url("/"), "ws", tokens=20, rate=50)
    await state(page, "done")
    assert own == []
