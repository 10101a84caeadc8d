"""httpx-sse: a session's events, gone on with by the last id."""

import json

import httpx
from harness import Task, run
from httpx_sse import aconnect_sse


async def speak(task: Task) -> str:
    sid = await task.start()
    last, end = "", None
    async with httpx.AsyncClient() as client:
        while end is None:
            headers = {"Last-Event-ID": last} if last else {}
            try:
                url = f"{task.url}/v1/sessions/{sid}/events"
                async with aconnect_sse(client, "GET", url, headers=headers) as source:
                    async for event in source.aiter_sse():
                        # It also yields a block that says `retry` alone.
                        if event.event != "message" or event.data in ("", "[DONE]"):
                            continue
                        end = task.hear(json.loads(event.data)) or end
                        last = event.id
                        if task.enough():
                            await task.abort(sid)
            except httpx.TransportError:
                continue
    return end


run(speak)
