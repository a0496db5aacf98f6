"""Reads the start_date and end_date that many requests have: the half-open range [start, end)."""

from __future__ import annotations

from datetime import date
from typing import Any, Protocol

from google.type.date_pb2 import Date

from booking_service.mapping.fields import Fields


class Dated(Protocol):
    """A message with the fields start_date and end_date."""

    @property
    def start_date(self) -> Date: ...

    @property
    def end_date(self) -> Date: ...

    def HasField(self, field_name: Any) -> bool: ...  # noqa: N802 - as protobuf names it


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
