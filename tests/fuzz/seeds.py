"""What fuzzing begins with: good inputs of each kind, and what they are made of."""

import json

from tests.fake_upstream import TAILS
from tests.upstream import messages

SID = "s" * 32


def _json(*values: object) -> tuple[bytes, ...]:
    """Return values as JSON."""
    return tuple(json.dumps(value).encode() for value in values)


def _words(texts: str) -> tuple[bytes, ...]:
    return tuple(f'"{text}"'.encode() for text in texts.split())


CHUNKS = tuple(
    b"".join(part for part in parts if part.startswith(b"data: "))
    for name, parts in TAILS.items()
    if name != "giant"
)
_ONE = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
_CALLING = {
    "choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"arguments": "{"}}]}}]
}
_WHOLE = {
    "choices": [{"message": {"content": "a", "reasoning": "b"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 1},
}
_ERROR = {"error": {"message": "no", "type": "overloaded_error", "code": 429}}
EVENTS = _json(
    {"type": "content", "content": "Hel"},
    {"type": "reasoning", "content": "hm"},
    {"type": "tool_call", "index": 0, "id": "c", "name": "f", "arguments": '{"id":1}'},
    {"type": "bytes", "data": "AAEC", "content_type": "image/png"},
    {"type": "done", "finish_reason": "stop", "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
    {"type": "error", "code": "x", "message": "y", "retryable": True, "status": 429, "retry_after": 1.5},
)
SHAPES = _json(
    {"response": "a", "done": False},
    {"message": {"content": "b", "thinking": "t"}, "done": True, "eval_count": 1, "prompt_eval_count": 2},
    {
        "token": {"text": "c", "special": False},
        "generated_text": None,
        "details": {"finish_reason": "length"},
    },
    {"result": {"response": "d"}},
    {"content": "e", "stop": True, "stop_type": "limit"},
    {"choices": [{"text": "f"}]},
)
LINES = b"\n".join(EVENTS[:4] + EVENTS[4:5])
SSE_WORDS = (
    b"data:",
    b"data: ",
    b"event: error",
    b"event:",
    b"id: 1",
    b"id",
    b"retry: 1",
    b":",
    b"\n\n",
    b"\r\n\r\n",
)
CHUNK_WORDS = _words(
    "choices delta message content reasoning_content tool_calls function arguments index usage "
    "finish_reason error code function_call refusal object"
)
_KINDS = (
    b"text/event-stream", b"application/x-ndjson", b"application/json", b"text/plain; charset=utf-16",
    b"text/plain; charset=latin-1", b"image/png; x=y", b"text/html; charset*=utf-8''u", b"audio/x",
    b"application/x-www-form-urlencoded", b"text/plain; charset*0=u; charset*1=tf-8",
)  # fmt: skip
KIND_WORDS = (
    b"charset=", b"utf-7", b"utf-8", b"zlib", b"hex", b"idna", b"punycode", b"shift_jis", b"; ",
    b"charset*=",
    b"charset*0*=", b"charset*1=", b"unicode_escape", b"rot13", b"utf-16", b"undefined", b"base64",
    b"gb18030",
)  # fmt: skip
BODIES = (b"data: a\n\ndata: [DONE]\n\n", LINES, b"caf\xc3\xa9\n", b"\xff\xfea\0", EVENTS[0])
TYPED = tuple(kind + b"\n" + body for kind in _KINDS for body in BODIES)
_OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = (
    _OK + b"Content-Length: 5\r\n\r\nhello",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
    _OK + b"Content-Type: text/event-stream\r\n\r\ndata: a\n\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Connection: close\r\n\r\nx",
    b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nRetry-After-Ms: 250\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 503 X\r\nRetry-After: Wed, 21 Oct 2065 07:28:00 GMT\r\n\r\n",
    b"HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 204 X\r\n\r\n",
)
HTTP_WORDS = (
    b"HTTP/1.1 ", b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Retry-After: ", b"Retry-After-Ms: ", b"1e307", b"429", b"503", b"0\r\n\r\n", b"ffffffff\r\n",
    b"Upgrade: x",
)  # fmt: skip
_OPTIONS = {
    "conversation": "c",
    "on_busy": "parallel",
    "ttl": 5,
    "orphan_ttl": 0,
    "hold_limit": 9,
    "pause_ttl": 1,
}
_HISTORY = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url",
    "image_url": {"url": "u"}}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f",
    "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "r"},
]  # fmt: skip
STARTS = _json(
    {"prompt": "x"},
    {"prompt": "x", "model": "demo", "tokens": 3, "session": _OPTIONS},
    {"messages": _HISTORY, "temperature": 1.5, "stop": ["a"], "tools": [{"function": {"name": "f",
    "parameters": {}}}],
     "tool_choice": {"function": {"name": "f"}}, "stream_options": {"include_usage": True},
     "user": "u", "n": 1},
    {"upstream": "push", "model": "mine"},
)  # fmt: skip
_ITEMS = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "u"}],
    },
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "r"},
    {"type": "reasoning"},
]
RESPONSES = _json(
    {"input": "x"},
    {"input": _ITEMS, "instructions": "i", "tools": [{"type": "function", "name": "f",
    "parameters": {}}],
     "tool_choice": {"type": "function", "name": "f"}, "text": {"format": {"type": "json_schema",
     "name": "n"}},
     "reasoning": {"effort": "low"}, "max_output_tokens": 5, "metadata": {"a": "b"}, "background": True},
)  # fmt: skip
_PARTS = [
    {"type": "text", "text": "t"}, {"type": "step-start"}, {"type": "file", "mediaType": "image/png",
    "url": "u"},
    {"type": "tool-f", "toolCallId": "1", "state": "output-available", "input": {"a": 1}, "output": [1]},
    {"type": "dynamic-tool", "toolName": "g", "toolCallId": "2", "state": "output-error",
    "errorText": "e"},
    {"type": "tool-h", "toolCallId": "3", "approval": {"approved": False}, "rawInput": "{"},
]  # fmt: skip
CHATS = _json(
    {"id": "c", "messages": [{"id": "1", "role": "user", "parts": _PARTS[:3]}]},
    {"id": "c", "messages": [{"id": "2", "role": "assistant", "parts": _PARTS}, {"role": "user",
    "content": "x"}],
     "system": "s", "tools": {"f": {"description": "d", "parameters": {}}}, "config": {"modelName": "m"},
     "callSettings": {"temperature": 1, "maxTokens": 5}, "session": {"on_busy": "reject"},
     "trigger": "submit-message"},
)  # fmt: skip
COMMANDS = _json(
    {"type": "start", "ref": 1, "prompt": "x", "idempotency_key": "k"},
    {"type": "attach", "ref": [1], "session": SID, "after": "1-42", "delivery": "merged"},
    {"type": "pause", "ref": {"a": None}, "session": SID, "scope": "viewer"},
    {"type": "auth", "token": "t", "ticket": "u"},
)
URLS = (
    b"https://user:secret@example.com:8443/v1?key=secret", b"redis+sentinel://u:p@a:1,b:2/main/0",
    b"redis+cluster://a:1,b:2", b"unix:///run/redis.sock?db=1", b"rediss://[::1]:6379/0", b"10.0.0.0/8",
    b"app:create+read:" + b"0" * 64 + b" # comment",
)  # fmt: skip
CHUNKED = (
    *CHUNKS,
    *(b"data: %b\n\n" % chunk for chunk in _json(_ONE, _CALLING, _WHOLE)),
    *_json(_WHOLE, _ERROR),
)
_CALL = messages.block(
    1,
    "tool_use",
    messages.delta(1, "input_json_delta", partial_json='{"q":'),
    id="t",
    name="f",
    input={"a": [1]},
)
_THOUGHT = messages.block(0, "thinking", messages.delta(0, "thinking_delta", thinking="hm"), thinking="")
_BLOCKS = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]
MESSAGES = (
    messages.stream(messages.text(0, "Hel", "lo")),
    messages.stream(_THOUGHT, _CALL, reason="tool_use"),
    messages.START + messages.error("overloaded_error"),
    *_json(
        {"type": "message", "content": _BLOCKS, "stop_reason": "end_turn", "usage": {"input_tokens": 1}},
        {"type": "error", "error": {"type": "rate_limit_error", "message": "no"}},
    ),
)
MESSAGE_WORDS = _words(
    "type index delta content_block content_block_start content_block_delta content_block_stop "
    "message_start message_delta message_stop usage stop_reason partial_json thinking tool_use input "
    "input_tokens cache_read_input_tokens"
)
BODY_WORDS = _words(
    "prompt messages model session role content tools tool_choice tool_calls function arguments "
    "upstream n stop type ref after input parts id state output"
)
EVENT_WORDS = _words(
    "type content reasoning tool_call bytes done error index id name arguments data content_type "
    "finish_reason usage status retry_after length content_filter"
)
CURSORS = (
    b"1795219200123-42", b"0-0", b"9999999999999999-9999999999999999", SID.encode() + b".1-2", b"12",
    b"text/plain; charset=utf-8",
)  # fmt: skip
LOGS = (
    LINES,
    b"\n".join((*EVENTS[:3], *EVENTS[2:3], EVENTS[5])),
    b"\n".join(SHAPES),
    b"\r\rid: 9-9\r\n\nevent: done\ndata: {}\n\n",
    b'data: [DONE]\n\n\0\xe2\x80\xa8"}\n{"type":"done"}',
    EVENTS[2],
    EVENTS[3] + b"\n" + EVENTS[3],
)
