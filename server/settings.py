"""Every setting, declared once: flags, environment, TOML keys and docs derive from it (pure).

A bad value is a `SettingsError`, one line that names its source. Times are in seconds, sizes in
bytes. Where values come from is the business of `server.sources`.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

PREFIX = "TOKENWIRE_"
MIB = 1024 * 1024

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]
Amount = Annotated[int, Meta(ge=0, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=315_360_000)]
Grace = Annotated[float, Meta(ge=0, le=315_360_000)]

# Userinfo and query values: the places in a URL where passwords are.
_CREDENTIALS = re.compile(r"(?<=://).*(?=@)|(?<==)[^&]+")


class SettingsError(ValueError):
    """A setting is unknown or bad; the message is one line that says which, and where it is."""


class Setting(NamedTuple):
    """What is declared of a setting beside its type; without `text` only a TOML file can set it."""

    help: str
    alias: str | None = None
    check: Callable[[Any], Any] | None = None
    secret: bool = False
    text: bool = True


def _setting(default: Any, *declared: Any, **more: Any) -> Any:
    metadata = {"setting": Setting(*declared, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def _url(*schemes: str) -> Callable[[str], str]:
    expected = "expected a URL like " + " or ".join(f"{scheme}://…" for scheme in schemes)

    def check(url: str) -> str:
        # The messages never quote the value, since it may hold a password.
        scheme = url.partition("://")[0] if "://" in url else "no scheme"
        if scheme not in schemes:
            raise ValueError(f"{scheme[:20]!r} is not supported: {expected}")
        with suppress(ValueError):  # urlsplit's own, for a bad port or bracket
            parts = urlsplit(url)
            if parts.path if scheme == "unix" else parts.hostname and parts.port != 0:
                return url
        raise ValueError(expected)

    return check


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#@*\s]+", origin):
            raise ValueError(f"expected origins like https://app.example.com, not {origin!r:.60}")
    return tuple(origin.lower() for origin in origins)


def _home(path: Path) -> Path:
    return path.expanduser()


_http, _redis = _url("http", "https"), _url("redis", "rediss", "unix")


class ModelRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the tokens of one model come from.

    `base_url` is by default the setting `upstream`, `model` (the name that the upstream knows) the
    table's own name; the key is read from the variable `api_key_env`, by default `api_key` is used.
    """

    upstream: Literal["openai", "demo"] = "openai"
    base_url: str | None = None
    api_key_env: Text | None = None
    model: Text | None = None

    def __post_init__(self) -> None:
        if self.base_url is not None:
            _http(self.base_url)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Settings:
    """The frozen settings of one process; raises `SettingsError` if one is bad."""

    host: Text = _setting("127.0.0.1", "address to listen on", "HOST")
    port: Annotated[int, Meta(ge=0, le=65535)] = _setting(
        8080, "port to listen on; 0 picks a free one", "PORT"
    )
    workers: Annotated[int, Meta(ge=1, le=256)] = _setting(1, "number of processes")
    redis: Text | None = _setting(
        None,
        "URL of Redis or Valkey; without one, a private Valkey is started",
        "REDIS_URL",
        _redis,
    )
    data_dir: Path = _setting(
        Path("~/.local/share/tokenwire"), "folder of the private Valkey's data", check=_home
    )
    upstream: Text | None = _setting(
        None, "base URL of an OpenAI-compatible server", "OPENAI_BASE_URL", _http
    )
    api_key: Text | None = _setting(None, "the upstream's key", "OPENAI_API_KEY", secret=True)
    model: Text | None = _setting(
        None, "model of a request that names none; `demo` if there is no upstream"
    )
    models: Mapping[str, ModelRoute] = _setting(
        {},
        "tables `[models.<name>]` with `upstream`, `base_url`, `api_key_env`, `model`",
        text=False,
    )
    allow_origin: tuple[str, ...] = _setting((), "foreign origin to let in", check=_origins)
    lease: Annotated[float, Meta(ge=0.2, le=3600)] = _setting(
        3.0, "seconds without a sign of life until a producer is replaced"
    )
    linger: Grace = _setting(30.0, "seconds a producer stays after its end, to heal a log")
    ttl: Seconds = _setting(3600.0, "seconds a session is kept after its last use")
    hold_limit: Amount = _setting(8 * MIB, "bytes kept while paused; then the upstream has to wait")
    pause_ttl: Seconds = _setting(3600.0, "seconds until a pause lapses")
    max_tokens: Count = _setting(100_000, "events in one session at most")
    max_bytes: Count = _setting(16 * MIB, "bytes in one session at most")
    max_seconds: Seconds = _setting(3600.0, "seconds one session may run at most")
    buffer_limit: Count = _setting(4 * MIB, "bytes a producer keeps while Redis is away")
    redis_grace: Grace = _setting(30.0, "seconds Redis may be away until viewers are sent off")
    heartbeat: Seconds = _setting(15.0, "seconds between signs of life to a viewer")
    send_timeout: Seconds = _setting(30.0, "seconds a viewer may take nothing")
    max_body: Count = _setting(MIB, "bytes of a request's body at most")
    max_frame: Count = _setting(64 * 1024, "bytes of a WebSocket message at most")
    upstream_stall: Seconds = _setting(60.0, "seconds an upstream may be silent between tokens")
    first_token: Seconds = _setting(300.0, "seconds an upstream may take for its first token")
    drain: Grace = _setting(20.0, "seconds that running sessions get to end on shutdown")
    secret: Text | None = _setting(
        None, "key that session ids derive from; without one, it is made once and kept in Redis",
        secret=True,
    )  # fmt: skip
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "least to log")

    def __post_init__(self) -> None:
        for name in SETTINGS:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, read(name, name, value))
        if self.model is None and self.upstream is None:
            object.__setattr__(self, "model", "demo")
        for name, route in self.models.items():
            if route.upstream == "openai" and not (route.base_url or self.upstream):
                raise SettingsError(f"models.{name}: needs a base_url, since upstream is not set")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={shown(k, getattr(self, k))!r}' for k in SETTINGS)})"


