"""OpenAI's own Python client, as it is, against a real node and a real model server."""

import asyncio
import os
import signal
import sys

import openai
import pytest

from server.transport import parts
from tests import processes
from tests.fake_upstream import expected_text
from tests.waiting import until

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def pair(make_node, fake):
    return [await make_node(upstream=fake[0]) for _ in range(2)]


@pytest.fixture
async def client(pair):
    async with client_of(pair[0]) as client:
        yield client


def client_of(node, **options):
    return openai.AsyncOpenAI(base_url=node.url("/v1"), api_key="x", **{"max_retries": 0} | options)


async def chat(client, stream=True, headers=None, model="m", **parameters):
    """Ask for a chat; the model server does what the parameters say."""
    return await client.chat.completions.create(
        model=model, messages=HI, stream=stream, extra_headers=headers, extra_body=parameters
    )


def said(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


async def closed(stats, seed):
    """Return the model server's record of a stream once it has ended."""
    await until(lambda: seed in [record["seed"] for record in stats["closed"]])
    return next(record for record in stats["closed"] if record["seed"] == seed)


async def left_in_the_middle(stream, stats, tokens):
    """Close a stream after some tokens; the model server's has to be closed by that."""
    for _ in range(tokens):
        await anext(stream)
    await stream.close()
    assert (await closed(stats, "a"))["closed_by_peer"]


async def test_a_stream_is_the_whole_text_in_chunks_of_one_completion(client):
    chunks = [chunk async for chunk in await chat(client, seed="a", tokens=60)]
    assert said(chunks) == expected_text("a", 60)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_usage_comes_last_if_it_is_asked_for(client):
    asked = {"include_usage": True}
    chunks = [chunk async for chunk in await chat(client, tokens=5, stream_options=asked)]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_an_answer_that_is_not_streamed_is_whole(client, fake):
    answer = await chat(client, stream=False, seed="a", tokens=30, temperature=0.5, odd={"x": 1})
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == expected_text("a", 30)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 30
    assert answer._request_id == answer.id.removeprefix("chatcmpl-")
    (body,) = fake[1]["bodies"]
    assert (body["temperature"], body["odd"], body["messages"]) == (0.5, {"x": 1}, HI)


async def test_the_synchronous_client_does_as_well(pair):
    await asyncio.to_thread(_synchronously, pair[0].url("/v1"))


def _synchronously(url):
    body = {"seed": "a", "tokens": 20}
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        chunks = client.chat.completions.create(model="m", messages=HI, stream=True, extra_body=body)
        assert said(list(chunks)) == expected_text("a", 20)
        with client.responses.stream(model="m", input="hi", extra_body=body) as stream:
            assert stream.get_final_response().output_text == expected_text("a", 20)
        response = client.responses.create(model="m", input="hi", extra_body=body)
        assert response.output_text == expected_text("a", 20)
        with pytest.raises(openai.RateLimitError):
            failing = {"script": "failing", "status": 429, "retry_after": 30}
            client.chat.completions.create(model="m", messages=HI, extra_body=failing)


async def test_tools_are_called_in_pieces_and_whole(client):
    whole = await chat(client, stream=False, tokens=0, script="tool_call")
    (call,) = whole.choices[0].message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "search", '{"q":"x"}')
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (None, "tool_calls")
    body = {"tokens": 0, "script": "tool_call"}
    async with client.chat.completions.stream(model="m", messages=HI, extra_body=body) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].id == call.id
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"q":"x"}'


async def test_thoughts_are_told_apart(client):
    chunks = [chunk async for chunk in await chat(client, tokens=0, script="reasoning")]
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks]
    assert thoughts == ["hm", "so", None]
    whole = await chat(client, stream=False, tokens=0, script="reasoning")
    assert whole.choices[0].message.reasoning_content == "hmso"


async def test_signs_of_life_do_not_disturb(make_node, fake):
    node = await make_node(upstream=fake[0], heartbeat=0.02)
    async with client_of(node) as client:
        chunks = [chunk async for chunk in await chat(client, seed="a", tokens=8, rate=10)]
    assert said(chunks) == expected_text("a", 8)


async def test_models(client):
    names = [model.id async for model in await client.models.list()]
    assert names == ["demo", "fake", "m"]
    assert (await client.models.retrieve("m")).id == "m"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


