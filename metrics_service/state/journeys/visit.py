"""A visit, one actor's time in the funnel, as an integer: its number and how many events it had.
And its events, as compact bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

NO_VISIT: Final = 0
MAX_KEPT_EVENTS: Final = 500
"""Events of a visit that are kept; further ones are counted."""

EVENTS: Final = (1 << 20) - 1
"""Mask of the number of events; beyond it none is counted."""

NUMBER_SHIFT: Final = 20

# Time in microseconds, name, bytes of the package, of the booking and of the reason.
_HEAD: Final = Struct("<qBHHB")


class Event(NamedTuple):
    """One event of a journey; `name` is an index into journeys.NAMES."""

    time_us: int
    name: int
    package_id: str
    booking_id: str
    reason: str


def encode(time_us: int, name: int, package_id: str, booking_id: str, reason: str) -> bytes:
    """Return an event as bytes; ids have at most 256 bytes, a reason 200."""
    package, booking, code = package_id.encode(), booking_id.encode(), reason.encode()
    head = _HEAD.pack(time_us, name, len(package), len(booking), len(code))
    return head + package + booking + code


def decode(data: bytes) -> Iterator[Event]:
    """Yield the events that encode() gave, one after the other."""
    at = 0
    while at < len(data):
        time_us, name, *sizes = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        texts = []
        for size in sizes:
            texts.append(data[at : at + size].decode())
            at += size
        yield Event(time_us, name, *texts)
