"""openai-python: a response in the background, gone on with by `starting_after`."""

from contextlib import suppress

from harness import Task, run
from openai import APIConnectionError, AsyncOpenAI, AsyncStream

ENDS = {"response.completed": "done", "response.failed": "response.failed"}


class Reader:
    """Reads a response's events, of however many streams."""

    def __init__(self, task: Task, client: AsyncOpenAI) -> None:
        self.task, self.client = task, client
        self.id, self.seen, self.end = "", 0, ""

    async def read(self, stream: AsyncStream) -> None:
        async for event in stream:
            self.seen = event.sequence_number
            if event.type == "response.created":
                self.id = event.response.id
            elif event.type == "response.output_text.delta":
                self.task.say(event.delta)
            elif event.type == "response.incomplete":
                self.end = event.response.status
            self.end = ENDS.get(event.type, self.end)
            if self.task.enough():
                await self.client.responses.cancel(self.id)


async def speak(task: Task) -> str:
    async with AsyncOpenAI(base_url=f"{task.url}/v1", api_key="x", max_retries=0) as client:
        reader, body = Reader(task, client), dict(task.body)
        asked = {"model": body.pop("model"), "input": "hi", "background": True}
        with suppress(APIConnectionError):
            await reader.read(await client.responses.create(**asked, stream=True, extra_body=body))
        while not reader.end:
            seen = {"stream": True, "starting_after": reader.seen}
            with suppress(APIConnectionError):
                await reader.read(await client.responses.retrieve(reader.id, **seen))
        return reader.end


run(speak)
