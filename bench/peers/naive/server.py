"""The usual aiohttp answer: `.send()` an event, one GET of a pause flag and one RPUSH a token."""

import argparse
import json

import aiohttp
import redis.asyncio as redis
import uvloop
from aiohttp import web
from aiohttp_sse import sse_response


async def tokens(response: aiohttp.ClientResponse):
    """Yield the texts of an OpenAI stream."""
    async for line in response.content:
        if line.startswith(b"data: {"):
            content = json.loads(line[6:])["choices"][0]["delta"].get("content")
            if content:
                yield content


async def chat(request: web.Request) -> web.StreamResponse:
    """Relay one answer; what comes while paused waits in Redis for the next token."""
    asked = await request.json()
    session = asked["sessionId"]
    store, client, upstream = request.app["redis"], request.app["client"], request.app["upstream"]
    body = {
        "model": "bench",
        "stream": True,
        "messages": [{"role": "user", "content": asked["prompt"]}],
    }
    sent = 0
    async with (
        sse_response(request, allow_all_methods=True) as events,
        client.post(f"{upstream}/chat/completions", json=body) as response,
    ):
        async for content in tokens(response):
            paused = await store.get(f"pause:{session}")
            length = await store.rpush(f"log:{session}", content)
            if paused:
                continue
            if sent < length - 1:
                for held in await store.lrange(f"log:{session}", sent, length - 2):
                    await events.send(json.dumps({"type": "content", "content": held.decode()}))
            await events.send(json.dumps({"type": "content", "content": content}))
            sent = length
        await events.send("[DONE]")
    return events


async def connect(app: web.Application):
    """Hold the clients of Redis and of the upstream while the application runs."""
    app["redis"] = redis.from_url(app["redis_url"], max_connections=3000)
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as app["client"]:
        yield
    await app["redis"].aclose()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    for name in ("port", "redis", "upstream"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    app = web.Application()
    app["redis_url"], app["upstream"] = args.redis, args.upstream
    app.cleanup_ctx.append(connect)
    app.router.add_post("/api/chat", chat)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(args.port), access_log=None, print=None)


if __name__ == "__main__":
    main()
