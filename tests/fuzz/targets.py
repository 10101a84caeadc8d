"""The table of targets: what is run, what to begin with, and what such inputs are made of."""

from dataclasses import dataclass

from tests.fuzz import clients, connections, logs, seeds, upstreams
from tests.fuzz.judge import Run


@dataclass(frozen=True, slots=True)
class Target:
    """`run` raises when something is wrong with an input."""

    run: Run
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()


TARGETS: dict[str, Target] = {
    "sse_parser": Target(upstreams.sse, (*seeds.CHUNKS, *seeds.BODIES), seeds.SSE_WORDS),
    "openai_chunks": Target(
        upstreams.openai_chunks, seeds.CHUNKED, (*seeds.SSE_WORDS, *seeds.CHUNK_WORDS)
    ),
    "anthropic_messages": Target(
        upstreams.anthropic_messages, seeds.MESSAGES, (*seeds.SSE_WORDS, *seeds.MESSAGE_WORDS)
    ),
    "any_body": Target(upstreams.any_body, seeds.TYPED, (*seeds.KIND_WORDS, *seeds.CHUNK_WORDS)),
    "pushed_body": Target(upstreams.pushed_body, seeds.TYPED, (*seeds.KIND_WORDS, *seeds.EVENT_WORDS)),
    "http_answer": Target(connections.http_answer, seeds.ANSWERS, seeds.HTTP_WORDS),
    "cursor": Target(clients.cursor, seeds.CURSORS, (b"-", b".", b"0", seeds.SID.encode())),
    "setting": Target(clients.setting, seeds.URLS, (b"://", b"redis", b"http", b"@", b"[", b"::1")),
    "start": Target(clients.start, seeds.STARTS, seeds.BODY_WORDS),
    "responses": Target(clients.responses, seeds.RESPONSES, seeds.BODY_WORDS),
    "ui_chat": Target(clients.ui_chat, seeds.CHATS, seeds.BODY_WORDS),
    "command": Target(clients.command, (*seeds.COMMANDS, *seeds.STARTS), seeds.BODY_WORDS),
    "credential": Target(
        clients.credential, clients.CREDENTIALS, (b".", b"tw_", b"=", b"eyJhbGciOiJub25lIn0")
    ),
    "ticket": Target(clients.ticket, clients.SIGNED, (b".", b"t1.", b"t2.", b"=")),
    "native": Target(logs.native, seeds.LOGS, seeds.EVENT_WORDS),
    "dialects": Target(logs.dialects, seeds.LOGS, seeds.EVENT_WORDS),
    "log_entries": Target(logs.log_entries, seeds.LOGS, seeds.EVENT_WORDS),
}
