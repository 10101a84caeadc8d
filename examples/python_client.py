"""Ask, read, pause, lose the connection, resume, and have lost nothing.

Start a server with `make run`, then: python examples/python_client.py [URL]
"""

import asyncio
import sys

from server import Client
from server.client import Opened, Paused, Resumed
from server.events import Content, Done


def tell(report):
    """Say which connection stands."""
    if isinstance(report, Opened):
        print(f"[connected over {report.transport}]", end=" ")


async def resume_later(stream):
    """Let the session go on after a second."""
    await asyncio.sleep(1)
    await stream.resume()


async def main(url):
    """Read one answer, with a pause and a cut."""
    async with Client(url, tell=tell) as client:
        stream = await client.start("Tell me about streams", tokens=60, rate=30)
        words = 0
        async for item in stream:
            match item:
                case Content(text):
                    print(text, end="", flush=True)
                    words += 1
                    if words == 20:
                        await stream.pause()
                        resuming = asyncio.create_task(resume_later(stream))
                    if words == 40:
                        print("\n[cutting the wire]", end=" ")
                        await stream.cut()
                case Paused(gate):
                    print(f"\n[paused at {gate}]", end=" ", flush=True)
                case Resumed():
                    print("[resumed]")
                    await resuming
                case Done(usage=usage):
                    print(f"\n[done at {stream.after}: {usage}]")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
