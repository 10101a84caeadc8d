"""Imports go only where the table of the house says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).parent.parent / "server"
PURE = {"events", "errors", "settings", "callers", "traces", "counts", "trail", "tables"}
MAY_IMPORT = {
    "errors": set(),
    "trail": set(),
    "counts": {"errors"},
    "events": {"errors"},
    "callers": {"errors"},
    "traces": set(),
    "settings": {"urls", "tables"},
    "tables": {"urls"},
    "urls": set(),
    "sources": {"settings"},
    "upstream": PURE,
    "session": PURE | {"upstream"},
    "wire": {"events", "errors"},
    "openapi": {"callers", "errors", "events", "session"},
    # Who asks, and how much, is settled where requests come in; the rules are the operator's.
    "transport": PURE | {"upstream", "session", "wire", "ops"},
    "client": PURE,
    "ops": PURE | {"client", "urls"},
}
AROUND = {"app", "cli", "server"}  # may import all; nobody below imports them
MODULES = sorted(SERVER.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SERVER.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def room_of(module: str) -> str:
    """Return the room, or `server` for the package itself."""
    return module.split(".")[1] if "." in module else module


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of ours that a module imports, however it spells that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are spelled in full"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else node.module or ""


def strays(path: Path) -> list[str]:
    room = room_of(name_of(path))
    found = {name for name in imports(ast.parse(path.read_text())) if name.split(".")[0] == "server"}
    if room in AROUND:
        return []
    allowed = MAY_IMPORT[room] | {room}
    outside = [name for name in found if room_of(name) not in allowed]
    # Of the upstreams, the others know the seam's types only.
    inside = [name for name in found if room != "upstream" and name.startswith("server.upstream.")]
    return sorted(outside + inside)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_its_room_may(path):
    assert strays(path) == []


def test_every_room_is_on_the_table():
    assert {room_of(name) for name in NAMES} <= {*MAY_IMPORT, *AROUND}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import server.app", ["server.app"]),
        ("from server.session import state", ["server.session.state"]),
        ("from server.events import Cursor", ["server.events"]),
        ("from server import create_app", ["server"]),
        ("def f():\n    from server import app", ["server.app"]),
    ],
)
def test_every_spelling_of_an_import_is_seen(source, found):
    assert list(imports(ast.parse(source))) == found
