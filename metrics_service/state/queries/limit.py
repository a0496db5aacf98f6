"""Bounds the number of queries in an answer; requests are checked against the same bounds."""

from __future__ import annotations

from typing import Final

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 500


def bounded_limit(limit: int) -> int:
    """Return a request's `limit`, at most MAX_LIMIT; DEFAULT_LIMIT for one that is not set."""
    return min(limit, MAX_LIMIT) if limit > 0 else DEFAULT_LIMIT
