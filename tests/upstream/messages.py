"""Anthropic's stream, spelled out: what a server sends for each kind of block."""

import orjson


def event(kind, **fields):
    body = orjson.dumps({"type": kind} | fields)
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


def delta(index, kind, **fields):
    return event("content_block_delta", index=index, delta={"type": kind} | fields)


def block(index, kind, *deltas, **fields):
    """Return a whole block."""
    start = event("content_block_start", index=index, content_block={"type": kind} | fields)
    return b"".join([start, *deltas, event("content_block_stop", index=index)])


def text(index, *pieces):
    return block(index, "text", *(delta(index, "text_delta", text=p) for p in pieces), text="")


def error(kind):
    return event("error", error={"type": kind, "message": "the key sk-secret is bad"})


PING = event("ping")
_CACHE = {"cache_read_input_tokens": 5, "cache_creation_input_tokens": 0}
_USAGE = {"input_tokens": 20, "output_tokens": 1, "cache_creation": {}} | _CACHE
START = event(
    "message_start",
    message={"id": "msg_1", "role": "assistant", "content": [], "stop_reason": None, "usage": _USAGE},
)
STOP = event("message_stop")
USAGE = {
    "prompt_tokens": 25, "completion_tokens": 9, "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 5},
}  # fmt: skip
"""What OpenAI would say of all that."""


def close(reason):
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 9}
    )


def stream(*blocks, reason="end_turn"):
    """Return a whole stream."""
    return b"".join([START, PING, *blocks, close(reason), STOP])
