"""Every statement of this folder under its name, which is also the label of its timings.

A statement exists once, in a file; nothing is ever assembled from pieces of text.
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
    """The statements of a folder, by name. ValueError as in `read_statements`."""
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
