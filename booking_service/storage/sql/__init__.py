"""The statements of this folder by name, which is also the label of their timings.

A statement exists once, in a file. Only lists of columns are inserted, when the files are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from metrics_service.client import NamedQuery
from servicekit.sql_files import StatementGroup, read_statements

SQL_DIR: Final = Path(__file__).parent


def load(directory: Path = SQL_DIR) -> Mapping[str, NamedQuery]:
    """Return the statements of a folder, by name. Raises ValueError as `read_statements` does."""
    found: dict[str, NamedQuery] = {}
    for name, statement in read_statements(directory).items():
        model, operation = name.split(".")
        found[name] = NamedQuery(
            statement.sql, model=model, operation=operation, internal=statement.internal
        )
    return MappingProxyType(found)


class QueryGroup(StatementGroup[NamedQuery]):
    """The statements of one model, each as an attribute: `QueryGroup("bookings").get`."""

    def __init__(self, model: str) -> None:
        super().__init__(QUERIES, model)


QUERIES: Final = load()
