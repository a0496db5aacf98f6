"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended; NOT_KNOWN where something else has to work first."""

    OK = "ok"
    BAD = "bad"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """`seen` and `to_do` have texts of others, which are not plain yet."""

    check: str
    state: State
    seen: str
    to_do: str = ""


def good(check: str, seen: str, to_do: str = "") -> Finding:
    return Finding(check, State.OK, seen, to_do)


def bad(check: str, seen: str, to_do: str = "") -> Finding:
    return Finding(check, State.BAD, seen, to_do)


def not_known(check: str, seen: str) -> Finding:
    return Finding(check, State.NOT_KNOWN, seen)
