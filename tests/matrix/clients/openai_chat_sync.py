"""openai-python, synchronous: a chat."""

import asyncio

from harness import Task, run
from openai import OpenAI

HI = [{"role": "user", "content": "hi"}]


def talk(task: Task) -> str:
    with OpenAI(base_url=f"{task.url}/v1", api_key="x", max_retries=0) as client:
        body = dict(task.body)
        stream = client.chat.completions.create(
            model=body.pop("model"), messages=HI, stream=True, extra_body=body
        )
        for chunk in stream:
            task.say(chunk.choices[0].delta.content or "")
            if task.enough():
                stream.close()
                return "aborted"
        return "done"


async def speak(task: Task) -> str:
    return await asyncio.to_thread(talk, task)


run(speak)
