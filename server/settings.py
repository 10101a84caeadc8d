"""Every setting, declared once: flags, environment, TOML keys and docs derive from it (pure).

A bad value is a `SettingsError`, one line that names its source. Times are in seconds, sizes in
bytes. Where values come from is the business of `server.sources`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from server import urls
from server.tables import ModelRoute, Text

PREFIX = "TOKENWIRE_"
MIB, GIB = 1 << 20, 1 << 30
Key = Annotated[str, Meta(min_length=32)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]
Amount = Annotated[int, Meta(ge=0, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=315_360_000)]
Grace = Annotated[float, Meta(ge=0, le=315_360_000)]
Lease = Annotated[float, Meta(ge=0.2, le=3600)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Level = Literal["debug", "info", "warning", "error"]


class SettingsError(ValueError):
    """A setting is unknown or bad; the message is one line that says which, and where it is."""


class Setting(NamedTuple):
    """What is declared of a setting beside its type; without `text` only a TOML file can set it."""

    help: str
    alias: str | None = None
    check: Callable[[Any], Any] | None = None
    secret: bool = False
    text: bool = True


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Settings:
    """The frozen settings of one process; raises `SettingsError` if one is bad."""

    host: Annotated[Text, Setting("address to listen on", "HOST")] = "127.0.0.1"
    port: Annotated[Port, Setting("port to listen on; 0 picks a free one", "PORT")] = 8080
    workers: Annotated[int, Meta(ge=1, le=256), Setting("number of processes")] = 1
    redis: Annotated[
        Text | None,
        Setting(
            "URL of Redis, one server or several; without it, a private Valkey is started",
            "REDIS_URL",
            urls.redis,
        ),
    ] = None
    data_dir: Annotated[Path, Setting("folder of the private Valkey's data")] = Path(
        "~/.local/share/tokenwire"
    )
    upstream: Annotated[
        Text | None, Setting("base URL of an OpenAI-compatible server", "OPENAI_BASE_URL", urls.http)
    ] = None
    api_key: Annotated[Text | None, Setting("the upstream's key", "OPENAI_API_KEY", secret=True)] = None
    model: Annotated[
        Text | None, Setting("model of a request that names none; without an upstream, demo")
    ] = None
    models: Annotated[
        Mapping[str, ModelRoute],
        Setting(
            "tables [models.NAME] of upstream, base_url, api_key_env, model, method, takeover", text=False
        ),
    ] = field(default_factory=dict)
    allow_origin: Annotated[
        tuple[str, ...], Setting("foreign origin of a page to let in", check=urls.origins)
    ] = ()
    keys: Annotated[tuple[str, ...], Setting("API key, as `tokenwire token` prints it: its hash")] = ()
    keys_file: Annotated[Path | None, Setting("file of API keys, read again when it changes")] = None
    jwt_secret: Annotated[Key | None, Setting("secret of JWTs signed with HS256", secret=True)] = None
    jwks: Annotated[Path | None, Setting("JWKS file with the keys of JWTs; read again, too")] = None
    jwt_issuer: Annotated[Text | None, Setting("what `iss` of a JWT must be")] = None
    jwt_audience: Annotated[Text | None, Setting("what `aud` of a JWT must name")] = None
    insecure: Annotated[bool, Setting("serve the world without asking who it is")] = False
    trust_proxy: Annotated[
        tuple[str, ...],
        Setting("proxy (or network of) whose X-Forwarded-For is true", check=urls.networks),
    ] = ("127.0.0.0/8", "::1")
    max_connections: Annotated[Count, Setting("connections of one address at most, on a node")] = 512
    max_streams: Annotated[Count, Setting("open requests of one principal at most, on a node")] = 1024
    max_viewers: Annotated[Count, Setting("viewers of one session at most, on a node")] = 20_000
    max_running: Annotated[Count, Setting("running sessions of one principal at most")] = 200
    max_paused: Annotated[Count, Setting("paused sessions of one principal at most")] = 100
    max_stored: Annotated[Count, Setting("bytes of one principal's sessions of two hours at most")] = GIB
    max_requests: Annotated[Count, Setting("requests a minute of one principal or address")] = 1200
    max_commands: Annotated[Count, Setting("commands a minute on one WebSocket")] = 600
    idle_timeout: Annotated[Seconds, Setting("seconds a connection may take for a request's head")] = 75.0
    lease: Annotated[Lease, Setting("seconds without a sign of life until a producer is replaced")] = 3.0
    linger: Annotated[Grace, Setting("seconds a producer stays after its end, to heal")] = 30.0
    ttl: Annotated[Seconds, Setting("seconds a session is kept after its last use")] = 3600.0
    hold_limit: Annotated[Amount, Setting("bytes kept while paused, before the upstream has to wait")] = (
        8 * MIB
    )
    pause_ttl: Annotated[Seconds, Setting("seconds until a pause lapses")] = 3600.0
    max_tokens: Annotated[Count, Setting("tokens in one session at most")] = 100_000
    max_bytes: Annotated[Count, Setting("bytes in one session at most")] = 16 * MIB
    max_seconds: Annotated[Seconds, Setting("seconds one session may run at most")] = 3600.0
    buffer_limit: Annotated[Count, Setting("bytes a producer keeps while Redis is away")] = 4 * MIB
    redis_grace: Annotated[Grace, Setting("seconds Redis may be away before viewers are sent off")] = 30.0
    heartbeat: Annotated[Seconds, Setting("seconds between signs of life to a viewer")] = 15.0
    send_timeout: Annotated[Seconds, Setting("seconds a viewer may take nothing")] = 30.0
    max_body: Annotated[Count, Setting("bytes of a request's body at most")] = MIB
    max_frame: Annotated[Count, Setting("bytes of a WebSocket message at most")] = 64 * 1024
    upstream_stall: Annotated[Seconds, Setting("seconds an upstream may be silent")] = 60.0
    first_token: Annotated[Seconds, Setting("seconds until an upstream's first token")] = 300.0
    push_grace: Annotated[Grace, Setting("seconds a push that broke off may come again")] = 10.0
    drain: Annotated[Grace, Setting("seconds sessions get to end on shutdown")] = 20.0
    secret: Annotated[
        Text | None, Setting("key of session ids; without it, one is kept in Redis", secret=True)
    ] = None
    log_keys: Annotated[
        Text | None, Setting("id:key,…: seal logs in Redis, with the first of them", secret=True)
    ] = None
    log_level: Annotated[Level, Setting("least to log")] = "info"
    log_format: Annotated[Literal["text", "json"], Setting("form of the log's lines")] = "text"
    metrics_host: Annotated[Text, Setting("address to serve /metrics on")] = "127.0.0.1"
    metrics_port: Annotated[Port | None, Setting("port of /metrics; each worker has the next")] = None
    traces: Annotated[Text | None, Setting("OTLP URL of spans (extra otel)", check=urls.http)] = None

    def __post_init__(self) -> None:
        for name in SETTINGS:
            object.__setattr__(self, name, read(name, name, getattr(self, name)))
        if self.model is None and self.upstream is None:
            object.__setattr__(self, "model", "demo")
        for name, route in self.models.items():
            if route.upstream == "openai" and not (route.base_url or self.upstream):
                raise SettingsError(f"models.{name}: needs a base_url, since upstream is not set")
            if route.upstream == "http" and not route.base_url:
                raise SettingsError(f"models.{name}: needs a base_url")
            if route.takeover == "continue" and route.upstream in ("anthropic", "http"):
                raise SettingsError(f"models.{name}: {route.upstream} cannot continue an answer")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={shown(k, getattr(self, k))!r}' for k in SETTINGS)})"


_TYPES = get_type_hints(Settings, include_extras=True)
SETTINGS: Mapping[str, Setting] = {name: _TYPES[name].__metadata__[-1] for name in _TYPES}


def variables(name: str) -> tuple[str, ...]:
    """Return the environment variables that set it, the weakest first."""
    setting = SETTINGS[name]
    aliases = (setting.alias,) if setting.alias else ()
    return (*aliases, PREFIX + name.upper()) if setting.text else aliases


def flag(name: str) -> str | None:
    """Return its flag; a secret has none, since everyone may see a process's arguments."""
    setting = SETTINGS[name]
    return f"--{name.replace('_', '-')}" if setting.text and not setting.secret else None


