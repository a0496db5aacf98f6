"""Limits that the client and the server share, so that both count and judge the same way."""

from __future__ import annotations

from typing import Final

SLOW_US: Final = 500_000
"""A query is slow when its execute time is above this; exactly 500 ms is not slow."""

CRITICAL_US: Final = 1_000_000
"""Above this a slow query is critical; exactly 1,000 ms is not."""

FAILED_SQLSTATE_CLASSES: Final = frozenset({"08", "53", "57", "58", "XX"})
"""Errors of these classes are the server's and not the statement's: connection, resources, operator
intervention, system and internal. They count as failed.
"""

FAILED_SQLSTATES: Final = frozenset({"25006"})
"""Errors of other classes that count as failed: the database is read-only."""

MISSED_HEARTBEATS: Final = 3
"""A peer that has sent nothing for so many heartbeats counts as gone."""


def of_the_server(sqlstate: str) -> bool:
    """Whether an error is the server's, and not the statement's."""
    return sqlstate[:2] in FAILED_SQLSTATE_CLASSES or sqlstate in FAILED_SQLSTATES
