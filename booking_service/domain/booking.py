"""Bookings, payments and refunds, and what can happen to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from booking_service.domain.money import Money
from booking_service.domain.policy import CancellationPolicy

MAX_STAY_DAYS: Final = 366
"""No booking is longer, which bounds how far back a list of bookings by dates must read."""


class State(StrEnum):
    """HELD and PENDING_PAYMENT take held seats, CONFIRMED and FULFILLED confirmed ones."""

    HELD = "HELD"
    PENDING_PAYMENT = "PENDING_PAYMENT"
    CONFIRMED = "CONFIRMED"
    FULFILLED = "FULFILLED"
    CANCELLED = "CANCELLED"
    ABANDONED = "ABANDONED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


LIVE = frozenset({State.HELD, State.PENDING_PAYMENT})
TAKEN = frozenset({State.CONFIRMED, State.FULFILLED})


class Transition(StrEnum):
    """What happened to a booking."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    CONFIRMED = "CONFIRMED"
    FULFILLED = "FULFILLED"
    CANCELLED = "CANCELLED"
    ABANDONED = "ABANDONED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"
    RESCHEDULED = "RESCHEDULED"
    EXTENDED = "EXTENDED"


@dataclass(frozen=True, slots=True)
class Booking:
    """A stay of `quantity` units on each day of [start_date, end_date), with its price and
    policy as they were when it was started.

    `version` counts its transitions from 1. `refund_minor` is None until a refund is requested
    by a cancellation. `balance_due_minor` is what a change of dates left to be paid;
    `captured_minor` what was captured for the stay and `refunded_minor` what of that was paid back,
    neither of them with payments that the booking could not take.
    """

    id: UUID
    package_id: UUID
    vendor_id: UUID
    user_id: str
    session_id: str
    state: State
    start_date: date
    end_date: date
    quantity: int
    party_size: int
    price_minor: int
    currency: str
    cancellation_policy: CancellationPolicy
    hold_expire_time: datetime
    complete_time: datetime | None
    confirm_time: datetime | None
    end_time: datetime | None
    end_reason: str
    refund_minor: int | None
    refunded_minor: int
    version: int
    create_time: datetime
    update_time: datetime
    balance_due_minor: int = 0
    extensions: int = 0
    captured_minor: int = 0

    @property
    def paid_minor(self) -> int:
        """What counts as paid towards the price of a confirmed booking."""
        return self.price_minor - self.balance_due_minor

    @property
    def price(self) -> Money:
        return Money(self.price_minor, self.currency)

    def lapsed(self, now: datetime) -> bool:
        """Whether it is a hold whose time has run out."""
        return self.state in LIVE and self.hold_expire_time <= now


class PaymentState(StrEnum):
    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUND_DUE = "REFUND_DUE"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"


class PaymentKind(StrEnum):
    """What a provider says happened."""

    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment at a provider, known by (provider, payment_id)."""

    id: UUID
    booking_id: UUID
    provider: str
    payment_id: str
    state: PaymentState
    amount_minor: int
    currency: str
    refunded_minor: int
    failure_code: str
    version: int
    create_time: datetime
    update_time: datetime
    next_retry_time: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.provider, self.payment_id


class RefundState(StrEnum):
    REQUESTED = "REQUESTED"
    COMPLETED = "COMPLETED"


@dataclass(frozen=True, slots=True)
class Refund:
    """Money we owe back for a payment; the payment service pays it and reports so."""

    id: UUID
    booking_id: UUID
    payment_id: UUID
    state: RefundState
    amount_minor: int
    currency: str
    reason: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class PaymentEventKey:
    """Identifies what a provider said; `refund_id` is empty but for REFUNDED."""

    provider: str
    payment_id: str
    kind: PaymentKind
    refund_id: str = ""


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """A provider's event that was recorded."""

    key: PaymentEventKey
    booking_id: UUID
    amount: Money
    event_time: datetime


@dataclass(frozen=True, slots=True)
class BookingEvent:
    """One transition of a booking, with the booking as it is afterwards."""

    transition: Transition
    from_state: State | None
    booking: Booking


class PaymentEffect(StrEnum):
    """What a payment event came to."""

    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    REFUND_DUE = "REFUND_DUE"
    BALANCE_CAPTURED = "BALANCE_CAPTURED"


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A payment event that had an effect; `amount_minor` is what was captured or paid back.

    `is_revenue` is False for money that the booking could not take.
    """

    effect: PaymentEffect
    payment: Payment
    booking: Booking
    amount_minor: int
    is_revenue: bool = True


Event = BookingEvent | PaymentEvent
