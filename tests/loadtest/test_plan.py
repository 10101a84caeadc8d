"""What a load test may be asked to do, and to whom."""

from pathlib import Path

import pytest

from server.errors import InvalidRequest
from server.ops.loadtest import session
from server.ops.loadtest.plan import is_loopback, parse
from server.settings import SettingsError
from tests.client.liar import lying, status

HERE = "http://127.0.0.1:8080"


def test_a_plan_without_flags():
    flags = parse([HERE])
    assert flags.out == Path("loadtest-report")
    assert (flags.plan.transports, flags.plan.tokens, flags.plan.processes >= 2) == (
        ("sse", "ws"),
        600,
        True,
    )


def test_a_plan_with_flags():
    words = "--transport ws --sessions 500 --viewers 3 --rate 0.5 --duration 60 --pause-every 0 --seed 7"
    plan = parse([HERE + "/llm/", *words.split(), "--drop-every=2.5", "--abort-share=1"]).plan
    assert (plan.url, plan.transports, plan.sessions, plan.viewers) == (HERE + "/llm", ("ws",), 500, 3)
    assert (plan.tokens, plan.ramp, plan.pause_every, plan.drop_every) == (30, 5.0, 0.0, 2.5)
    assert plan.most > plan.ramp + plan.duration


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "the following arguments are required: url"),
        ("127.0.0.1:8080", "argument url: expected a URL like"),
        (f"{HERE} --transport sse,pigeon", "'pigeon' is none of sse, ws"),
        (f"{HERE} --sessions 0", "--sessions"),
        (f"{HERE} --sessions many", "--sessions"),
        (f"{HERE} --rate 0", "--rate"),
        (f"{HERE} --rate nan", "--rate"),
        (f"{HERE} --abort-share 2", "--abort-share"),
        (f"{HERE} --drop-every -1", "--drop-every"),
        (f"{HERE} --rate 5000 --duration 60", "over 100000 tokens a session"),
        (f"{HERE} --session 5", "unrecognized arguments"),
        ("http://192.0.2.1", "--i-own-this-server"),
        ("http://no-such-host.invalid", "--i-own-this-server"),
    ],
)
def test_a_bad_plan_is_one_line(words, complaint):
    with pytest.raises(SettingsError) as caught:
        parse(words.split())
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_owner_may_load_another_machine():
    assert parse(["https://192.0.2.1:8443", "--i-own-this-server"]).plan.url == "https://192.0.2.1:8443"


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://127.9.8.7", True),
        ("http://[::1]:8080/x", True),
        ("http://localhost:1", True),
        ("http://0.0.0.0:8080", False),
        ("http://192.0.2.1", False),
        ("http://127.0.0.1@192.0.2.1/", False),
        ("http://no-such-host.invalid", False),
        ("http:///path", False),
    ],
)
def test_only_loopback_is_this_machine(url, ours):
    assert is_loopback(url) is ours


async def test_a_server_that_wants_a_key_gets_it(monkeypatch):
    monkeypatch.setenv("TW_TOKEN", "k")
    async with lying(status(400)) as liar:
        plan = parse([liar.url]).plan
        async with session.client(plan, 1.0, lambda report: None) as client:
            with pytest.raises(InvalidRequest):
                await session.reference(client, plan)
    assert liar.credentials == {"Bearer k"}
