"""The fenced blocks of the documents, each with the place where a reader finds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = (
    "README.md",
    "ARCHITECTURE.md",
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
)
_FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is the number of its first line in the document."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block, without comments that fill a line."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line and not line.startswith("#")]


def blocks_of(document: str) -> list[Block]:
    """Every fenced block of a document, in order."""
    text = (ROOT / document).read_text()
    return [
        Block(document, text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
        for found in _FENCED.finditer(text)
    ]


def blocks(language: str) -> list[Block]:
    """Every block of a language, of all documents."""
    return [
        block
        for document in DOCUMENTS
        for block in blocks_of(document)
        if block.language == language
    ]