def is_list(name: str) -> bool:
    """Tell whether it takes several values: its flag may be repeated, its text has commas."""
    return get_origin(_TYPES[name].__origin__) is tuple


def is_switch(name: str) -> bool:
    """Tell whether its flag takes no value."""
    return _TYPES[name].__origin__ is bool


def read(name: str, source: str, value: Any, *, text: bool = False) -> Any:
    """Return the value in its one form; raise `SettingsError`, which names `source`, if it is bad.

    With `text`, `value` is a text that stands for the value, as in a flag.
    """
    if name == "models" and isinstance(value, Mapping):
        routes = {m: _convert(name, f"{source}.{m}", r, ModelRoute) for m, r in value.items()}
        return MappingProxyType(routes)
    if text and is_list(name):
        value = tuple(item.strip() for item in value.split(","))
    return _convert(name, source, value, _TYPES[name], strict=not text)


def _convert(name: str, source: str, value: Any, kind: Any, *, strict: bool = True) -> Any:
    setting = SETTINGS[name]
    try:
        converted = msgspec.convert(value, kind, strict=strict, dec_hook=_path)
        return setting.check(converted) if setting.check and converted else converted
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {_complaint(name, value, str(error))}") from None
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path) and value:
        return Path(value)
    raise ValueError("Expected a path")


def _complaint(name: str, value: Any, message: str) -> str:
    """Say msgspec's message in a TOML file's words; quote the value unless it is secret."""
    kind = _TYPES[name].__origin__
    if get_origin(kind) is Literal:
        message = f"Expected one of {', '.join(get_args(kind))}"
    message = re.sub(r", got .*|`| \| null", "", re.sub("(?i)object", "table", message))
    quotable = message.startswith("Expected") and name != "models" and not SETTINGS[name].secret
    return message[0].lower() + message[1:] + f", not {_masked(repr(value)):.60}" * quotable


def shown(name: str, value: Any) -> Any:
    """Return the value as plain data that may be shown: no secret, no password in a URL."""
    return "***" if SETTINGS[name].secret and value is not None else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        value = {k: v for k, v in msgspec.structs.asdict(value).items() if v is not None}
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, str | Path):
        return urls.masked(str(value))
    return list(value) if isinstance(value, tuple) else value
