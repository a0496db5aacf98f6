"""A visit, one actor's time in the funnel, as an integer: its number and how many events it had.
And its events, as lines of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

NO_VISIT: Final = 0
MAX_KEPT_EVENTS: Final = 500
"""Events of a visit that are kept; further ones are counted."""

EVENTS: Final = (1 << 20) - 1
"""Mask of the number of events; beyond it none is counted."""

NUMBER_SHIFT: Final = 20


class Event(NamedTuple):
    """One event of a journey; `name` is an index into journeys.NAMES."""

    time_us: int
    name: int
    package_id: str
    booking_id: str
    reason: str


def encode(time_us: int, name: int, package_id: str, booking_id: str, reason: str) -> str:
    """Return an event as a line. Characters of its texts that cannot be printed are left out."""
    if not f"{package_id}{booking_id}{reason}".isprintable():
        package_id, booking_id, reason = map(printable, (package_id, booking_id, reason))
    return f"{time_us}\t{name}\t{package_id}\t{booking_id}\t{reason}\n"


def decode(lines: str) -> Iterator[Event]:
    """Yield the events that encode() gave, one after the other."""
    for line in lines.splitlines():
        time_us, name, *texts = line.split("\t")
        yield Event(int(time_us), int(name), *texts)


def printable(text: str) -> str:
    """Return a text without the characters that cannot be printed, such as tabs and NUL."""
    return "".join(filter(str.isprintable, text))
