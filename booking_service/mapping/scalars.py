"""Instants, dates and amounts of money, domain to proto, each exact."""

from __future__ import annotations

from datetime import date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money as MoneyMessage

from booking_service.domain.money import exponent


def timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message


def date_of(value: date | None) -> Date | None:
    return None if value is None else Date(year=value.year, month=value.month, day=value.day)


def money(minor: int, currency: str) -> MoneyMessage:
    """Translate an amount of at least 0 minor units."""
    digits = exponent(currency)
    if digits is None:
        raise ValueError(f"{currency} is stored and not a currency of ISO 4217")
    units, rest = divmod(minor, 10**digits)
    return MoneyMessage(currency_code=currency, units=units, nanos=rest * 10 ** (9 - digits))


def due_money(minor: int, currency: str) -> MoneyMessage | None:
    """Return an amount, unset where it is 0."""
    return money(minor, currency) if minor else None
