"""Encodes domain events as facts for the metrics: serialised events for the audit trail, and framed
ones that are ready to be sealed and sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from booking_service.domain.booking import Booking, BookingEvent, Event, PaymentEvent
from booking_service.domain.instants import microseconds
from booking_service.domain.package import Package
from protos.tracking.v1 import event_pb2

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,59}")


MAX_FACTS: Final = 400
"""In one outbox row: with the longest strings less than 700 kB, and metrics_service reads 1 MiB."""


_LENGTH_DELIMITED: Final = 2
_TAG: Final = bytes([event_pb2.EventList.EVENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


def encode(events: Iterable[Event], packages: Mapping[UUID, Package], now: datetime) -> list[bytes]:
    """Return a serialised tracking.v1.Event for each event, with its package's type and place."""
    time_us = microseconds(now)
    facts = []
    for event in events:
        package = packages[event.booking.package_id]
        fact = event_pb2.Event(time_us=time_us, session_id=event.booking.session_id)
        match event:
            case BookingEvent():
                fact.event_id = booking_fact_id(
                    event.booking.id, event.booking.version, event.transition
                )
                _fill_booking(fact.booking, event, package)
            case PaymentEvent():
                fact.event_id = payment_fact_id(
                    event.payment.provider, event.payment.payment_id, event.effect, event.refund_id
                )
                _fill_payment(fact.payment, event, package)
            case _:
                assert_never(event)
        facts.append(fact.SerializeToString())
    return facts


def outbox_rows(facts: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and a serialised tracking.v1.EventList of what fits one outbox row each."""
    for first in range(0, len(facts), MAX_FACTS):
        row = facts[first : first + MAX_FACTS]
        yield len(row), b"".join(_framed(fact) for fact in row)


def booking_fact_id(booking_id: UUID, version: int, transition: str) -> bytes:
    """Return the event_id of a transition, which is a function of what the fact states."""
    return _id("booking", str(booking_id), str(version), transition)


def payment_fact_id(provider: str, payment_id: str, effect: str, refund_id: str) -> bytes:
    """Return the event_id of a payment event, which has one effect."""
    return _id("payment", provider, payment_id, effect, refund_id)


def _id(*parts: str) -> bytes:
    # No text that is stored contains NUL, so that the parts cannot run into each other.
    return hashlib.sha256("\0".join(parts).encode()).digest()[:16]


def _framed(fact: bytes) -> bytes:
    """Return a fact as an element of an EventList: tag and length before it."""
    length = len(fact)
    prefix = bytearray(_TAG)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + fact


def _fill_booking(fact: event_pb2.BookingFact, event: BookingEvent, package: Package) -> None:
    booking = event.booking
    _fill_common(fact, booking, package)
    fact.transition = event_pb2.BookingFact.Transition.Value(event.transition)
    fact.version = booking.version
    fact.quantity = booking.quantity
    fact.hold_time_us = microseconds(booking.create_time)
    fact.complete_time_us = _microseconds_or_0(booking.complete_time)
    fact.amount_minor = booking.price_minor
    fact.currency = booking.currency
    fact.refund_minor = booking.refund_minor or 0
    # Free text stays in the booking: a fact carries only codes.
    fact.reason = booking.end_reason if _CODE.fullmatch(booking.end_reason) else ""


def _fill_payment(fact: event_pb2.PaymentFact, event: PaymentEvent, package: Package) -> None:
    _fill_common(fact, event.booking, package)
    if not event.is_revenue:
        fact.confirm_time_us = 0
    fact.kind = event_pb2.PaymentFact.Kind.Value(event.effect)
    fact.provider = event.payment.provider
    fact.payment_id = event.payment.payment_id
    fact.amount_minor = event.amount_minor
    fact.currency = event.payment.currency
    fact.failure_code = event.payment.failure_code


def _fill_common(
    fact: event_pb2.BookingFact | event_pb2.PaymentFact, booking: Booking, package: Package
) -> None:
    fact.booking_id = str(booking.id)
    fact.package_id = str(booking.package_id)
    fact.vendor_id = str(booking.vendor_id)
    fact.package_type = package.type
    fact.location = package.location
    fact.user_id = booking.user_id
    fact.confirm_time_us = _microseconds_or_0(booking.confirm_time)


def _microseconds_or_0(instant: datetime | None) -> int:
    return 0 if instant is None else microseconds(instant)
