"""Builds the protobuf values that a replay sends: dates, money, policies."""

from __future__ import annotations

from datetime import date
from typing import Final

from google.protobuf import duration_pb2
from google.type import date_pb2, money_pb2

from booking_service.demo.hotel import CURRENCY
from protos.booking.v1 import catalog_pb2

FULL_REFUND: Final = catalog_pb2.CancellationPolicy(
    tiers=[
        catalog_pb2.CancellationPolicy.Tier(
            before=duration_pb2.Duration(), refund_basis_points=10_000
        )
    ]
)
"""The whole price is refunded until the stay begins."""

NO_REFUND: Final = catalog_pb2.CancellationPolicy()


def money(minor: int) -> money_pb2.Money:
    """Translate cents, at least 0, to money in the currency of the demo."""
    units, cents = divmod(minor, 100)
    return money_pb2.Money(currency_code=CURRENCY, units=units, nanos=cents * 10_000_000)


def cents(value: money_pb2.Money) -> int:
    """Translate money to whole cents."""
    return int(value.units) * 100 + int(value.nanos) // 10_000_000


def day(value: date) -> date_pb2.Date:
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


def to_date(value: date_pb2.Date) -> date:
    return date(value.year, value.month, value.day)
