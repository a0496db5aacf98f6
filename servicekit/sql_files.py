"""Reads SQL statements from files, so that each exists once and is known by its name.

A block begins with a line `-- name: model.operation`, or `-- name: model.operation internal` where
a service runs the statement for itself, and ends with a semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar

_HEADER: Final = re.compile(r"^-- name: (?P<name>\S+)(?P<internal> internal)?$", re.MULTILINE)
_NAME: Final = re.compile(r"[a-z_]+\.[a-z_]+")

S = TypeVar("S")


class Statement(NamedTuple):
    """One statement without its semicolon."""

    sql: str
    internal: bool


def read_statements(directory: Path) -> Mapping[str, Statement]:
    """Every statement of every *.sql file, by name, such as "packages.search".

    ValueError names the file and the block that is malformed or occurs twice.
    """
    found: dict[str, Statement] = {}
    for path in sorted(directory.glob("*.sql")):
        text = path.read_text("utf-8")
        headers = list(_HEADER.finditer(text))
        for header, following in zip(headers, [*headers[1:], None], strict=True):
            name = header["name"]
            block = text[header.end() : following.start() if following else None]
            sql, semicolon, comment = block.partition(";")
            if not _NAME.fullmatch(name) or not sql.strip() or not semicolon or name in found:
                raise ValueError(f"{path.name}: {name} is malformed or occurs twice")
            if any(line and not line.startswith("--") for line in comment.splitlines()):
                raise ValueError(f"{path.name}: {name} is more than one statement")
            found[name] = Statement(sql.strip(), bool(header["internal"]))
    return MappingProxyType(found)


class StatementGroup(Generic[S]):
    """The statements of one model, each as an attribute: `StatementGroup(all, "bookings").get`."""

    def __init__(self, statements: Mapping[str, S], model: str) -> None:
        self._statements = statements
        self._model = model
        if not any(name.startswith(f"{model}.") for name in statements):
            raise ValueError(f"no statement of {model}")

    def __getattr__(self, operation: str) -> S:
        try:
            return self._statements[f"{self._model}.{operation}"]
        except KeyError:
            raise AttributeError(f"no statement {self._model}.{operation}") from None
