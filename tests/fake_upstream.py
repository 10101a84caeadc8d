"""An OpenAI-compatible model server that does as it is told, over real sockets.

A request's `script` picks how the stream goes wrong (`SCRIPTS`); `tokens`, `rate` (a second, 0: at
once), `seed` and `split` (bytes a write) shape it; with
`stamp`, a token is the moment it was sent. `GET /stats` tells what became of each stream.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
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
}  # fmt: skip


async def _stream(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    seed, count = str(body.get("seed", "s")), int(body.get("tokens", 20))
    rate, split = float(body.get("rate", 0)), int(body.get("split", 0))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    record = {"seed": seed, "sent": 0, "closed_by_peer": True, "closed_at": None}
    request.app[_STATS]["open"][seed] = record

    async def write(data: bytes) -> None:
        step = split or len(data)
        for at in range(0, len(data), step):
            await response.write(data[at : at + step])

    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        await write(_OPENING)
        for place in range(count):
            if rate and (wait := start + place / rate - loop.time()) > 0:
                await asyncio.sleep(wait)
            text = f"@{time.monotonic_ns()}@" if body.get("stamp") else token(seed, place)
            await write(_chunk({"content": text}))
            record["sent"] = place + 1
        for part in TAILS[body.get("script", "whole")]:
            if part == b"stall":
                await asyncio.sleep(3600)
            await write(_usage(count) if part == b"usage" else part)
        record["closed_by_peer"] = False
        await response.write_eof()
    except ConnectionError:
        pass
    finally:
        record["closed_at"] = time.monotonic()
        request.app[_STATS]["closed"].append(request.app[_STATS]["open"].pop(seed, record))
    return response


async def _failing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Answer `status`, the first `failures` times; always, if that is not given."""
    tries = request.app[_STATS]["tries"]
    seed = str(body.get("seed", "s"))
    tries[seed] = tries.get(seed, 0) + 1
    if tries[seed] > int(body.get("failures", 1 << 30)):
        return await _stream(request, body | {"script": "whole"})
    headers = {"Retry-After": str(body["retry_after"])} if "retry_after" in body else {}
    error = {"error": {"message": "the key sk-secret is bad"}}
    return web.json_response(error, status=int(body["status"]), headers=headers)


async def _plain(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    text = expected_text(str(body.get("seed", "s")), int(body.get("tokens", 20)))
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"total_tokens": 1}})


async def _zipped(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    return web.Response(body=b"\x1f\x8b" + b"\0" * 100, headers=headers)


async def _redirect(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    raise web.HTTPFound("http://169.254.169.254/latest")


_Script = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
SCRIPTS: dict[str, _Script] = dict.fromkeys(TAILS, _stream) | {
    "failing": _failing,
    "plain": _plain,
    "zipped": _zipped,
    "redirect": _redirect,
}


async def _complete(request: web.Request) -> web.StreamResponse:
    body = orjson.loads(await request.read())
    stats = request.app[_STATS]
    stats["requests"] += 1
    stats["bodies"].append(body)
    return await SCRIPTS[body.get("script", "whole")](request, body)


async def _stats(request: web.Request) -> web.Response:
    stats = request.app[_STATS]
    return web.json_response({**stats, "open": list(stats["open"].values())})


def fake_app() -> web.Application:
    """Return the application; its base URL is `/v1`."""
    app = web.Application()
    app[_STATS] = {"requests": 0, "bodies": [], "open": {}, "closed": [], "tries": {}}
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_get("/stats", _stats)
    return app


def stats_of(app: web.Application) -> dict[str, Any]:
    """Return the record of what was asked and what became of it."""
    return app[_STATS]


async def _serve(port: int) -> None:
    runner = web.AppRunner(fake_app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=512).start()
    print(f"fake upstream: http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args().port))
