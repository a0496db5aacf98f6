"""The etag of a stored value, which differs whenever the value does."""

from __future__ import annotations

from datetime import datetime

from booking_service.domain.instants import microseconds


def etag(version: int, update_time: datetime) -> str:
    """Return a quoted tag of a value's version and the time of its newest change.

    A refund that is paid out changes a booking without a transition; the time covers that.
    """
    return f'"{version}-{microseconds(update_time):x}"'
