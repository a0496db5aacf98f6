"""Encodes domain events as facts for the metrics: framed protobuf, ready to be sealed and sent."""

from __future__ import annotations

import re
import secrets
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


def parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Split the events of a group into what fits one outbox row each; nearly always one."""
    for first in range(0, len(events), MAX_FACTS):
        yield events[first : first + MAX_FACTS]


def encode(events: Iterable[Event], packages: Mapping[UUID, Package], now: datetime) -> bytes:
    """Return a serialised tracking.v1.EventList: each event with its package's type and place."""
    time_us = microseconds(now)
    facts = event_pb2.EventList()
    for event in events:
        package = packages[event.booking.package_id]
        fact = facts.events.add(
            event_id=secrets.token_bytes(16),
            time_us=time_us,
            session_id=event.booking.session_id,
        )
        match event:
            case BookingEvent():
                _fill_booking(fact.booking, event, package)
            case PaymentEvent():
                _fill_payment(fact.payment, event, package)
            case _:
                assert_never(event)
    return facts.SerializeToString()


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
