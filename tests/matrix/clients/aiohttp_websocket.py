"""aiohttp: a session over its own WebSocket, gone on with by `after`."""

import json

import aiohttp
from harness import Task, run


async def speak(task: Task) -> str:
    sid = await task.start()
    after, end = "", None
    async with aiohttp.ClientSession() as http:
        while end is None:
            async with http.ws_connect(f"{task.url}/v1/sessions/{sid}/ws{after}") as socket:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        break
                    event = json.loads(message.data)
                    after = f"?after={event['id']}" if event["type"] == "content" else after
                    end = task.hear(event) or end
                    if task.enough():
                        await socket.send_json({"type": "abort", "ref": 1, "session": sid})
    return end


run(speak)
