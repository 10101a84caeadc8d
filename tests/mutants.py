"""Servers that are broken on purpose, by patching the running program: it has no such switches."""

import sys
from collections.abc import Callable
from typing import Any

from server import cli

Mutants = dict[str, Callable[..., None]]


def named(*mutants: Callable[..., None]) -> Mutants:
    """Return mutants by the names that a command line has for them."""
    return {mutant.__name__.replace("_", "-"): mutant for mutant in mutants}


def serve(mutants: Mutants, name: str, *how: Any, flags: list[str]) -> None:
    """Break this program, and serve."""
    mutants[name](*how)
    sys.exit(cli.main(flags))
