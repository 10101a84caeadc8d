"""The fenced blocks of the pages that people read, and what is to be done with each.

The word behind a block's language says it: `run` it against a server (a `node` program in Node),
`check` it as far as can be, or find its lines in a file that other tests run (`from=`). `says="…"` is
what a command must print, `exits=` its exit code.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ("tutorial", "why", "clients", "loadtest", "operations", "settings")
PAGES = [ROOT / "README.md", ROOT / "static" / "client" / "README.md"]
PAGES += [*(ROOT / "docs" / f"{name}.md" for name in DOCS), *sorted((ROOT / "docs/how-to").glob("*.md"))]
FENCE = re.compile(r"^```(\S+)(.*)\n((?:(?!```).*\n)*)```$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    name: str
    language: str
    words: tuple[str, ...]
    text: str = field(repr=False)

    def option(self, name: str) -> str | None:
        return next((w.partition("=")[2] for w in self.words if w.startswith(f"{name}=")), None)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        name = f"{page.relative_to(ROOT)}:{line}"
        blocks.append(Block(name, found[1], tuple(shlex.split(found[2])), found[3]))
    return blocks


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
CHOSEN: set[str] = set()
"""The names of the blocks that some test has asked for."""


def chosen(word: str, *languages: str) -> list[Block]:
    """Return the blocks of these languages that have that word, or that option."""
    blocks = [b for b in BLOCKS if (word in b.words or b.option(word)) and b.language in languages]
    CHOSEN.update(block.name for block in blocks)
    return blocks
