"""schemathesis against every published call: no 5xx, no hang, no leak, nothing undocumented."""

from tests.openapi.trial import SETTINGS, UPSTREAMS, left_over, tried, used


async def test_no_call_breaks_the_server(make_node):
    node = await make_node(UPSTREAMS, **SETTINGS)
    before = await used(node)
    code, told = await tried(node, "--generation-deterministic")
    assert code == 0, told
    assert await left_over(node.node, before) == {}
