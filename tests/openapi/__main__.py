"""Try every published call for as long as you like: python -m tests.openapi [--minutes 10] [--seed 1]

Exits with 1 if schemathesis found something, or if anything is still held afterwards.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from aiohttp import web

from server import Settings, create_app
from server.transport.access import ACCESS
from server.transport.context import CONTEXT
from server.transport.doorstep import Runner
from tests.clients import Server
from tests.openapi.trial import SETTINGS, UPSTREAMS, left_over, tried, used
from tests.redis_server import RedisServer, binaries


async def run(redis_url: str, minutes: float, seed: int) -> bool:
    """Try a node for so long; return whether all was well."""
    app = create_app(Settings(redis=redis_url, model="demo", **SETTINGS), upstreams=UPSTREAMS)
    runner = Runner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = Server(runner.addresses[0][1], app[CONTEXT].node, app[ACCESS])
    assert server.node is not None
    before = await used(server)
    code, told = await tried(
        server, "--max-time", f"{60 * minutes:.0f}", "--seed", str(seed), "--generation-database", "none"
    )
    left = await left_over(server.node, before)
    await runner.cleanup()
    print(f"{told}\nseed {seed}, left over: {left or 'nothing'}")
    return code == 0 and not left


def main() -> None:
    """Run with a Redis of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        redis = RedisServer(binaries()[0], Path(folder))
        try:
            well = asyncio.run(run(redis.url, args.minutes, args.seed))
            client = redis.client()
            forever = [key for key in client.scan_iter("*") if client.ttl(key) == -1]
            client.close()
        finally:
            redis.kill()
    sys.exit(f"keys without a time to live: {forever}" if forever else not well)


if __name__ == "__main__":
    main()
