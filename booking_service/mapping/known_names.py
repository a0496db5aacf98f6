"""The names that a field may have: those of an enum, and those of the time zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol
from zoneinfo import available_timezones


class Enum(Protocol):
    """An enum generated from a .proto file."""

    def items(self) -> Sequence[tuple[str, int]]: ...

    def __hash__(self) -> int: ...


@cache
def names_of(enum: Enum) -> Mapping[int, str]:
    """Return the name of each value except the unset one, 0."""
    return {value: name for name, value in enum.items() if value != 0}


@cache
def time_zones() -> frozenset[str]:
    # These three are the setting of the machine, or no time zone.
    return frozenset(available_timezones() - {"localtime", "posixrules", "Factory"})
