"""Makes facts of events of before the audit trail kept them, as well as can be: times and codes are
those of the audit trail, and a price, type or place is that of the booking and its package today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import (
    Booking,
    BookingEvent,
    Event,
    Payment,
    PaymentEffect,
    PaymentEvent,
    PaymentState,
    Transition,
)
from booking_service.domain.package import Package
from booking_service.group_commit import facts
from booking_service.group_commit.load import read_packages
from booking_service.storage import rows
from booking_service.storage.connection import Connection, Record
from booking_service.storage.sql import QueryGroup
from protos.tracking.v1 import event_pb2

# One transaction may complete and confirm a booking, at one time.
_UNPAID: Final = (Transition.STARTED, Transition.COMPLETED)

_BOOKINGS: Final = QueryGroup("bookings")
_PAYMENTS: Final = QueryGroup("payments")
_REFILL: Final = QueryGroup("refill")


async def rebuilt_bookings(connection: Connection, trail: Sequence[Record]) -> list[bytes]:
    """Return the fact of each row of booking_events; b"" where its booking is gone."""
    bookings, packages = await _load(connection, trail)
    captured = {
        (row["booking_id"], row["event_time"]): row["amount_minor"]
        for row in await connection.fetch(_REFILL.captured, list(bookings))
    }
    made = []
    for row in trail:
        booking = bookings.get(row["booking_id"])
        if booking is None:
            made.append(b"")
            continue
        time, transition = row["event_time"], Transition(row["transition"])
        price = captured.get((booking.id, time)) if transition is Transition.CONFIRMED else None
        then = replace(
            booking,
            version=row["version"],
            end_reason=row["reason"],
            complete_time=None
            if transition is Transition.STARTED
            else _by(time, booking.complete_time),
            confirm_time=None if transition in _UNPAID else _by(time, booking.confirm_time),
            refund_minor=booking.refund_minor if transition is Transition.CANCELLED else None,
            price_minor=booking.price_minor if price is None else price,
        )
        made.append(_marked(BookingEvent(transition, None, then), packages, time))
    return made


async def rebuilt_payments(connection: Connection, trail: Sequence[Record]) -> list[bytes]:
    """Return the fact of each row of payment_events; b"" where its booking or payment is gone."""
    bookings, packages = await _load(connection, trail)
    providers, payment_ids = (
        [row["provider"] for row in trail],
        [row["payment_id"] for row in trail],
    )
    payments = {
        (row["provider"], row["payment_id"]): rows.payment(row)
        for row in await connection.fetch(_PAYMENTS.load, [], providers, payment_ids)
    }
    made = []
    for row in trail:
        booking = bookings.get(row["booking_id"])
        payment = payments.get((row["provider"], row["payment_id"]))
        if booking is None or payment is None:
            made.append(b"")
            continue
        time = row["event_time"]
        then = replace(booking, confirm_time=_by(time, booking.confirm_time))
        effect = _effect(row["kind"], time, payment, then)
        event = PaymentEvent(
            effect,
            payment,
            then,
            row["amount_minor"],
            is_revenue=effect is not PaymentEffect.REFUNDED
            or payment.state is not PaymentState.REFUND_DUE,
            refund_id=row["refund_id"],
        )
        made.append(_marked(event, packages, time))
    return made


def _effect(kind: str, time: datetime, payment: Payment, booking: Booking) -> PaymentEffect:
    if kind != PaymentEffect.CAPTURED:
        return PaymentEffect(kind)
    if payment.state is PaymentState.REFUND_DUE or booking.confirm_time is None:
        return PaymentEffect.REFUND_DUE
    confirmed = booking.confirm_time == time
    return PaymentEffect.CAPTURED if confirmed else PaymentEffect.BALANCE_CAPTURED


async def _load(
    connection: Connection, trail: Sequence[Record]
) -> tuple[dict[UUID, Booking], dict[UUID, Package]]:
    ids = sorted({row["booking_id"] for row in trail})
    found = await connection.fetch(_BOOKINGS.load, ids)
    bookings = {row["id"]: rows.booking(row) for row in found}
    packages = await read_packages(connection, {each.package_id for each in bookings.values()})
    return bookings, packages


def _marked(event: Event, packages: dict[UUID, Package], time: datetime) -> bytes:
    [encoded] = facts.encode([event], packages, time)
    fact = event_pb2.Event.FromString(encoded)
    fact.rebuilt = True
    return fact.SerializeToString()


def _by(time: datetime, instant: datetime | None) -> datetime | None:
    """Return an instant unless it is after `time`."""
    return instant if instant is not None and instant <= time else None
