"""The AI SDK's routes on real nodes: send, resume, stop, and the socket."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from server.events import Content, Done, Reasoning, ToolCall
from tests import sources
from tests.waiting import HANG

OPENING = ["start", "start-step"]
CLOSING = ["text-end", "finish-step", "finish"]


async def thinking(request):
    """Reasoning, a tool call, and the messages that the model was told."""
    yield Reasoning("hm")
    yield ToolCall(0, "c1", "search", '{"q":1}')
    yield Content(orjson.dumps(request.messages).decode())
    yield Done("tool_calls")


async def broken(request):
    """A part of an answer, and nothing that says it was all."""
    yield Content("a part")
    raise ConnectionResetError


@pytest.fixture
async def pair(make_node, stepped):
    upstreams = {"stepped": stepped, "paced": sources.paced, "thinking": thinking, "broken": broken}
    return [await make_node(upstreams) for _ in range(2)]


def chat(name="c", text="p", **more):
    """The body that `DefaultChatTransport` sends."""
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": name, "messages": [message], "trigger": "submit-message"} | more


def chunks_of(body):
    """Return a body's chunks; it must end as the client expects."""
    blocks = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
    assert blocks[-1] == "[DONE]"
    return [orjson.loads(block) for block in blocks[:-1]]


def text_in(chunks):
    return "".join(c["delta"] for c in chunks if c["type"] == "text-delta")


async def send(http, node, **body):
    async with http.post(node.url("/api/chat"), json=chat(**body)) as response:
        assert response.status == 200, await response.text()
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert response.content_type == "text/event-stream"
        return response.headers["X-Session-Id"], await response.text()


async def stop(http, node, name="c", **body):
    async with http.post(node.url(f"/api/chat/{name}/stop"), json=body) as response:
        assert response.status == 200
        return await response.json()


async def session(http, node, name="c"):
    async with http.get(node.url(f"/v1/conversations/{name}")) as response:
        return await response.json()


class Reader:
    """A stream in progress: blocks as they come."""

    def __init__(self, response):
        self.response = response
        self.text = ""

    async def until(self, text):
        while text not in self.text:
            piece = await self.response.content.readany()
            assert piece, f"ended without {text}: {self.text}"
            self.text += piece.decode()
        return self

    async def rest(self):
        self.text += (await self.response.content.read()).decode()
        return self.text


async def test_a_chat_is_answered_in_the_clients_chunks(pair, http):
    sid, body = await send(http, pair[0], model="thinking")
    chunks = chunks_of(body)
    assert [c["type"] for c in chunks] == [
        *OPENING, "reasoning-start", "reasoning-delta", "reasoning-end",
        "tool-input-start", "tool-input-delta", "text-start", "text-delta",
        "text-end", "tool-input-available", "finish-step", "finish",
    ]  # fmt: skip
    assert chunks[0]["messageId"] == sid
    assert orjson.loads(text_in(chunks)) == [{"role": "user", "content": "p"}]


async def test_an_answer_that_goes_on_keeps_the_messages_id_on_every_node(pair, http, stepped):
    body = chat()
    body["messages"].append({"id": "m9", "role": "assistant", "parts": [{"type": "text", "text": "a"}]})
    async with http.post(pair[0].url("/api/chat"), json=body) as first:
        await Reader(first).until('"messageId":"m9"')
        async with http.get(pair[1].url("/api/chat/c/stream")) as second:
            await Reader(second).until('"messageId":"m9"')
            stepped.finish()


async def test_who_comes_back_gets_the_whole_answer_again_from_any_node(pair, http, stepped):
    async with http.post(pair[0].url("/api/chat"), json=chat()) as response:
        stepped.step("a", "b")
        await Reader(response).until('"delta":"b"')
    async with http.get(pair[1].url("/api/chat/c/stream")) as response:
        assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
        reader = await Reader(response).until('"delta":"b"')
        stepped.step("c")
        stepped.finish()
        chunks = chunks_of(await reader.rest())
    assert [c["type"] for c in chunks] == [*OPENING, "text-start", *["text-delta"] * 3, *CLOSING]
    assert text_in(chunks) == "abc"
    for path in ("c", "nobody"):
        async with http.get(pair[1].url(f"/api/chat/{path}/stream")) as response:
            assert (response.status, await response.text()) == (204, "")
    async with http.get(pair[1].url("/api/chat/nobody/stream?ended=true")) as response:
        assert response.status == 204
    async with http.get(pair[1].url("/api/chat/c/stream?ended=yes")) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(("model", "end"), [("thinking", "finish"), ("broken", "error")])
