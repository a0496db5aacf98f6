"""What identifies an event of a provider, and the payment that its first event creates."""

from __future__ import annotations

from datetime import datetime

from booking_service.domain.booking import (
    Booking,
    Payment,
    PaymentEventKey,
    PaymentSeen,
    PaymentState,
)
from booking_service.domain.commands import RecordPayment
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.world import Draft


def event_key(command: RecordPayment) -> PaymentEventKey:
    """Return what is equal in every delivery of an event."""
    return PaymentEventKey(command.provider, command.payment_id, command.kind, command.refund_id)


def record_event(draft: Draft, command: RecordPayment) -> None:
    """Record that an event arrived, so that a repeat has no effect."""
    key = event_key(command)
    draft.changes.payments_seen[key] = PaymentSeen(
        key, command.booking_id, command.amount, draft.now
    )


def new_payment(
    draft: Draft, booking: Booking, command: RecordPayment, state: PaymentState
) -> Payment:
    """Return the payment that its first event describes."""
    return Payment(
        id=command.payment_row_id,
        booking_id=booking.id,
        provider=command.provider,
        payment_id=command.payment_id,
        state=state,
        amount_minor=command.amount.minor,
        currency=command.amount.currency,
        refunded_minor=0,
        failure_code=command.failure_code,
        version=1,
        create_time=draft.now,
        update_time=draft.now,
        next_retry_time=next_retry(draft, state),
    )


def next_retry(draft: Draft, state: PaymentState) -> datetime | None:
    """Return when a payment may be tried again: at once if it failed; claiming it moves that."""
    return draft.now if state is PaymentState.FAILED else None


def refuse_if_of_another_booking(known: Payment | None, booking: Booking) -> Refusal | None:
    """Refuse a payment that is known for another booking."""
    if known is None or known.booking_id == booking.id:
        return None
    return Refusal(
        Reason.PAYMENT_ID_REUSED,
        f"payment {known.payment_id} of {known.provider} belongs to another booking",
        {"provider": known.provider, "payment_id": known.payment_id},
    )
