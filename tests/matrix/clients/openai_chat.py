"""openai-python, asynchronous: a chat."""

from harness import Task, run
from openai import AsyncOpenAI

HI = [{"role": "user", "content": "hi"}]


async def speak(task: Task) -> str:
    async with AsyncOpenAI(base_url=f"{task.url}/v1", api_key="x", max_retries=0) as client:
        body = dict(task.body)
        stream = await client.chat.completions.create(
            model=body.pop("model"), messages=HI, stream=True, extra_body=body
        )
        async for chunk in stream:
            task.say(chunk.choices[0].delta.content or "")
            if task.enough():
                await stream.close()
                return "aborted"
        return "done"


run(speak)
