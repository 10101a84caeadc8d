"""OpenAI's calls, as far as they are served: chat completions, models, Responses (pure)."""

from server.callers import Right
from server.errors import (
    BadJson,
    Busy,
    Conflict,
    Gone,
    InvalidRequest,
    NotFound,
    TooLarge,
    UnknownModel,
)
from server.openapi.calls import Call, Json, answer, body, link, ref
from server.openapi.schemas import ANY, COUNT, FLAG, MODEL, TEXT, list_of, maybe, record

_SSE: Json = ref("ForeignSent") | {"description": "OpenAI's events; an id comes with the last chunk."}
_NULL: Json = {"type": "null"}
_FUNCTION: Json = record(
    "", ("description", "parameters"), type={"const": "function"}, name=TEXT, description=TEXT,
    parameters=ANY,
)  # fmt: skip
_CALL: Json = record(
    "", id=TEXT, type={"const": "function"}, function=record("", name=TEXT, arguments=TEXT)
)
_CHOICE: Json = record(
    "",
    index={"const": 0},
    message=record(
        "",
        ("reasoning_content", "tool_calls"),
        role={"const": "assistant"},
        content=maybe(TEXT),
        refusal=_NULL,
        reasoning_content=TEXT,
        tool_calls=list_of(_CALL, 1),
    ),
    logprobs=_NULL,
    finish_reason=TEXT,
)
_CHAT: Json = {
    "ChatOrder": {
        "description": "A chat-completions body; what is not known here is passed on.",
        "type": "object",
        "properties": {
            "messages": list_of(ref("Message"), 1),
            "model": MODEL,
            "stream": maybe(FLAG),
            "n": {"enum": [1, None]},
            "stream_options": maybe(record("", ("include_usage",), include_usage=maybe(FLAG))),
            "session": ref("Options"),
        },
        "required": ["messages"],
        "not": {"required": ["prompt"]},
    },
    "ChatCompletion": record(
        "A whole answer.",
        id=TEXT,
        object={"const": "chat.completion"},
        created=COUNT,
        model=TEXT,
        choices=list_of(_CHOICE, 1),
        usage=maybe(ANY),
    ),
}
_PART: Json = {
    "anyOf": [
        record("", type={"enum": ["input_text", "output_text", "text"]}, text=TEXT),
        record("", type={"const": "refusal"}, refusal=TEXT),
        record("", type={"const": "input_image"}, image_url=TEXT),
    ]
}
_SAID: Json = {"anyOf": [TEXT, list_of(_PART)]}
_ITEM: Json = {
    "anyOf": [
        record(
            "", ("type",), type={"const": "message"}, content=_SAID,
            role={"enum": ["user", "assistant", "system", "developer"]},
        ),
        record("", type={"const": "function_call"}, call_id=TEXT, name=TEXT, arguments=TEXT),
        record("", type={"const": "function_call_output"}, call_id=TEXT, output=_SAID),
        record("", type={"const": "reasoning"}),
    ]
}  # fmt: skip
_USAGE: Json = record(
    "",
    input_tokens=COUNT,
    input_tokens_details=record("", cached_tokens=COUNT),
    output_tokens=COUNT,
    output_tokens_details=record("", reasoning_tokens=COUNT),
    total_tokens=COUNT,
)
_RESPONSES: Json = {
    "ResponseId": TEXT | {"pattern": "^resp_[A-Za-z0-9_-]{22,64}$"},
    "ResponseOrder": record(
        "What to answer; parameters that are not known here are passed on.",
        (
            "model", "instructions", "stream", "background", "max_output_tokens", "text", "reasoning",
            "tools", "tool_choice", "session", "conversation", "previous_response_id", "prompt",
        ),
        input={"anyOf": [TEXT, list_of(_ITEM, 1)]},
        model=MODEL,
        instructions=maybe(TEXT),
        stream=maybe(FLAG),
        background=maybe(FLAG),
        max_output_tokens=maybe(COUNT),
        text=maybe(record("", ("format",), format=maybe(record("", type=TEXT)))),
        reasoning=maybe(ANY),
        tools=maybe(list_of(_FUNCTION)),
        tool_choice={"anyOf": [TEXT, record("", type={"const": "function"}, name=TEXT), _NULL]},
        session=ref("Options"),
        conversation=_NULL,
        previous_response_id=_NULL,
        prompt=_NULL,
    ),
    "Response": record(
        "A response as it stands, beside what its request said.",
        id=ref("ResponseId"),
        object={"const": "response"},
        created_at=COUNT,
        status={"enum": ["in_progress", "completed", "incomplete", "cancelled", "failed"]},
        model=TEXT,
        background=FLAG,
        error=maybe(record("", code=TEXT, message=TEXT)),
        incomplete_details=maybe(record("", reason={"enum": ["max_output_tokens", "content_filter"]})),
        output=list_of(
            record("", id=TEXT, type={"enum": ["reasoning", "message", "function_call"]}, status=TEXT)
        ),
        usage=maybe(_USAGE),
    ),
    "ResponseDeleted": record(
        "It is gone.", id=ref("ResponseId"), object={"const": "response"}, deleted={"const": True}
    ),
}  # fmt: skip
SCHEMAS: Json = _CHAT | _RESPONSES

