"""schemathesis against every published call: no 5xx, no hang, no leak, nothing undocumented."""

from tests.openapi.trial import SETTINGS, UPSTREAMS, settled, tried, used


async def test_no_call_breaks_the_server(make_node):
    node = await make_node(UPSTREAMS, **SETTINGS)
    before = await used(node)
    code, told = await tried(node, "--generation-deterministic")
    assert code == 0, told
    assert await settled(node.node, before) == before
