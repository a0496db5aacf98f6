"""Ids that are given by their first digits, and labels as one text."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from metrics_service.cli.asking import BadQuestionError

_WHOLE: Final = re.compile(r"[0-9a-f]{32}")
_DIGITS: Final = re.compile(r"[0-9a-f]{4,32}")


async def by_prefix(prefix: str, ids: Callable[[], Awaitable[Iterable[str]]]) -> str:
    """Return the one id that begins so; `ids` lists them. Raises BadQuestionError."""
    digits = prefix.lower()
    if _WHOLE.fullmatch(digits):
        return digits
    if not _DIGITS.fullmatch(digits):
        raise BadQuestionError("an ID has 32 hex digits, of which at least the first 4 are given")
    found = [each for each in await ids() if each.startswith(digits)]
    if len(found) != 1:
        many = "several begin" if found else "none begins"
        raise BadQuestionError(f"give more digits of the ID: {many} so")
    return found[0]


def labels_of(labels: Mapping[str, str]) -> str:
    """Return "operation=bookings.load instance=b-1"."""
    return " ".join(f"{name}={value}" for name, value in sorted(labels.items()))
