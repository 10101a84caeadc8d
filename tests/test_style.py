"""The measures of `server/`: lengths, docstrings, nothing left for later."""

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "server").rglob("*.py"))
TEXTS = [*MODULES, *(ROOT / "server").rglob("*.lua"), ROOT / "run.py", *(ROOT / "tests").rglob("*.py")]
Function = ast.FunctionDef | ast.AsyncFunctionDef
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def lines(function: Function) -> int:
    """Count a function's lines, without its docstring and those of functions inside it."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    inner = [n for n in ast.walk(function) if isinstance(n, Function) and n is not function]
    first = body[0].lineno if body else function.lineno
    return 1 + (function.end_lineno or 0) - first + 1 - sum(lines(n) for n in inner)


def public(path: Path) -> Iterator[ast.AST]:
    """Yield the module, its public classes and functions, and their public methods."""
    tree = ast.parse(path.read_text())
    yield tree
    waiting = list(tree.body)
    for node in waiting:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node
            waiting += node.body if isinstance(node, ast.ClassDef) else []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_at_most_250_lines(path):
    assert len(path.read_text().splitlines()) <= 250


def test_functions_are_short():
    sizes = {
        f"{name_of(path)}:{function.lineno} {function.name}": lines(function)
        for path in MODULES
        for function in functions(path)
    }
    assert {name: size for name, size in sizes.items() if size > 40} == {}
    long = {name: size for name, size in sizes.items() if size > 20}
    assert len(long) <= len(sizes) / 10, long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_public_name_has_a_docstring(path):
    bare = [getattr(n, "name", "module") for n in public(path) if not ast.get_docstring(n)]  # type: ignore[arg-type]
    assert bare == []


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_nothing_is_left_for_later(path):
    assert LATER.findall(path.read_text()) == []


def test_every_package_is_shipped():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = {".".join(p.parent.relative_to(ROOT).parts) for p in MODULES if p.name == "__init__.py"}
    assert set(config["options"]["packages"].split()) == folders | {"server.static"}
