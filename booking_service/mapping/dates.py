"""Reads the half-open ranges that many requests have: start_date and end_date, created_from and
created_until.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from booking_service.mapping.fields import Fields


class Dated(Protocol):
    """A message with the fields start_date and end_date."""

    @property
    def start_date(self) -> Date: ...

    @property
    def end_date(self) -> Date: ...

    def HasField(self, field_name: Any) -> bool: ...  # noqa: N802 - as protobuf names it


class Created(Protocol):
    """A message with the fields created_from and created_until."""

    @property
    def created_from(self) -> Timestamp: ...

    @property
    def created_until(self) -> Timestamp: ...

    def HasField(self, field_name: Any) -> bool: ...  # noqa: N802 - as protobuf names it


def read_created(read: Fields, request: Created) -> tuple[datetime | None, datetime | None]:
    """Return the instants between which something was created, None where unset or bad."""
    from_ = until = None
    if request.HasField("created_from"):
        from_ = read.instant("created_from", request.created_from, present=True)
    if request.HasField("created_until"):
        until = read.instant("created_until", request.created_until, present=True)
    if from_ is not None and until is not None and until <= from_:
        read.bad("created_until", "must be after created_from")
    return from_, until


def read_dates(
    read: Fields, request: Dated, *, start_required: bool, path: str = ""
) -> tuple[date | None, date | None]:
    """Return both dates, None where unset or bad; `path` is put before the name of each field."""
    start = read.day(
        f"{path}start_date",
        request.start_date,
        present=request.HasField("start_date"),
        required=start_required,
    )
    end = read.day(
        f"{path}end_date",
        request.end_date,
        present=request.HasField("end_date"),
        required=False,
    )
    return start, end
