"""The bound of every sum: up to it a double, and so a number in JSON, is an exact integer."""

from __future__ import annotations

from typing import Final

MAX_SUM: Final = (1 << 53) - 1


def clamped(value: int) -> int:
    """Return the nearest value within MAX_SUM. What is added is never negative, so a sum is the
    same in whatever order and in however many parts it is added up.
    """
    return min(max(value, -MAX_SUM), MAX_SUM)
