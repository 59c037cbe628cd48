"""The code in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between fences."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it is, as its first line says: ``# visit.py``."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return None if found is None else found[1]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
