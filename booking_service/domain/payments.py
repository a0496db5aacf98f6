"""Payments: what callers and providers report about an attempt to pay."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from booking_service.domain.booking import (
    LIVE,
    TAKEN,
    Booking,
    Payment,
    PaymentEffect,
    PaymentKind,
    PaymentState,
    State,
)
from booking_service.domain.capture import capture
from booking_service.domain.commands import ClaimPayments, ConfirmBooking, RecordPayment
from booking_service.domain.payment_events import (
    event_key,
    new_payment,
    next_retry,
    record_event,
    refuse_if_of_another_booking,
)
from booking_service.domain.refunds import complete_refund
from booking_service.domain.refusal import (
    Reason,
    Refusal,
    currency_mismatch,
    not_found,
)
from booking_service.domain.sale import refuse_if_not_on_sale
from booking_service.domain.world import Decision, Draft


def confirm(draft: Draft, command: ConfirmBooking) -> Decision:
    """Confirm a booking with a payment that the caller reports as captured.

    It comes to what `record` makes of the same capture, but for a payment that is known to have
    failed: there the provider's word counts.
    """
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    known = draft.payment(command.provider, command.payment_id)
    if known is not None and known.state is PaymentState.FAILED:
        return draft.decided(
            Refusal(
                Reason.PAYMENT_DECLINED,
                f"the provider reported that payment {known.payment_id} failed",
                {"failure_code": known.failure_code, "payment_id": known.payment_id},
            )
        )
    outcome = capture(draft, booking, as_capture(command))
    return draft.decided(outcome if isinstance(outcome, Refusal) else outcome[0])


def record(draft: Draft, command: RecordPayment) -> Decision:
    """Record a provider's event, which has one effect however often and in any order it arrives."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if command.kind is PaymentKind.CAPTURED:
        outcome = capture(draft, booking, command)
        return draft.decided(outcome if isinstance(outcome, Refusal) else outcome[1])
    if command.kind is PaymentKind.REFUNDED:
        return draft.decided(complete_refund(draft, booking, command))
    return draft.decided(_record_attempt(draft, booking, command))


def claim(draft: Draft, command: ClaimPayments) -> Decision:
    """Hand out the failed payments that are due, by moving their next retry.

    A payment whose booking no longer waits for money is never tried again: it could only be
    refunded.
    """
    claimed: list[Payment] = []
    for wanted in command.payments:
        payment = draft.payment_row(wanted.payment_row_id)
        if payment is None or payment.next_retry_time is None:
            continue
        if payment.next_retry_time > draft.now:
            continue
        booking = draft.booking(payment.booking_id)
        awaited = booking is not None and _is_awaited(draft, payment, booking)
        lease = timedelta(seconds=command.lease_s)
        payment = replace(
            payment,
            next_retry_time=draft.now + lease if awaited else None,
            version=payment.version + 1,
            update_time=draft.now,
        )
        draft.changes.payments[payment.key] = payment
        if awaited:
            claimed.append(payment)
    return draft.decided(tuple(claimed))


def _is_awaited(draft: Draft, payment: Payment, booking: Booking) -> bool:
    """Return whether a failed payment could still be accepted for its booking.

    An expired booking can take its seats again as long as its days are on sale.
    """
    if booking.state is State.EXPIRED:
        package = draft.package_of(booking)
        return (
            refuse_if_not_on_sale(package, booking.start_date, booking.end_date, draft.now) is None
        )
    if booking.state in TAKEN:
        return 0 < payment.amount_minor == booking.balance_due_minor
    return booking.state in LIVE


def as_capture(command: ConfirmBooking) -> RecordPayment:
    """Return the provider's event that a ConfirmBooking reports."""
    return RecordPayment(
        booking_id=command.booking_id,
        provider=command.provider,
        payment_id=command.payment_id,
        kind=PaymentKind.CAPTURED,
        amount=command.amount,
        refund_id="",
        failure_code="",
        payment_row_id=command.payment_row_id,
        refund_row_id=command.refund_row_id,
    )


def _record_attempt(draft: Draft, booking: Booking, command: RecordPayment) -> Payment | Refusal:
    """Record an authorisation or a failure, unless the payment has already progressed further."""
    known = draft.payment(command.provider, command.payment_id)
    refusal = refuse_if_of_another_booking(known, booking)
    if refusal is None and command.amount.currency != booking.currency:
        refusal = currency_mismatch(command.amount.currency, booking.currency)
    if refusal is not None:
        return refusal
    if known is not None and draft.seen(event_key(command)):
        return known
    record_event(draft, command)
    state = PaymentState(command.kind)
    effect = PaymentEffect(command.kind)
    if known is None:
        payment = new_payment(draft, booking, command, state)
    elif known.state in (PaymentState.AUTHORISED, PaymentState.FAILED):
        payment = replace(
            known,
            state=state,
            failure_code=command.failure_code,
            next_retry_time=next_retry(draft, state),
            version=known.version + 1,
            update_time=draft.now,
        )
    else:
        return known
    return draft.put_payment(payment, effect, booking, payment.amount_minor)