async def test_what_is_over_comes_again_to_who_asks_for_that_too(pair, http, model, end):
    _, body = await send(http, pair[0], model=model)
    assert end in [chunk["type"] for chunk in chunks_of(body)]
    async with http.get(pair[1].url("/api/chat/c/stream?ended=true")) as response:
        assert await response.text() == body


async def test_any_session_can_be_read_so_from_any_event_on(pair, http):
    sid, body = await send(http, pair[0], model="paced", tokens=4)
    url = pair[1].url(f"/v1/sessions/{sid}/events?format=ai-sdk")
    async with http.get(url) as response:
        assert await response.text() == body
    blocks = body.split("\n\n")
    ids = [(at, block.split("\n")[0][4:]) for at, block in enumerate(blocks) if block.startswith("id: ")]
    assert len(ids) == 5
    for at, id in ids[:-1]:
        async with http.get(url, headers={"Last-Event-ID": id}) as response:
            assert await response.text() == "\n\n".join(blocks[at + 1 :])
    for id, status in ((ids[-1][1], 204), ("1-1", 410), ("x", 400)):
        async with http.get(url, headers={"Last-Event-ID": id}) as response:
            assert response.status == status


async def test_an_answer_that_is_held_is_live_even_when_it_has_ended(pair, http, stepped):
    async with http.post(pair[0].url("/api/chat"), json=chat()) as response:
        stepped.step("a")
        await Reader(response).until('"delta":"a"')
        async with http.post(pair[0].url("/v1/conversations/c/pause")) as paused:
            assert (await paused.json())["paused"]
        stepped.step("b")
        stepped.finish()
        while (await session(http, pair[0]))["status"] == "running":
            await asyncio.sleep(0.01)
        async with http.get(pair[0].url("/api/chat/c/stream")) as again:
            assert again.status == 200
            reader = await Reader(again).until('"delta":"a"')
            async with http.post(pair[1].url("/v1/conversations/c/resume")):
                assert text_in(chunks_of(await reader.rest())) == "ab"


async def test_stop_closes_the_upstream_and_says_so_in_the_stream(pair, http, stepped):
    async with http.post(pair[0].url("/api/chat"), json=chat()) as response:
        stepped.step("a")
        reader = await Reader(response).until('"delta":"a"')
        assert (await stop(http, pair[1], activeStreamId="an older one")) == {"success": True}
        told = await stop(http, pair[1], activeStreamId=response.headers["X-Session-Id"])
        assert (told["success"], told["status"], told["upstream_closed"]) == (True, "aborted", True)
        await stepped.closed.wait()
        chunks = chunks_of(await reader.rest())
    assert chunks[-2:] == [{"type": "text-end", "id": "0"}, {"type": "abort", "reason": "user"}]
    assert (await stop(http, pair[0]))["status"] == "aborted"
    assert await stop(http, pair[0], "nobody") == {"success": True}
    async with http.post(pair[0].url("/api/chat/c/stop")) as response:
        assert (await response.json())["success"]


async def test_a_second_prompt_takes_the_place_of_the_first_unless_told_to_wait(pair, http, stepped):
    async with http.post(pair[0].url("/api/chat"), json=chat()) as response:
        stepped.step("a")
        reader = await Reader(response).until('"delta":"a"')
        refused = chat(session={"on_busy": "reject"})
        async with http.post(pair[1].url("/api/chat"), json=refused) as second:
            assert (second.status, (await second.json())["error"]["code"]) == (409, "conversation_busy")
        _, body = await send(http, pair[1], model="paced", tokens=3)
        assert text_in(chunks_of(body)) == sources.text("p", 3)
        assert chunks_of(await reader.rest())[-1] == {"type": "abort", "reason": "user"}


@pytest.mark.parametrize("body", [{}, {"id": "c"}, {"id": "c", "messages": [7]}], ids=str)
async def test_what_is_no_chat_is_400(pair, http, body):
    async with http.post(pair[0].url("/api/chat"), json=body) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request")


