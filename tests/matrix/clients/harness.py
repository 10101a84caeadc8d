"""What a Python client of the matrix says: the same lines as `harness.mjs`."""

import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

ENDS = {"done": "done", "aborted": "aborted", "error": "error event"}


class Task:
    """One run of a client: `url`, the request's `body`, and `stop`, the characters to abort after."""

    def __init__(self, name: str, url: str, body: dict[str, Any], stop: int) -> None:
        self.name, self.url, self.body, self.stop = name, url, body, stop
        self.sockets = url.replace("http", "ws")
        self.text = ""
        self.asked = False

    def tell(self, **line: object) -> None:
        # One write, since tasks may be threads.
        sys.stdout.write(json.dumps({"task": self.name, **line}) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        self.text += text
        if text:
            self.tell(text=text)

    def enough(self) -> bool:
        """Say once whether it is time to abort."""
        if self.asked or not self.stop or len(self.text) < self.stop:
            return False
        self.asked = True
        self.tell(aborting=time.time() * 1000)
        return True

    def post(self, path: str, body: object = None) -> Any:
        data, headers = json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    async def start(self) -> str:
        """Start a session of the server's own kind; return its id."""
        body = {"prompt": "hi", **self.body}
        return (await asyncio.to_thread(self.post, "/v1/sessions", body))["id"]

    async def abort(self, sid: str) -> None:
        await asyncio.to_thread(self.post, f"/v1/sessions/{sid}/abort")

    def hear(self, event: dict[str, Any]) -> str | None:
        """Take an event of the server's own kind; return how the session ended, if it says that."""
        if event["type"] == "content":
            self.say(event["content"])
        return ENDS.get(event["type"])


async def _ended(speak: Callable[[Task], Awaitable[str]], task: Task) -> None:
    try:
        end = await speak(task)
    except Exception as error:
        end = type(error).__name__
    task.tell(end=end)


def run(speak: Callable[[Task], Awaitable[str]]) -> None:
    """Run every task; one returns how it ended, or raises its error."""

    async def all_of_them() -> None:
        tasks = [Task(name, **told) for name, told in json.loads(sys.argv[1]).items()]
        await asyncio.gather(*(_ended(speak, task) for task in tasks))

    asyncio.run(all_of_them())
