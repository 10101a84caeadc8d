"""Starlette and sse-starlette on uvicorn: a relay without a log."""

import argparse
import json

import aiohttp
import uvicorn
import uvloop
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route


async def chat(request: Request) -> EventSourceResponse:
    """Relay one answer."""
    asked = await request.json()
    body = {
        "model": "bench",
        "stream": True,
        "messages": [{"role": "user", "content": asked["prompt"]}],
    }
    state = request.app.state

    async def events():
        url = f"{state.upstream}/chat/completions"
        async with state.client.post(url, json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    content = json.loads(line[6:])["choices"][0]["delta"].get("content")
                    if content:
                        yield {"data": json.dumps({"type": "content", "content": content})}
        yield {"data": "[DONE]"}

    return EventSourceResponse(events())


async def serve(app: Starlette, port: int) -> None:
    """Serve with one client for all upstream connections."""
    config = uvicorn.Config(
        app, port=port, log_level="error", access_log=False, loop="uvloop", backlog=4096
    )
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
    ) as app.state.client:
        await uvicorn.Server(config).serve()


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser()
    for name in ("port", "upstream"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    app = Starlette(routes=[Route("/api/chat", chat, methods=["POST"])])
    app.state.upstream = args.upstream
    uvloop.run(serve(app, int(args.port)))


if __name__ == "__main__":
    main()
