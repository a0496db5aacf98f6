"""The etag of a stored value: another one whenever the value is another."""

from __future__ import annotations

from datetime import datetime

from booking_service.domain.instants import microseconds


def etag(version: int, update_time: datetime) -> str:
    """A quoted tag of a value's version and the time of its newest change.

    A refund that was paid out changes a booking without a transition, hence the time.
    """
    return f'"{version}-{microseconds(update_time):x}"'
