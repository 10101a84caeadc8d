"""Where settings come from: defaults < TOML file < environment < flags."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from server.settings import (
    PREFIX,
    SETTINGS,
    Settings,
    SettingsError,
    flag,
    read,
    shown,
    variables,
)

CONFIG_VARIABLE = PREFIX + "CONFIG"


class Loaded(NamedTuple):
    """The effective settings and, for each that is not a default, where it came from."""

    settings: Settings
    sources: Mapping[str, str]


class _Given(NamedTuple):
    name: str
    source: str
    value: Any
    text: bool = True


def load(flags: Mapping[str, str], env: Mapping[str, str], config: str | None = None) -> Loaded:
    """Put the sources together; raise `SettingsError` for an unknown key or a bad value.

    `flags` maps names to texts, `config` is the TOML file, by default the one that `env` names.
    """
    values, sources = {}, {}
    config = config or env.get(CONFIG_VARIABLE)
    given = (*_from_file(config), *_from_env(env), *_from_flags(flags))
    for name, source, value, text in (*_from_xdg(env), *given):
        values[name] = read(name, source, value, text=text)
        sources[name] = source
    return Loaded(Settings(**values), sources)


def _from_xdg(env: Mapping[str, str]) -> Iterator[_Given]:
    if home := env.get("XDG_DATA_HOME"):
        yield _Given("data_dir", "XDG_DATA_HOME", f"{home}/tokenwire")


def _from_file(path: str | None) -> Iterator[_Given]:
    if not path:
        return
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{path}: {reason}") from None
    for name, value in table.items():
        if name not in SETTINGS:
            raise SettingsError(f"{path}: {name}: unknown key{_hint(name, SETTINGS)}")
        yield _Given(name, f"{path}: {name}", value, text=False)


def _from_env(env: Mapping[str, str]) -> Iterator[_Given]:
    known = {variable: name for name in SETTINGS for variable in variables(name)}
    for variable, name in known.items():
        # Empty counts as unset: makefiles and compose files pass on what they were not given.
        if env.get(variable):
            yield _Given(name, variable, env[variable])
    for variable in env:
        if variable.startswith(PREFIX) and variable not in (*known, CONFIG_VARIABLE):
            raise SettingsError(f"{variable}: unknown variable{_hint(variable, known)}")


def _from_flags(flags: Mapping[str, str]) -> Iterator[_Given]:
    return (_Given(name, flag(name) or name, text) for name, text in flags.items())


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def as_toml(loaded: Loaded) -> str:
    """Return the effective settings as TOML, each with its source, without any secret."""
    lines = []
    for name in SETTINGS:
        source = loaded.sources.get(name, "default")
        value = shown(name, getattr(loaded.settings, name))
        lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}  # {source}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def as_markdown() -> str:
    """Return the table of all settings, for the docs."""
    rows = ["| setting | default | flag, environment | meaning |", "| --- | --- | --- | --- |"]
    for declared in fields(Settings):
        name, default = declared.name, declared.default
        shown_default = f"`{default}`" if isinstance(default, int | float | str | Path) else ""
        ways = ", ".join(f"`{way}`" for way in (flag(name), *reversed(variables(name))) if way)
        rows.append(f"| `{name}` | {shown_default} | {ways} | {SETTINGS[name].help} |")
    return "\n".join(rows) + "\n"
