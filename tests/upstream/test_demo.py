"""The demo always says the same."""

import time

import pytest

from server.errors import (
    UpstreamFailed,
    UpstreamRejected,
    UpstreamStall,
)
from server.events import Done
from server.upstream.demo import demo
from tests.upstream.runs import request, run


async def test_the_demo_says_the_same_for_the_same_seed():
    asked = {"tokens": 40, "rate": 0, "seed": 3, "reasoning": True, "tool_call": True}
    first, second = [await run(demo(), request("x", **asked)) for _ in range(2)]
    assert first == second
    assert first != await run(demo(), request("x", **asked | {"seed": 4}))
    assert isinstance(first[-1], Done)


async def test_the_demo_keeps_its_rate():
    began = time.monotonic()
    await run(demo(), request(tokens=50, rate=500))
    assert 0.09 <= time.monotonic() - began < 10


@pytest.mark.parametrize("bad", [{"rate": -1}, {"rate": "x"}, {"tokens": 1e9}, {"fail": "maybe"}])
async def test_the_demo_refuses_nonsense(bad):
    with pytest.raises(UpstreamRejected):
        await run(demo(), request(**bad))


@pytest.mark.parametrize(("how", "kind"), [("error", UpstreamFailed), ("stall", UpstreamStall)])
async def test_the_demo_fails_on_demand(how, kind):
    with pytest.raises(kind):
        await run(demo(), request(tokens=2, rate=0, fail=how))
    assert len(await run(demo(), request(tokens=2, rate=0, fail="truncated"))) == 2
