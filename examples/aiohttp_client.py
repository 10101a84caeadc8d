"""A session over aiohttp's WebSocket, with no package of ours: lose the connection, and go on.

pip install aiohttp, start a server with `make run`, then: python examples/aiohttp_client.py [URL]
"""

import asyncio
import sys

import aiohttp

FINAL = ("done", "aborted", "error")


async def read(http, url, after="", most=None):
    """Print what comes after an event; return the last one, or the `most`th."""
    async with http.ws_connect(url, params={"after": after} if after else {}) as socket:
        count = 0
        async for message in socket:
            event = message.json()
            if event["type"] == "content":
                print(event["content"], end="", flush=True)
                count += 1
            if event["type"] in FINAL or count == most:
                return event
    raise ConnectionError("the connection was lost: come back with the last id")


async def main(url):
    """Ask, leave after twenty events, come back for the rest."""
    async with aiohttp.ClientSession() as http:
        asked = {"prompt": "Tell me about streams", "tokens": 60, "rate": 60}
        async with http.post(f"{url}/v1/sessions", json=asked, raise_for_status=True) as answer:
            sid = (await answer.json())["id"]
        socket = f"{url}/v1/sessions/{sid}/ws"
        last = await read(http, socket, most=20)
        print("[cut]", end="")
        final = await read(http, socket, after=last["id"])
        print(f"\n[{final['type']} at {final['id']}]")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
