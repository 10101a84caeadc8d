"""Who may inspect: operators, as long as they are."""

from contextlib import aclosing

import aiohttp
import pytest

from tests.inspect.reader import seconds, until
from tests.security.people import LINES, bearer


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("alice", 403), ("alice/reader", 403), ("operator", 200)]
)
async def test_only_operators_inspect(house, http, who, status):
    headers = bearer(who) if who else {}
    async with http.get(house.node.url("/v1/inspect"), headers=headers) as response:
        assert response.status == status
        if status != 200:
            assert house.sid not in await response.text()


async def test_no_ticket_of_a_session_inspects(house, http):
    wanted = {"rights": ["read", "control"]}
    async with http.post(house.url("/tickets"), json=wanted, headers=bearer("operator")) as answer:
        ticket = (await answer.json())["ticket"]
    async with http.get(house.node.url(f"/v1/inspect?ticket={ticket}")) as response:
        assert response.status == 403


async def test_an_operators_key_that_is_taken_away_ends_what_it_reads(
    make_node, http, tmp_path, monkeypatch
):
    monkeypatch.setattr("server.ops.watched.LOOK", 0.0)
    path = tmp_path / "keys"
    path.write_text("\n".join(LINES))
    node = await make_node(keys_file=path)
    async with aclosing(seconds(http, node, headers=bearer("operator"))) as stream:
        await until(stream, lambda second: second["nodes"])
        path.write_text("\n".join(line for line in LINES if not line.startswith("operator")))
        with pytest.raises(aiohttp.ClientPayloadError):
            async for _ in stream:
                pass
