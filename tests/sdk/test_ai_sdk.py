"""The real `ai` package, versions 5 to 7, over their transports: what its chat shows."""

import asyncio
from pathlib import Path

import orjson
import pytest

from server.errors import UpstreamStall
from server.events import Content, Done, Reasoning, ToolCall
from tests import sources
from tests.sdk import npm

ROOT = Path(__file__).parents[2]
KINDS = ["http 5", "http 6", "http 7", "ws 7"]
TEXT = ["step-start", "text"]


async def tools(request):
    """Ask for a tool; when its result is there, repeat what was told."""
    if request.messages[-1]["role"] == "tool":
        yield Content(orjson.dumps(request.messages[1:]).decode())
        yield Done()
        return
    yield Reasoning("hm")
    yield ToolCall(0, "c1", "search", '{"q":')
    yield ToolCall(0, arguments='"x"}')
    yield Done("tool_calls")


async def fails(request):
    yield Content("so far")
    raise UpstreamStall()


@pytest.fixture
async def scenario(make_node):
    upstreams = {"paced": sources.paced, "tools": tools, "fails": fails}
    node = await make_node(upstreams)

    async def run(name, kind):
        transport, version = kind.split()
        package = str(npm.folder(f"ai@{version}"))
        return await npm.run("ai_sdk.mjs", package, f"{name} {transport}", node.url(""))

    return run


def message(role, text, types):
    return {"role": role, "text": text, "types": types}


def shown(text, prompt="p", **more):
    """Return what a page shows: the prompt and its answer."""
    messages = [message("user", prompt, ["text"]), message("assistant", text, TEXT)]
    ended = {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}
    return {"status": "ready", "error": None, "messages": messages, "ids": 2, "ended": ended} | more


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_is_answered(scenario, kind):
    assert await scenario("send", kind) == [
        shown(sources.text("p", 50)),
        shown(sources.text("q", 50), "q"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_many_chats_at_once_share_a_transport(scenario, kind):
    assert await scenario("many", kind) == [shown(sources.text(id, 100), id) for id in "abc"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_that_was_reloaded_shows_the_whole_answer_once(scenario, kind):
    expected = shown(sources.text("p", 200))
    del expected["ended"]
    assert await scenario("resume", kind) == expected


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_is_over_is_shown_once_whether_the_page_kept_it_or_not(scenario, kind):
    whole = shown(sources.text("p", 50))
    del whole["ended"]
    assert await scenario("over", kind) == [whole, whole]


@pytest.mark.parametrize("kind", KINDS)
async def test_there_is_nothing_to_resume(scenario, kind):
    assert await scenario("idle", kind) == {"stream": None}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stop_ends_the_generation(scenario, kind):
    told = await scenario("stop", kind)
    assert (told["session"], told["status"]) == ("aborted", "ready")
    # Over HTTP the stream has come to its end before the chat stops reading it.
    assert told["ended"] == {"isAbort": kind.startswith("ws")}
    text = told["messages"][1]["text"]
    assert sources.text("p", 200).startswith(text)
    assert 100 < len(text) < len(sources.text("p", 200))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_in_the_middle_is_an_error_behind_what_came(scenario, kind):
    ended = {"isAbort": False, "isDisconnect": False, "isError": True, "finishReason": None}
    failed = {"status": "error", "error": UpstreamStall.message, "ended": ended}
    assert await scenario("fail", kind) == shown("so far", **failed)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_is_an_error(scenario, kind):
    told = await scenario("refuse", kind)
    assert told["status"] == "error"
    assert "No upstream serves this model." in told["error"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tool_that_the_client_runs_goes_into_the_same_message(scenario, kind):
    told = await scenario("tools", kind)
    assert told["calls"] == [["search", {"q": "x"}]]
    _, answer = told["messages"]
    assert answer["types"] == ["step-start", "reasoning", "tool-search", "step-start", "text"]
    function = {"name": "search", "arguments": '{"q":"x"}'}
    assert orjson.loads(answer["text"]) == [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"hits":1}'},
    ]  # fmt: skip
    assert told["ids"] == 2


async def test_the_example_does_what_it_says(make_node, http):
    source = sources.Stepped()
    node = await make_node({"stepped": source})
    source.step("one ", "two ")
    script = npm.folder("ai@7") / "example.mjs"
    script.write_text((ROOT / "examples" / "ai_sdk.mjs").read_text())
    running = asyncio.create_task(npm.output(script, node.url(""), "x"))
    while not await _viewed(http, node):
        await asyncio.sleep(0.02)
    source.step("three")
    source.finish()
    assert await running == b"one two three\n"


async def _viewed(http, node):
    """Say whether both of the example's clients have come."""
    async with http.get(node.url("/v1/sessions")) as response:
        sids = [session["id"] for session in (await response.json())["sessions"]]
    if not sids:
        return False
    async with http.get(node.url(f"/v1/sessions/{sids[0]}")) as response:
        return (await response.json())["viewers"] == 2