class Chats:
    """A client of the socket, which reads as `WebSocketChatTransport` does."""

    def __init__(self, ws):
        self.ws = ws
        self.frames = {}

    async def say(self, kind, request_id, name="c", **more):
        base = {"type": kind, "requestId": request_id}
        if kind != "abort":
            base |= {"id": name, "headers": {}, "body": {}}
        if kind == "send":
            base |= {"messages": chat()["messages"], "trigger": "submit-message"}
        await self.ws.send_str(orjson.dumps(base | more).decode())

    async def next(self):
        message = await self.ws.receive(HANG)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(self.ws.close_code)
        frame = orjson.loads(message.data)
        self.frames.setdefault(frame["requestId"], []).append(frame)
        return frame

    async def until(self, request_id, kind):
        while not any(f["type"] == kind for f in self.frames.get(request_id, ())):
            await self.next()
        return self.frames[request_id]

    async def until_delta(self, request_id, delta):
        while delta not in [c.get("delta") for c in self.chunks(request_id, None)]:
            await self.next()

    def chunks(self, request_id, first=0):
        """Return a request's chunks, whose numbers must rise by one."""
        frames = [f for f in self.frames.get(request_id, ()) if f["type"] == "chunk"]
        if first is not None:
            assert [f["sequence"] for f in frames] == list(range(first, first + len(frames)))
        return [f["chunk"] for f in frames]


@pytest.fixture
async def chats(pair, http):
    first, second = pair[0].url("/api/chat/ws"), pair[1].url("/api/chat")
    async with http.ws_connect(first) as one, http.ws_connect(second) as other:
        yield [Chats(one), Chats(other)]


@asynccontextmanager
async def answering(http, node, stepped):
    """A socket of its own, over which an answer has begun."""
    async with http.ws_connect(node.url("/api/chat/ws")) as ws:
        socket = Chats(ws)
        await socket.say("send", "r1")
        stepped.step("a")
        await socket.until_delta("r1", "a")
        yield socket


async def test_many_chats_share_a_socket(chats):
    for n in range(5):
        await chats[0].say("send", f"r{n}", f"c{n}", body={"model": "paced", "tokens": 50, "rate": 500})
    for n in range(5):
        frames = await chats[0].until(f"r{n}", "end")
        assert frames[-1] == {"type": "end", "requestId": f"r{n}"}
        chunks = chats[0].chunks(f"r{n}")
        assert [c["type"] for c in chunks] == [*OPENING, "text-start", *["text-delta"] * 50, *CLOSING]
        assert text_in(chunks) == sources.text("p", 50)


async def test_a_socket_resumes_what_another_began_wherever_it_was(chats, stepped):
    await chats[0].say("send", "r1")
    stepped.step("a", "b")
    await chats[0].until_delta("r1", "b")
    held = len(chats[0].chunks("r1"))
    await chats[1].say("resume", "whole")
    await chats[1].until_delta("whole", "b")
    assert chats[1].frames["whole"][0] == {"type": "start", "requestId": "whole"}
    # From every chunk on, also from within an event: its first delta is its second chunk.
    for last in range(held):
        await chats[1].say("resume", f"from {last}", lastSequence=last)
    stepped.step("c")
    stepped.finish()
    await chats[0].until("r1", "end")
    whole = chats[0].chunks("r1")
    await chats[1].until("whole", "end")
    assert chats[1].chunks("whole") == whole
    for last in range(held):
        await chats[1].until(f"from {last}", "end")
        assert chats[1].chunks(f"from {last}", last + 1) == whole[last + 1 :]


async def test_what_is_over_is_not_active_but_its_rest_is_kept(chats, stepped):
    await chats[0].say("resume", "r0", "nobody")
    assert await chats[0].next() == {"type": "no-active", "requestId": "r0"}
    await chats[0].say("send", "r1")
    stepped.step("a")
    stepped.finish()
    await chats[0].until("r1", "end")
    await chats[1].say("resume", "r2")
    assert await chats[1].next() == {"type": "no-active", "requestId": "r2"}
    await chats[1].say("resume", "again", body={"ended": True})
    await chats[1].until("again", "end")
    assert chats[1].chunks("again") == chats[0].chunks("r1")
    await chats[1].say("resume", "r3", lastSequence=3)
    await chats[1].until("r3", "end")
    assert chats[1].chunks("r3", 4) == chats[0].chunks("r1")[4:]
    await chats[1].say("resume", "r4", lastSequence=99)
    assert (await chats[1].until("r4", "error"))[-1]["errorText"].endswith("come to that chunk.")


