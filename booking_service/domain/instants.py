"""Instants as whole microseconds since the Unix epoch, exact in both directions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(instant: datetime) -> int:
    """Return the microseconds from the epoch to an aware instant."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(since_epoch_us: int) -> datetime:
    """Return the instant of a result of `microseconds`, in UTC."""
    return _EPOCH + since_epoch_us * _MICROSECOND
