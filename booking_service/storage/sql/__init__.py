"""Loads every statement of this folder under its name, which is also the label of its timings.

A statement exists once, in a file; nothing is ever assembled from pieces of text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from metrics_service.client.queries.record import NamedQuery

SQL_DIR: Final = Path(__file__).parent

_HEADER = re.compile(r"^-- name: (?P<name>\S+)(?P<internal> internal)?$", re.MULTILINE)
_NAME = re.compile(r"[a-z_]+\.[a-z_]+")


def load(directory: Path = SQL_DIR) -> Mapping[str, NamedQuery]:
    """Every statement of every file, by name, such as "packages.search".

    A block begins with a line "-- name: model.operation", or "-- name: model.operation internal"
    where the service runs it for itself, and ends with a semicolon. ValueError names the file and
    the block that is malformed or occurs twice.
    """
    found: dict[str, NamedQuery] = {}
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
            model, operation = name.split(".")
            found[name] = NamedQuery(
                sql.strip(), model=model, operation=operation, internal=bool(header["internal"])
            )
    return MappingProxyType(found)


class QueryGroup:
    """The statements of one model, each as an attribute: `QueryGroup("bookings").get`."""

    def __init__(self, model: str) -> None:
        self._model = model
        if not any(query.model == model for query in QUERIES.values()):
            raise ValueError(f"no statement of {model}")

    def __getattr__(self, operation: str) -> NamedQuery:
        try:
            return QUERIES[f"{self._model}.{operation}"]
        except KeyError:
            raise AttributeError(f"no statement {self._model}.{operation}") from None


QUERIES: Final = load()
