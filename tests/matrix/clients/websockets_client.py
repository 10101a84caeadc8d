"""websockets: a session over its own socket, gone on with by `after`."""

import json

from harness import Task, run
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def speak(task: Task) -> str:
    sid = await task.start()
    after, end = "", None
    while end is None:
        try:
            async with connect(f"{task.sockets}/v1/sessions/{sid}/ws{after}") as socket:
                async for frame in socket:
                    event = json.loads(frame)
                    after = f"?after={event['id']}" if event["type"] == "content" else after
                    end = task.hear(event) or end
                    if task.enough():
                        await socket.send(json.dumps({"type": "abort", "ref": 1, "session": sid}))
        except ConnectionClosedError:
            continue
    return end


run(speak)
