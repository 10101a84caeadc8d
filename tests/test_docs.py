"""The docs say what the code says."""

import re
from pathlib import Path

import pytest

from server import errors
from server.sources import as_markdown

DOCS = Path(__file__).parent.parent / "docs"


def _tree(kind: type[errors.TokenwireError]) -> list[type[errors.TokenwireError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _tree(sub))]


@pytest.mark.parametrize("kind", _tree(errors.TokenwireError)[1:], ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_protocol(kind):
    page = (DOCS / "protocol.md").read_text()
    row = f"| `{kind.code}` | {kind.status} | `{kind.type}` |"
    assert (f"`{kind.code}`" if issubclass(kind, errors.UpstreamFailed) else row) in page


def test_every_setting_is_on_its_page():
    assert as_markdown() in (DOCS / "settings.md").read_text()


async def test_the_readmes_embedding_works(redis_server, http):
    from aiohttp import web

    readme = (DOCS.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    names: dict[str, object] = {}
    exec(code.replace("redis://127.0.0.1:6379", redis_server.url), names)
    runner = web.AppRunner(names["app"], handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}/llm"
    body = {"model": "mine", "prompt": "one two three"}
    async with http.post(f"{base}/v1/sessions?stream=text", json=body) as response:
        assert await response.text() == "one two three "
    await runner.cleanup()