async def test_an_abort_ends_the_generation_of_its_request_alone(chats, stepped):
    await chats[0].say("send", "r1", "c1")
    await chats[0].say("send", "r2", "c2", body={"model": "paced", "tokens": 100, "rate": 200})
    stepped.step("a")
    await chats[0].until_delta("r1", "a")
    await chats[1].say("resume", "r3", "c1")
    await chats[1].until_delta("r3", "a")
    await chats[0].say("abort", "r1")
    await stepped.closed.wait()
    await chats[1].until("r3", "end")
    assert chats[1].chunks("r3")[-1] == {"type": "abort", "reason": "user"}
    await chats[0].until("r2", "end")
    assert text_in(chats[0].chunks("r2")) == sources.text("p", 100)
    assert chats[0].frames["r1"][-1]["type"] == "chunk"
    await chats[0].say("abort", "never sent")


async def test_a_socket_that_closes_ends_no_generation(pair, http, stepped):
    async with answering(http, pair[0], stepped):
        pass
    stepped.step("b")
    async with http.get(pair[1].url("/api/chat/c/stream")) as response:
        reader = await Reader(response).until('"delta":"b"')
        stepped.finish()
        assert text_in(chunks_of(await reader.rest())) == "ab"


async def test_a_deleted_answer_is_an_error_of_its_request(chats, pair, http, stepped):
    await chats[0].say("send", "r1")
    stepped.step("a")
    await chats[0].until_delta("r1", "a")
    async with http.delete(pair[1].url("/v1/conversations/c")) as response:
        assert response.status == 204
    while not {"end", "error"} & {f["type"] for f in chats[0].frames["r1"]}:
        await chats[0].next()
    await chats[0].say("resume", "r2")
    assert (await chats[0].until("r2", "no-active"))[-1]["type"] == "no-active"


BAD_FRAMES = [
    {"type": "surprise"},
    {"type": "send", "id": "c", "headers": {}, "body": {}},
    {"type": "send", "id": "", "messages": chat()["messages"], "body": {}},
    {"type": "send", "id": "c", "messages": chat()["messages"], "body": []},
    {"type": "send", "id": "c", "messages": chat()["messages"], "body": {"model": "nobody-has-this"}},
    {"type": "resume", "id": 7, "body": {}},
    {"type": "resume", "id": "c", "body": {}, "lastSequence": -1},
    {"type": "resume", "id": "c", "body": {}, "lastSequence": "1"},
    {"type": "resume", "id": "c", "body": {}, "lastSequence": True},
    {"type": "resume", "id": "c", "body": {"ended": "true"}},
]


@pytest.mark.parametrize("frame", BAD_FRAMES, ids=str)
async def test_a_bad_request_is_answered_and_the_socket_lives(chats, frame):
    await chats[0].ws.send_str(orjson.dumps({"requestId": "r1"} | frame).decode())
    assert (await chats[0].next())["type"] == "error"
    await chats[0].say("resume", "r2", "nobody")
    assert (await chats[0].next())["type"] == "no-active"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type":"abort"}', '{"type":"abort","requestId":7}'])
async def test_a_frame_of_no_request_ends_the_socket(chats, text):
    await chats[0].ws.send_str(text)
    with pytest.raises(EOFError, match="1008"):
        await chats[0].next()


async def test_a_long_history_fits_into_a_frame(chats):
    parts = [{"type": "text", "text": "x" * 300_000}]
    messages = [{"id": "u", "role": "user", "parts": parts}, *chat()["messages"]]
    await chats[0].say("send", "r1", messages=messages, body={"model": "paced", "tokens": 1})
    await chats[0].until("r1", "end")


async def test_draining_tells_a_socket_to_come_back(pair, http, stepped):
    async with answering(http, pair[0], stepped) as socket:
        draining = asyncio.create_task(pair[0].node.drain(5.0))
        with pytest.raises(EOFError, match="1012"):
            while True:
                await socket.next()
        stepped.finish()
        await draining
