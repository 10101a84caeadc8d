"""A node that asks who comes, with one session of alice's."""

from dataclasses import dataclass

import pytest

from tests import sources
from tests.clients import Server
from tests.security.people import LINES, SECRET, bearer


@dataclass
class House:
    """A node, and the session that alice has there; `source` gives its tokens."""

    node: Server
    sid: str
    source: sources.Stepped

    def url(self, path: str = "") -> str:
        return self.node.url(f"/v1/sessions/{self.sid}{path}")


@pytest.fixture
async def house(make_node, http):
    source = sources.Stepped()
    node = await make_node({"stepped": source}, keys=LINES, secret=SECRET)
    body = {"prompt": "hello"}
    async with http.post(node.url("/v1/sessions"), json=body, headers=bearer("alice")) as response:
        assert response.status == 201
        sid = (await response.json())["id"]
    yield House(node, sid, source)
    source.finish()
