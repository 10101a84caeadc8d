"""The adapter table: how to start each peer, begin a stream on it, attach a viewer to it."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
CACHE = Path(__file__).parent / ".cache"


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `$ID` and `$PROMPT` in path and body are filled in, `to` names a port."""

    method: str
    path: str
    body: str = ""
    to: str = "server"
    websocket: bool = False
    accept: str = "text/event-stream"

    def encode(self, sid: str, prompt: str = "") -> bytes:
        """Return the bytes to send."""
        path = self.path.replace("$ID", sid)
        body = self.body.replace("$ID", sid).replace("$PROMPT", prompt).encode()
        lines = [f"{self.method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Accept: {self.accept}"]
        lines += _UPGRADE if self.websocket else []
        lines += _JSON if body else []
        return "\r\n".join([*lines, f"Content-Length: {len(body)}"] if body else lines).encode() + (
            b"\r\n\r\n" + body
        )


_JSON = ["Content-Type: application/json"]
_UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


@dataclass(frozen=True, slots=True)
class Target:
    """One server under test.

    `command` is filled with ports and folders by `bench.rig`. `session` starts a stream and reads
    it in one response; `start` begins one for the viewers that `views` attach; `replay` reads a
    log from its start. `names_sessions` says that the id is in the JSON answer to `start`, which the
    client chooses otherwise; `holds_start`, that the start's response is itself a stream;
    `most_viewers` bounds the fan-outs that are tried, `scales` says that it can have workers.
    """

    name: str
    command: tuple[str, ...] = ()
    install: str = ""
    redis: bool = False
    helper: tuple[str, ...] = ()
    config: str = ""
    session: Call | None = None
    start: Call | None = None
    views: dict[str, Call] = field(default_factory=dict)
    replay: Call | None = None
    names_sessions: bool = False
    holds_start: bool = False
    most_viewers: int = 0
    scales: bool = False
    note: str = ""


_CHAT = '{"model":"bench","stream":true,"messages":[{"role":"user","content":"$PROMPT"}]}'
_PROMPT = '{"prompt":"$PROMPT","sessionId":"$ID"}'
_OURS = '{"model":"bench","prompt":"$PROMPT"}'
_NODE = ("node", "--", "{folder}/server.mjs", "--port", "{port}", "--upstream", "{upstream}")
_PYTHON = ("{venv}/bin/python", "{folder}/server.py", "--port", "{port}", "--upstream", "{upstream}")
_NGINX = ("{nginx}", "-p", "{rundir}", "-c", "{rundir}/nginx.conf")
_PUMP = (sys.executable, "-m", "bench.pump", "--port", "{helper_port}")
_PUMP += ("--upstream-port", "{upstream_port}", "--peer-port", "{port}", "--peer")

_RUN = ("--host", "127.0.0.1", "--port", "{port}", "--redis", "{redis}", "--log-level", "error")
_RUN += ("--upstream", "{upstream}", "--model", "bench", "--workers", "{workers}")

OURS = Target(
    "tokenwire",
    (sys.executable, str(ROOT / "run.py"), *_RUN),
    redis=True,
    session=Call("POST", "/v1/sessions?stream=sse", _OURS),
    start=Call("POST", "/v1/sessions", _OURS, accept="application/json"),
    views={
        "sse": Call("GET", "/v1/sessions/$ID/events"),
        "ws": Call("GET", "/v1/sessions/$ID/ws", websocket=True),
    },
    replay=Call("GET", "/v1/sessions/$ID/events"),
    names_sessions=True,
    most_viewers=10_000,
    scales=True,
    note="every token in Redis before it is delivered",
)
TARGETS = (
    OURS,
    Target(
        "naive",
        (*_PYTHON, "--redis", "{redis}"),
        install="venv",
        redis=True,
        session=Call("POST", "/api/chat", _PROMPT),
        note="aiohttp-sse `.send()` an event; GET and RPUSH a token",
    ),
    Target(
        "hono",
        (*_NODE, "--redis", "{redis}"),
        install="npm",
        redis=True,
        session=Call("POST", "/api/chat", _PROMPT),
        note="GET a token; nothing is logged unless paused",
    ),
    Target(
        "resumable",
        (*_NODE, "--redis", "{redis}"),
        install="npm",
        redis=True,
        session=Call("POST", "/api/chat/$ID", _PROMPT),
        start=Call("POST", "/api/chat/$ID", _PROMPT),
        views={"sse": Call("GET", "/api/chat/$ID")},
        holds_start=True,
        most_viewers=1_000,
        note="the log is in the memory of the process that began the stream",
    ),
    Target(
        "durable",
        (*_NODE, "--data", "{rundir}/data"),
        install="npm",
        helper=(*_PUMP, "durable"),
        start=Call("POST", "/start/$ID", '{"prompt":"$PROMPT"}', to="helper"),
        views={"sse": Call("GET", "/$ID?offset=-1&live=sse")},
        replay=Call("GET", "/$ID?offset=-1"),
        most_viewers=1_000,
        note="file-backed; fed by a pump whose CPU is not counted",
    ),
    Target(
        "starlette",
        _PYTHON,
        install="venv",
        session=Call("POST", "/api/chat", _PROMPT),
        note="no log",
    ),
    Target(
        "nchan",
        _NGINX,
        install="nchan",
        helper=(*_PUMP, "nchan"),
        config="nginx.conf",
        start=Call("POST", "/start/$ID", '{"prompt":"$PROMPT"}', to="helper"),
        views={"sse": Call("GET", "/sub/$ID"), "ws": Call("GET", "/sub/$ID", websocket=True)},
        replay=Call("GET", "/sub/$ID"),
        most_viewers=10_000,
        note="log in nginx' memory; fed by a pump whose CPU is not counted",
    ),
    Target(
        "nginx",
        _NGINX,
        install="nginx",
        config="nginx.conf",
        session=Call("POST", "/v1/chat/completions", _CHAT),
        scales=True,
        note="`proxy_pass`, unbuffered: the floor, no log",
    ),
    Target(
        "node_http",
        _NODE,
        install="npm",
        session=Call("POST", "/api/chat", _PROMPT),
        note="written by hand, no log",
    ),
    Target(
        "direct",
        session=Call("POST", "/v1/chat/completions", _CHAT, to="upstream"),
        note="no server: the load generator on the bare upstream",
    ),
)
BY_NAME = {target.name: target for target in TARGETS}
