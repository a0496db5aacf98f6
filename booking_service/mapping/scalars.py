"""Instants, domain to proto, exact to the microsecond."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(value: datetime | None) -> Timestamp | None:
    """Unset for None."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message
