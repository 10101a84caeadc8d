"""OpenAI's Python client on tokenwire: a chat, and a response that outlives its connection.

    pip install openai
    make run &
    python examples/openai_python.py

TOKENWIRE_URL (by default http://127.0.0.1:8080) and MODEL (by default the server's own) say whom to ask.
"""

import os

from openai import OpenAI

URL = os.environ.get("TOKENWIRE_URL", "http://127.0.0.1:8080")
MODEL = os.environ.get("MODEL", "")
QUESTION = "Tell me about streams"


def chat(client: OpenAI) -> None:
    """Stream a chat; leaving the loop early would close the model server's connection, too."""
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        elif chunk.usage:
            print(f"\n\n{chunk.usage.completion_tokens} tokens\n")


def response(client: OpenAI) -> None:
    """Start a response in the background, lose its stream, and go on where it was."""
    with client.responses.create(model=MODEL, input=QUESTION, background=True, stream=True) as events:
        for event in events:
            if event.type == "response.created":
                id = event.response.id
            elif event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            seen = event.sequence_number
            if seen == 30:
                break  # as if the connection had gone
    print(" … ", end="")
    for event in client.responses.retrieve(id, stream=True, starting_after=seen):
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    print(f"\n\n{client.responses.retrieve(id).status}")


if __name__ == "__main__":
    with OpenAI(base_url=f"{URL}/v1", api_key="unused") as client:
        chat(client)
        response(client)
