"""An OpenAI-compatible model server that does as it is told, over real sockets.

A request's `script` picks how the stream goes wrong (`SCRIPTS`); `tokens`, `rate` (a second, 0: at
once), `seed`, `head_after` and `first_after` (seconds), `split` (bytes a write), `newline` and `bom`
shape it; with `stamp`, a token is the moment it was sent. A stream that runs `until` something is whole
as soon as that was told by `POST /over/<something>`. `GET /stats` tells what became of each stream:
tokens sent, whether the peer closed it, and when (monotonic seconds, epoch milliseconds).
"""

import argparse
import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

_STATS = web.AppKey("stats", dict[str, Any])
_AWKWARD = ("\n", "\r", "\u2028", "“é”", "🙂", '"\\', "\n\nevent: done\ndata: {}", "\t", "")


def token(seed: str, place: int) -> str:
    """Return one token: it names its stream and place, and has characters that break framing."""
    return f"{seed}:{place}{_AWKWARD[place % len(_AWKWARD)]} "


def expected_text(seed: str, tokens: int) -> str:
    """Return the whole text of a stream."""
    return "".join(token(seed, place) for place in range(tokens))


def _chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]} | more
    return b"data: %b\n\n" % orjson.dumps(body)


def _usage(tokens: int) -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3}
    return b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [], "usage": usage})


DONE = b"data: [DONE]\n\n"
_CALL = {"index": 0, "id": "call_1", "function": {"name": "search", "arguments": '{"q":'}}
_CALL_MORE = {"index": 0, "function": {"arguments": '"x"}'}}
_STOP = _chunk({}, "stop")
_OPENING = _chunk({"role": "assistant", "content": ""})