KINDS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("call", ["stream", "whole", "response", "response stream"])
@pytest.mark.parametrize("status", KINDS)
async def test_a_refusal_keeps_its_status_and_kind(client, status, call):
    # A wait that long is not waited: the node passes it on.
    body = {"script": "failing", "status": status, "retry_after": 30}
    with pytest.raises(KINDS[status]) as caught:
        if call in ("stream", "whole"):
            await chat(client, stream=call == "stream", **body)
        else:
            streams = call == "response stream"
            await client.responses.create(model="m", input="hi", stream=streams, extra_body=body)
    error = caught.value
    assert error.status_code == status
    retryable = status in (429, 500, 503)
    assert error.response.headers["x-should-retry"] == ("true" if retryable else "false")
    assert error.response.headers.get("retry-after") == ("30" if status in (429, 503) else None)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert "sk-" not in error.response.text


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"n": 2}, None),
        ({"stream": "yes"}, None),
        ({"stream_options": 1}, None),
        ({"messages": []}, None),
        ({"session": {"ttl": "x"}}, None),
        ({}, {"X-Conversation-Id": "c" * 201}),
        ({}, {"Idempotency-Key": "k" * 256}),
    ],
)
async def test_a_bad_request_is_told_so(client, body, headers):
    with pytest.raises(openai.BadRequestError) as caught:
        await chat(client, headers=headers, **body)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", None)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("truncated", "upstream_truncated"),
        ("reset", "upstream_truncated"),
        ("malformed", "upstream_invalid"),
        ("overloaded", "upstream_rate_limited"),
    ],
)
async def test_a_failure_within_the_stream_is_an_exception(client, script, code):
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        async for chunk in await chat(client, seed="a", tokens=20, script=script):
            chunks.append(chunk)
    assert (caught.value.code, caught.value.param) == (code, None)
    assert said(chunks) == expected_text("a", 20)
    assert not any(chunk.choices[0].finish_reason for chunk in chunks)
    with pytest.raises(openai.APIStatusError) as caught:
        await chat(client, stream=False, seed="b", tokens=20, script=script)
    assert (caught.value.code, caught.value.status_code >= 429) == (code, True)


async def test_the_client_asks_again_by_itself_and_a_key_makes_that_safe(pair, fake):
    async with client_of(pair[0], max_retries=2) as client:
        key = {"Idempotency-Key": "k"}
        body = {"script": "failing", "status": 500, "failures": 1, "seed": "a", "tokens": 5}
        first = await chat(client, stream=False, headers=key, **body)
        again = await chat(client, stream=False, headers=key, **body)
    assert first == again
    assert first.choices[0].message.content == expected_text("a", 5)
    assert fake[1]["requests"] == 2
    async with client_of(pair[1]) as client:
        assert await chat(client, stream=False, headers=key, **body) == first
        with pytest.raises(openai.ConflictError):
            await chat(client, stream=False, headers=key, **body | {"tokens": 6})
    assert fake[1]["requests"] == 2


async def test_a_key_whose_run_was_left_is_good_for_a_new_one(client, fake):
    key = {"Idempotency-Key": "k"}
    body = {"seed": "a", "tokens": 30, "rate": 100}
    stream = await chat(client, headers=key, **body)
    left = await anext(stream)
    await stream.close()
    assert (await closed(fake[1], "a"))["closed_by_peer"]
    chunks = [chunk async for chunk in await chat(client, headers=key, **body)]
    assert said(chunks) == expected_text("a", 30)
    assert left.id not in {chunk.id for chunk in chunks}


async def test_closing_the_stream_closes_the_model_servers_connection(client, fake):
    stream = await chat(client, seed="a", tokens=10_000, rate=100)
    await left_in_the_middle(stream, fake[1], 5)


@pytest.mark.parametrize(
    ("stream", "wait"),
    [
        (True, {"first_after": 60}),
        (False, {"first_after": 60}),
        (False, {"rate": 100, "tokens": 10_000}),
    ],
)
async def test_so_does_giving_up_before_there_is_an_answer(client, fake, stream, wait):
    asking = asyncio.create_task(chat(client, stream=stream, seed="a", **wait))
    await until(lambda: "a" in fake[1]["open"])
    asking.cancel()
    assert (await closed(fake[1], "a"))["closed_by_peer"]


