"""Bookings, payments and refunds as values, and the events that change them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from booking_service.domain.money import Money
from booking_service.domain.policy import CancellationPolicy

MAX_STAY_DAYS: Final = 366
"""No booking is longer, which bounds how far back a list of bookings by dates must read."""


class State(StrEnum):
    """HELD and PENDING_PAYMENT occupy held seats, CONFIRMED and FULFILLED confirmed seats."""

    HELD = "HELD"
    PENDING_PAYMENT = "PENDING_PAYMENT"
    CONFIRMED = "CONFIRMED"
    FULFILLED = "FULFILLED"
    CANCELLED = "CANCELLED"
    ABANDONED = "ABANDONED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"


LIVE: Final = frozenset({State.HELD, State.PENDING_PAYMENT})
TAKEN: Final = frozenset({State.CONFIRMED, State.FULFILLED})


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
    """A stay of `quantity` units on each day of [start_date, end_date), with the price and the
    policy of the time when it was started.

    `version` counts its transitions from 1. `refund_minor` is None until a cancellation requests a
    refund. `balance_due_minor` is what remains to be paid after a change of dates. `captured_minor`
    is what was captured for the stay, `refund_requested_minor` what was requested to be paid back
    of that, and `refunded_minor` what was; all leave out payments that it could not accept.
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
    refund_requested_minor: int = 0
    captured_minor: int = 0

    @property
    def paid_minor(self) -> int:
        """The part of the price that counts as paid, of a confirmed booking."""
        return self.price_minor - self.balance_due_minor

    @property
    def price(self) -> Money:
        return Money(self.price_minor, self.currency)

    def lapsed(self, now: datetime) -> bool:
        """Return whether it is a hold that has run out."""
        return self.state in LIVE and self.hold_expire_time <= now


class PaymentState(StrEnum):
    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUND_DUE = "REFUND_DUE"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"


class PaymentKind(StrEnum):
    """The kind of event that a provider reports."""

    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment at a provider, identified by (provider, payment_id)."""

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


_NO_VENDOR: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Refund:
    """Money owed for a payment; the payment service pays it out and reports that.

    The defaults are for first answers that were stored before these fields. `next_attempt_time` is
    when it may be claimed next, and has no meaning once it is completed.
    """

    id: UUID
    booking_id: UUID
    payment_id: UUID
    state: RefundState
    amount_minor: int
    currency: str
    reason: str
    create_time: datetime
    update_time: datetime
    vendor_id: UUID = _NO_VENDOR
    provider: str = ""
    provider_payment_id: str = ""
    paid_out_minor: int = 0
    next_attempt_time: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    @property
    def left_minor(self) -> int:
        """What of it is still to be paid out."""
        return self.amount_minor - self.paid_out_minor


@dataclass(frozen=True, slots=True)
class PaymentEventKey:
    """Identifies an event of a provider; `refund_id` is empty except for REFUNDED."""

    provider: str
    payment_id: str
    kind: PaymentKind
    refund_id: str = ""


@dataclass(frozen=True, slots=True)
class PaymentSeen:
    """An event of a provider that was recorded."""

    key: PaymentEventKey
    booking_id: UUID
    amount: Money
    event_time: datetime


@dataclass(frozen=True, slots=True)
class BookingEvent:
    """One transition of a booking, with the booking after it."""

    transition: Transition
    from_state: State | None
    booking: Booking


class PaymentEffect(StrEnum):
    """The effect of an event of a provider."""

    AUTHORISED = "AUTHORISED"
    CAPTURED = "CAPTURED"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"
    REFUND_DUE = "REFUND_DUE"
    BALANCE_CAPTURED = "BALANCE_CAPTURED"


_KINDS: Final = {
    PaymentEffect.AUTHORISED: PaymentKind.AUTHORISED,
    PaymentEffect.CAPTURED: PaymentKind.CAPTURED,
    PaymentEffect.FAILED: PaymentKind.FAILED,
    PaymentEffect.REFUNDED: PaymentKind.REFUNDED,
    PaymentEffect.REFUND_DUE: PaymentKind.CAPTURED,
    PaymentEffect.BALANCE_CAPTURED: PaymentKind.CAPTURED,
}


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """An event of a provider that had an effect; `amount_minor` is what was captured or paid back.

    `is_revenue` is False for money that the booking could not accept.
    """

    effect: PaymentEffect
    payment: Payment
    booking: Booking
    amount_minor: int
    is_revenue: bool = True
    refund_id: str = ""

    @property
    def key(self) -> PaymentEventKey:
        """The event of the provider: it has this one effect."""
        kind = _KINDS[self.effect]
        return PaymentEventKey(self.payment.provider, self.payment.payment_id, kind, self.refund_id)


Event = BookingEvent | PaymentEvent