# What follows the tokens; None never ends, b"" breaks nothing off and just ends.
TAILS: dict[str, tuple[bytes, ...]] = {
    "whole": (_STOP, b"usage", DONE),
    "truncated": (),
    "no_done": (_STOP, b"usage"),
    "malformed": (b"data: {nonsense\n\n", _STOP, DONE),
    "error": (b'data: {"error":{"message":"secret sk-1","code":500}}\n\n', DONE),
    "junk_after_done": (_STOP, DONE, _chunk({"content": "junk"}), b"data: {bad\n\n", DONE),
    "giant": (b"data: " + b"x" * (4 * 1024 * 1024) + b"\n\n", _STOP, DONE),
    "odd_chunks": (b": hello\n\n", b"data: {}\n\n", _chunk({"content": None}), _STOP, DONE),
    "tool_call": (
        _chunk({"tool_calls": [_CALL]}), _chunk({"tool_calls": [_CALL_MORE]}),
        _chunk({}, "tool_calls"), DONE,
    ),
    "reasoning": (_chunk({"reasoning_content": "hm"}), _chunk({"reasoning": "so"}), _STOP, DONE),
    "stall": (b"stall",),
    "reset": (b"reset",),
    "done_only": (DONE,),
    "empty_reason": (_chunk({}, ""),),
    "bad_text": (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', _STOP, DONE),
    "overloaded": (b'data: {"error":{"message":"sk-1","type":"overloaded_error"}}\n\n', DONE),
    "rejected": (b'data: {"object":"error","message":"sk-1","code":400}\n\n', DONE),
    "error_event": (b'event: error\ndata: {"message":"sk-1"}\n\n', DONE),
    "two_choices": (
        _chunk({}, choices=[
            {"index": 1, "delta": {"content": "other"}, "finish_reason": "length"},
            {"index": 0, "delta": {"content": "mine"}, "finish_reason": "stop"},
        ]), DONE,
    ),
    "parts": (
        _chunk({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        _chunk({"refusal": "no"}), _STOP, DONE,
    ),
    "object_arguments": (
        _chunk({"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]}),
        _chunk({}, "tool_calls"), DONE,
    ),
    "function_call": (
        _chunk({"function_call": {"name": "f", "arguments": "{"}}),
        _chunk({"function_call": {"arguments": "}"}}), _chunk({}, "function_call"), DONE,
    ),
}  # fmt: skip


def _bytes(body: dict[str, Any], data: bytes) -> list[bytes]:
    """Return the writes of one event, in the stream's line ends."""
    data = data.replace(b"\n", str(body.get("newline", "\n")).encode())
    step = int(body.get("split", 0)) or len(data)
    return [data[at : at + step] for at in range(0, len(data), step)]


def _said(body: dict[str, Any], seed: str) -> int:
    """Return how many tokens the last message has, if the answer is to go on behind it."""
    if not body.get("continue_final_message"):
        return 0
    left, place = str(body["messages"][-1]["content"]), 0
    while left:
        assert left.startswith(token(seed, place)), "not this stream's text"
        left = left.removeprefix(token(seed, place))
        place += 1
    return place


async def _events(
    body: dict[str, Any], record: dict[str, Any], over: list[str]
) -> AsyncGenerator[bytes, None]:
    """Yield the stream's events, each when it is due."""
    count, rate = int(body.get("tokens", 20)), float(body.get("rate", 0))
    begin = record["sent"] = _said(body, record["seed"])
    await asyncio.sleep(float(body.get("first_after", 0)))
    loop = asyncio.get_running_loop()
    start = loop.time()
    yield (b"\xef\xbb\xbf" if body.get("bom") else b"") + _OPENING
    for place in range(begin, count):
        if rate and (wait := start + (place - begin) / rate - loop.time()) > 0:
            await asyncio.sleep(wait)
        if body.get("until") in over:
            break
        text = f"@{time.monotonic_ns()}@" if body.get("stamp") else token(record["seed"], place)
        yield _chunk({"content": text})
        record["sent"] = place + 1
    for part in TAILS[body.get("script", "whole")]:
        if part == b"stall":
            await asyncio.sleep(3600)
        yield _usage(count) if part == b"usage" else part


async def _stream(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(float(body.get("head_after", 0)))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    seed, stats = str(body.get("seed", "s")), request.app[_STATS]
    record = {"seed": seed, "sent": 0, "closed_by_peer": True, "closed_at": None, "closed_ms": None}
    stats["open"][seed] = record
    try:
        await response.prepare(request)
        async with aclosing(_events(body, record, stats["over"])) as events:
            async for event in events:
                if event == b"reset":
                    _transport(request).abort()
                for piece in _bytes(body, event):
                    await response.write(piece)
        record["closed_by_peer"] = False
        await response.write_eof()
    except ConnectionError:
        pass
    finally:
        record["closed_at"], record["closed_ms"] = time.monotonic(), time.time() * 1000
        stats["closed"].append(record)
        if stats["open"].get(seed) is record:  # else another of that seed has begun meanwhile
            del stats["open"][seed]
    return response


def _transport(request: web.Request) -> asyncio.Transport:
    assert request.transport is not None
    return request.transport


def _fails(request: web.Request, body: dict[str, Any]) -> bool:
    """Count the tries of one seed; the first `failures` fail."""
    tries, seed = request.app[_STATS]["tries"], str(body.get("seed", "s"))
    tries[seed] = tries.get(seed, 0) + 1
    return bool(tries[seed] <= int(body.get("failures", 1 << 30)))


async def _failing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer `status`, the first `failures` times; always, if that is not given."""
    if not _fails(request, body):
        return await _stream(request, body | {"script": "whole"})
    headers = {"Retry-After": str(body["retry_after"])} if "retry_after" in body else {}
    error = {"error": {"message": "the key sk-secret is bad"}}
    return web.json_response(error, status=int(body["status"]), headers=headers)


async def _plain(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    text = expected_text(str(body.get("seed", "s")), int(body.get("tokens", 20)))
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"total_tokens": 1}})


async def _redirect(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest")


async def _dropped(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Close the connection without an answer, the first `failures` times."""
    if _fails(request, body):
        _transport(request).abort()
    return await _stream(request, body | {"script": "whole"})


async def _other(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer with something else than an answer, of a `kind`, in an `encoding`."""
    text = '{"text":"' + "x" * int(body.get("tokens", 0)) + '"}'
    headers = {"Content-Encoding": body.get("encoding", "identity")}
    kind = body.get("kind", "application/json")
    return web.Response(text=text, content_type=kind, headers=headers)


async def _garbage(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    _transport(request).write(b"220 sk-1 ESMTP\r\n\r\n")
    return await _dropped(request, body)


_Script = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
SCRIPTS: dict[str, _Script] = dict.fromkeys(TAILS, _stream) | {
    "failing": _failing,
    "plain": _plain,
    "redirect": _redirect,
    "dropped": _dropped,
    "other": _other,
    "garbage": _garbage,
}


async def _complete(request: web.Request) -> web.StreamResponse:
    body = orjson.loads(await request.read())
    stats = request.app[_STATS]
    stats["requests"] += 1
    stats["bodies"].append(body)
    return await SCRIPTS[body.get("script", "whole")](request, body)


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "fake"}, {"id": "m"}]})


async def _stats(request: web.Request) -> web.Response:
    stats = request.app[_STATS]
    return web.json_response({**stats, "open": list(stats["open"].values())})


async def _over(request: web.Request) -> web.Response:
    request.app[_STATS]["over"].append(request.match_info["name"])
    return web.Response()


def fake_app() -> web.Application:
    """Return the application; its base URL is `/v1`."""
    app = web.Application()
    app[_STATS] = {"requests": 0, "bodies": [], "open": {}, "closed": [], "tries": {}, "over": []}
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/stats", _stats)
    app.router.add_post("/over/{name}", _over)
    return app


def stats_of(app: web.Application) -> dict[str, Any]:
    """Return the record of what was asked and what became of it."""
    return app[_STATS]


@asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Serve; give the base URL, and the record of what was asked."""
    app = fake_app()
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=512).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", stats_of(app)
    finally:
        await runner.cleanup()


async def _serve(port: int) -> None:
    async with serving(port) as (url, _):
        print(f"fake upstream: {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args().port))
