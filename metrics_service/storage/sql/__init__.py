"""Every statement of this folder under its name.

Only the names of the log's daily partitions are put together in code: `eventlog/partitions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from servicekit.sql_files import StatementGroup, read_statements

SQL_DIR: Final = Path(__file__).parent

QUERIES: Final[Mapping[str, str]] = MappingProxyType(
    {name: statement.sql for name, statement in read_statements(SQL_DIR).items()}
)


class QueryGroup(StatementGroup[str]):
    """The statements of one model, each as an attribute: `QueryGroup("checkpoint").get`."""

    def __init__(self, model: str) -> None:
        super().__init__(QUERIES, model)