_STARTED = (Right.CREATE, Right.READ)
_BEGINS = (InvalidRequest, BadJson, UnknownModel, Conflict, Busy, NotFound, Gone, TooLarge)
_NONE = (NotFound, Gone)
_SESSION = link("getSession", "Its session.", sid="$response.header.X-Session-Id")
_CALLS_OF_IT: Json = {
    id: link(id, says, id="$response.body#/id")
    for id, says in (
        ("getResponse", "Look at it."),
        ("cancelResponse", "Abort it."),
        ("deleteResponse", "Forget it."),
    )
}
_AS_IT_STANDS = answer(
    "As it stands.", headers=("X-Session-Id",), json=ref("Response"), sse=_SSE, links=_CALLS_OF_IT
)
CALLS = (
    Call(
        "post", "/v1/chat/completions", "completeChat", "openai", "Answer a chat, streaming or whole",
        {
            200: answer(
                "The answer.", headers=("X-Session-Id",), json=ref("ChatCompletion"), sse=_SSE,
                links={"getSession": _SESSION},
            )
        },
        takes=("idempotencyKey", "conversationId"),
        body=body(ref("ChatOrder"), {"messages": [{"role": "user", "content": "Hello"}]}),
        refuses=_BEGINS, rights=_STARTED, passes_on=True,
    ),
    Call(
        "get", "/v1/models/{model}", "getModel", "openai", "Say whether a model may be asked for",
        {200: answer("It may.", json=ref("Model"))}, refuses=(UnknownModel,),
    ),
    Call(
        "post", "/v1/responses", "createResponse", "openai",
        "Start a response; stream it, wait for it, or leave it running", {200: _AS_IT_STANDS},
        takes=("idempotencyKey", "conversationId"),
        body=body(ref("ResponseOrder"), {"input": "Hello"}, {"input": "Hello", "background": True}),
        refuses=_BEGINS, rights=_STARTED, passes_on=True,
    ),
    Call(
        "get", "/v1/responses/{id}", "getResponse", "openai",
        "Return a response as it stands, or stream what is to come", {200: _AS_IT_STANDS},
        takes=("goOn", "startingAfter"), refuses=(InvalidRequest, *_NONE),
    ),
    Call(
        "post", "/v1/responses/{id}/cancel", "cancelResponse", "openai", "Abort a response",
        {200: answer("As it ended.", headers=("X-Session-Id",), json=ref("Response"))},
        refuses=_NONE, rights=(Right.CONTROL, Right.READ),
    ),
    Call(
        "delete", "/v1/responses/{id}", "deleteResponse", "openai", "Abort a response, and forget it",
        {200: answer("It is gone.", json=ref("ResponseDeleted"))}, refuses=_NONE, rights=(Right.CONTROL,),
    ),
)  # fmt: skip