SETTINGS: Mapping[str, Setting] = {f.name: f.metadata["setting"] for f in fields(Settings)}
_TYPES = get_type_hints(Settings, include_extras=True)


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
    return get_origin(_TYPES[name]) is tuple


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
        return setting.check(converted) if setting.check else converted
    except msgspec.ValidationError as error:
        quoted = "" if setting.secret else f", not {_masked(repr(value)):.60}"
        raise SettingsError(f"{source}: {_expected(kind, str(error))}{quoted}") from None
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError("Expected a path")


def _expected(kind: Any, message: str) -> str:
    if get_origin(kind) is Literal:
        return f"expected one of {', '.join(get_args(kind))}"
    message = re.sub(r", got .*", "", message.replace("`", ""))
    return message[0].lower() + message[1:]


def shown(name: str, value: Any) -> Any:
    """Return the value as plain data that may be shown: no secret, no password in a URL."""
    return "***" if SETTINGS[name].secret and value is not None else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        value = {k: v for k, v in msgspec.structs.asdict(value).items() if v is not None}
    if isinstance(value, Mapping):
        return {key: _masked(item) for key, item in value.items()}
    if isinstance(value, str | Path):
        return _CREDENTIALS.sub("***", str(value)) if "://" in str(value) else str(value)
    return list(value) if isinstance(value, tuple) else value


def as_markdown() -> str:
    """Return the table of all settings, for the docs."""
    rows = ["| setting | default | flag, environment | meaning |", "| --- | --- | --- | --- |"]
    for declared in fields(Settings):
        name = declared.name
        default = "" if declared.default in (None, (), MISSING) else f"`{declared.default}`"
        ways = ", ".join(f"`{way}`" for way in (flag(name), *reversed(variables(name))) if way)
        rows.append(f"| `{name}` | {default} | {ways} | {SETTINGS[name].help} |")
    return "\n".join(rows) + "\n"
