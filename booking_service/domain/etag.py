"""The etag of a stored value: another one whenever the value is another."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def etag(version: int, update_time: datetime) -> str:
    """A quoted tag of a value's version and the time of its newest change.

    A refund that was paid out changes a booking without a transition, hence the time.
    """
    microseconds = (update_time - _EPOCH) // timedelta(microseconds=1)
    return f'"{version}-{microseconds:x}"'
