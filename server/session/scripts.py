"""The Lua scripts: everything that changes a session, other than an append, is one of them.

Scripts return data, never raise, and touch only their keys. On Redis 7 and Valkey those that must
work in a full server carry the flag `allow-oom`; Redis 6.2 does not know the line and is not sent it.
"""

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final

_FLAGS: Final = {
    "create": "",
    "claim": "allow-oom",
    "inherit": "",
    "extend": "",
    "renew": "allow-oom",
    "control": "allow-oom",
    "regate": "allow-oom",
    "restore": "",
    "attend": "allow-oom",
    "wipe": "allow-oom",
}


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source and the SHA-1 by which Redis knows it."""

    source: bytes
    sha: str


def load(flags: bool) -> dict[str, Script]:
    """Return the scripts by name; `flags` says whether the server knows the line for flags."""
    folder = files("server.session") / "lua"
    prelude = (folder / "prelude.lua").read_bytes()
    scripts = {}
    for name, flag in _FLAGS.items():
        shebang = f"#!lua flags={flag}\n".encode() if flags else b""
        source = shebang + prelude + (folder / f"{name}.lua").read_bytes()
        scripts[name] = Script(source, sha1(source, usedforsecurity=False).hexdigest())
    return scripts