async def test_with_a_conversation_it_runs_on_and_is_resumed_by_the_last_event_id(pair, http, fake):
    headers = {"X-Conversation-Id": "c"}
    asked = {"model": "m", "messages": HI, "stream": True, "seed": "a", "tokens": 60, "rate": 200}
    held = b""
    async with http.post(pair[0].url("/v1/chat/completions"), json=asked, headers=headers) as response:
        sid = response.headers["X-Session-Id"]
        while held.count(b"\n\n") < 10:
            held += await response.content.readany()
    held = held[: held.rindex(b"\n\n") + 2]
    ids = [line for line in held.split(b"\n") if line.startswith(b"id: ")]
    events = pair[1].url(f"/v1/sessions/{sid}/events?format=openai")
    async with http.get(events, headers={"Last-Event-ID": ids[-1][4:].decode()}) as response:
        rest = await response.read()
    async with http.get(events) as response:
        whole = await response.read()
    assert held + rest == whole
    assert whole.endswith(b"data: [DONE]\n\n")
    assert (await closed(fake[1], "a"))["closed_by_peer"] is False
    last = whole.rpartition(b"id: ")[2].partition(b"\n")[0].decode()
    async with http.get(events, headers={"Last-Event-ID": last}) as response:
        assert response.status == 204
    async with http.get(events, headers={"Last-Event-ID": "1-3"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (410, "gone")


async def test_a_status_waits_for_the_first_token_but_not_for_ever(client, fake, monkeypatch):
    monkeypatch.setattr(parts, "PATIENCE", 0.05)
    stream = await chat(client, seed="a", tokens=3, first_after=2.0)
    assert not any(record["sent"] for record in fake[1]["open"].values())
    assert fake[1]["closed"] == []
    assert said([chunk async for chunk in stream]) == expected_text("a", 3)
    with pytest.raises(openai.APIError) as caught:
        await anext(await chat(client, script="truncated", tokens=0, first_after=0.2))
    assert caught.value.code == "upstream_truncated"


async def test_a_pause_holds_every_kind_of_answer(client, pair, http):
    body = {"seed": "a", "tokens": 40, "rate": 200}
    stream = await chat(client, **body)
    chunks = [await anext(stream) for _ in range(5)]
    session = pair[1].url(f"/v1/sessions/{chunks[0].id.removeprefix('chatcmpl-')}")
    async with http.post(f"{session}/pause") as response:
        gate = (await response.json())["gate"]
    while len(chunks) < gate:
        chunks.append(await anext(stream))
    more = asyncio.ensure_future(anext(stream))
    while True:
        async with http.get(session) as response:
            if (await response.json())["status"] == "done":
                break
    assert not more.done()
    async with http.post(f"{session}/resume"):
        chunks += [await more, *[chunk async for chunk in stream]]
    assert said(chunks) == expected_text("a", 40)


@pytest.fixture
async def one_process(make_process, request):
    return await make_process(model="demo", linger=1, drain=getattr(request, "param", 0), lease=1)


@pytest.mark.parametrize("one_process", [4], indirect=True)
async def test_a_draining_node_lets_an_answer_end(one_process):
    # It lasts longer than the second within which others are sent off.
    async with client_of(one_process) as client:
        chunks = []
        async for chunk in await chat(client, model="demo", tokens=200, rate=100):
            chunks.append(chunk)
            if len(chunks) == 10:
                one_process.signal(signal.SIGTERM)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) == 201


@pytest.mark.parametrize("way", ["kill", "shutdown"])
async def test_a_stream_that_breaks_is_an_exception_never_less_text(one_process, way):
    chunks = []
    async with client_of(one_process) as client:
        with pytest.raises(openai.APIError) as caught:
            async for chunk in await chat(client, model="demo", tokens=2000, rate=100):
                chunks.append(chunk)
                if len(chunks) == 10:
                    one_process.signal(signal.SIGKILL if way == "kill" else signal.SIGTERM)
    assert len(chunks) >= 10
    assert not any(chunk.choices[0].finish_reason for chunk in chunks)
    broken = isinstance(caught.value, openai.APIConnectionError)
    assert (broken, caught.value.code) == ((True, None) if way == "kill" else (False, "aborted"))


async def test_the_example_runs_as_it_stands(quick):
    example = await asyncio.create_subprocess_exec(
        sys.executable, "examples/openai_python.py", cwd=processes.ROOT, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TOKENWIRE_URL": quick.url("")},
    )  # fmt: skip
    output, _ = await example.communicate()
    lines = output.decode().split("\n")
    assert (example.returncode, lines[-2]) == (0, "completed")
    assert "150 tokens" in lines


def kinds(events):
    return [event.type.removeprefix("response.") for event in events]


async def test_a_response_that_is_not_streamed_is_whole(client):
    asked = {"seed": "a", "tokens": 30}
    response = await client.responses.create(model="m", input="hi", instructions="i", extra_body=asked)
    assert (response.status, response.output_text) == ("completed", expected_text("a", 30))
    assert (response.instructions, response.usage.output_tokens) == ("i", 30)
    assert await client.responses.retrieve(response.id) == response


async def test_a_response_streams_events_numbered_without_a_gap(client):
    asked = {"seed": "a", "tokens": 3}
    stream = await client.responses.create(model="m", input="hi", stream=True, extra_body=asked)
    events = [event async for event in stream]
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == expected_text("a", 3)


async def test_a_response_calls_functions(client):
    asked = {"tokens": 0, "script": "tool_call"}
    tools = [{"type": "function", "name": "search", "parameters": {"type": "object"}, "strict": False}]
    async with client.responses.stream(model="m", input="hi", tools=tools, extra_body=asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    (call,) = final.output
    assert (call.type, call.call_id, call.name) == ("function_call", "call_1", "search")
    assert call.arguments == '{"q":"x"}'
    assert "function_call_arguments.done" in kinds(events)


async def test_one_in_the_background_is_polled_on_any_node(client, pair):
    asked = {"seed": "a", "tokens": 40, "rate": 200}
    response = await client.responses.create(model="m", input="hi", background=True, extra_body=asked)
    assert (response.status, response.background) == ("in_progress", True)
    async with client_of(pair[1]) as other:
        while response.status == "in_progress":
            response = await other.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", expected_text("a", 40))


async def test_a_streamed_one_goes_on_after_any_event_on_another_node(client, pair):
    asked = {"seed": "a", "tokens": 40, "rate": 200}
    stream = await client.responses.create(
        model="m", input="hi", stream=True, background=True, extra_body=asked
    )
    held = [await anext(stream) for _ in range(15)]
    await stream.close()
    sid = held[0].response.id
    async with client_of(pair[1]) as other:
        rest = await other.responses.retrieve(sid, stream=True, starting_after=14)
        events = held + [event async for event in rest]
        whole = [event async for event in await client.responses.retrieve(sid, stream=True)]
        assert events == whole
        assert whole[-1].response.output_text == expected_text("a", 40)
        last = await other.responses.retrieve(sid, stream=True, starting_after=len(whole) - 1)
        assert [event async for event in last] == []
        for beyond in (len(whole), "x"):
            with pytest.raises(openai.BadRequestError):
                await other.responses.retrieve(sid, stream=True, starting_after=beyond)


async def test_a_draining_node_breaks_a_stream_that_can_go_on_elsewhere(client, pair):
    asked = {"seed": "a", "tokens": 60, "rate": 100}
    response = await client.responses.create(model="m", input="hi", background=True, extra_body=asked)
    held = []
    async with client_of(pair[1]) as other:
        stream = await other.responses.retrieve(response.id, stream=True)
        with pytest.raises(openai.APIConnectionError):
            async for event in stream:
                held.append(event)
                if len(held) == 10:
                    await pair[1].node.drain(0.0)
    after = held[-1].sequence_number
    rest = await client.responses.retrieve(response.id, stream=True, starting_after=after)
    events = held + [event async for event in rest]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == expected_text("a", 60)


async def _is_gone(client, id):
    try:
        await client.responses.retrieve(id)
    except openai.APIStatusError as error:
        return error.status_code == 410
    return False


async def test_a_response_is_cancelled_from_any_node_and_then_deleted(client, pair, fake):
    asked = {"seed": "a", "tokens": 10_000, "rate": 100}
    response = await client.responses.create(model="m", input="hi", background=True, extra_body=asked)
    await until(lambda: "a" in fake[1]["open"])
    async with client_of(pair[1]) as other:
        cancelled = await other.responses.cancel(response.id)
        assert (await closed(fake[1], "a"))["closed_by_peer"]
        assert cancelled.status == "cancelled"
        assert await other.responses.cancel(response.id) == cancelled
        await other.responses.delete(response.id)
    # The other node hears of it by its bell.
    await until(lambda: _is_gone(client, response.id))
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve("resp_unknown")


async def test_without_background_a_closed_stream_ends_the_run(client, fake):
    asked = {"seed": "a", "tokens": 10_000, "rate": 100}
    stream = await client.responses.create(model="m", input="hi", stream=True, extra_body=asked)
    await left_in_the_middle(stream, fake[1], 6)


async def test_a_response_that_fails_on_the_way_says_failed(client):
    asked = {"seed": "a", "tokens": 3, "script": "truncated"}
    stream = await client.responses.create(model="m", input="hi", stream=True, extra_body=asked)
    events = [event async for event in stream]
    assert kinds(events)[-1] == "failed"
    assert events[-1].response.status == "failed"
    assert events[-1].response.error.code == "server_error"
    response = await client.responses.create(model="m", input="hi", extra_body=asked)
    assert (response.status, response.output_text) == ("failed", expected_text("a", 3))


async def test_what_a_response_cannot_do_is_refused(client):
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="m", input="hi", previous_response_id="resp_x")
