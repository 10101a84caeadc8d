"""A page of your own on a server of your own, with tokenwire mounted under /llm.

REDIS_URL=redis://127.0.0.1:6379 python examples/vanilla/serve.py, then http://127.0.0.1:8081
"""

import os
from pathlib import Path

from aiohttp import web

from server import Settings, create_app

PAGE = Path(__file__).parent / "index.html"


async def page(request: web.Request) -> web.FileResponse:
    """Answer with the page."""
    return web.FileResponse(PAGE)


def make_app(redis: str) -> web.Application:
    """Return the application."""
    app = web.Application()
    app.router.add_get("/", page)
    app.add_subapp("/llm", create_app(Settings(redis=redis)))
    return app


if __name__ == "__main__":
    redis = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
    web.run_app(make_app(redis), host="127.0.0.1", port=8081, handler_cancellation=True)
