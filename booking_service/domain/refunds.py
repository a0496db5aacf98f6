"""Refunds of payments, together never more than was captured, and who pays them out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid5

from booking_service.domain.booking import (
    Booking,
    Payment,
    PaymentEffect,
    PaymentState,
    Refund,
    RefundState,
)
from booking_service.domain.commands import ClaimRefunds, RecordPayment, RefundPayment
from booking_service.domain.payment_events import (
    event_key,
    record_event,
    refuse_if_of_another_booking,
)
from booking_service.domain.refusal import Reason, Refusal, currency_mismatch, not_found
from booking_service.domain.world import Decision, Draft

REFUND_DUE: Final = "REFUND_DUE"
"""Why a payment that its booking could not take is paid back."""


def refund(draft: Draft, command: RefundPayment) -> Decision:
    """Request a refund of a payment, within what is still refundable."""
    payment = draft.payment_row(command.payment_row_id)
    booking = draft.booking(command.booking_id)
    if payment is None or booking is None or payment.booking_id != booking.id:
        return draft.decided(not_found("payment", command.payment_row_id))
    if command.amount.currency != payment.currency:
        return draft.decided(currency_mismatch(command.amount.currency, payment.currency))
    left_minor = refundable_minor(draft, payment)
    if command.amount.minor > left_minor:
        return draft.decided(_over_refund(payment, left_minor, command.amount.minor))
    amount_minor, reason = command.amount.minor, command.reason or "REQUESTED"
    refund = request_refund(draft, booking, payment, command.refund_row_id, amount_minor, reason)
    draft.changes.bookings[booking.id] = replace(
        booking,
        refund_requested_minor=booking.refund_requested_minor + amount_minor,
        update_time=draft.now,
    )
    return draft.decided(refund)


def claim(draft: Draft, command: ClaimRefunds) -> Decision:
    """Hand out the requested refunds that are due, by moving their next attempt."""
    claimed: list[Refund] = []
    for wanted in command.refunds:
        refund = draft.refund(wanted.refund_id)
        if refund is None or refund.state is not RefundState.REQUESTED:
            continue
        if refund.next_attempt_time > draft.now:
            continue
        refund = replace(
            refund,
            next_attempt_time=draft.now + timedelta(seconds=command.lease_s),
            update_time=draft.now,
        )
        draft.changes.refunds[refund.id] = refund
        claimed.append(refund)
    return draft.decided(tuple(claimed))


def complete_refund(draft: Draft, booking: Booking, command: RecordPayment) -> Payment | Refusal:
    """Record what was paid back of a payment, towards the refunds that were requested of it."""
    payment = draft.payment(command.provider, command.payment_id)
    if payment is None:
        return not_found("payment", f"{command.provider}/{command.payment_id}")
    refusal = refuse_if_of_another_booking(payment, booking)
    if refusal is None and command.amount.currency != payment.currency:
        refusal = currency_mismatch(command.amount.currency, payment.currency)
    if refusal is not None:
        return refusal
    if draft.seen(event_key(command)):
        return payment
    captured = payment.state not in (PaymentState.AUTHORISED, PaymentState.FAILED)
    left_minor = payment.amount_minor - payment.refunded_minor if captured else 0
    if command.amount.minor > left_minor:
        return _over_refund(payment, left_minor, command.amount.minor)
    record_event(draft, command)
    total_minor = payment.refunded_minor + command.amount.minor
    # A payment that was not accepted stays due until all of it is refunded; it was never revenue.
    is_due = payment.state is PaymentState.REFUND_DUE
    partly = PaymentState.REFUND_DUE if is_due else PaymentState.PARTIALLY_REFUNDED
    payment = replace(
        payment,
        state=PaymentState.REFUNDED if total_minor == payment.amount_minor else partly,
        refunded_minor=total_minor,
        version=payment.version + 1,
        update_time=draft.now,
    )
    _pay_out(draft, payment, command.amount.minor)
    if not is_due:
        booking = replace(
            booking,
            refunded_minor=booking.refunded_minor + command.amount.minor,
            update_time=draft.now,
        )
        draft.changes.bookings[booking.id] = booking
    return draft.put_payment(
        payment,
        PaymentEffect.REFUNDED,
        booking,
        command.amount.minor,
        is_revenue=not is_due,
        refund_id=command.refund_id,
    )


def refundable_minor(draft: Draft, payment: Payment) -> int:
    """Return what of a payment is neither refunded nor requested to be."""
    if payment.state in (PaymentState.AUTHORISED, PaymentState.FAILED):
        return 0
    requested_minor = sum(refund.left_minor for refund in draft.refunds_of(payment.id))
    return max(0, payment.amount_minor - payment.refunded_minor - requested_minor)


def request_refunds(
    draft: Draft, booking: Booking, first_refund_id: UUID, amount_minor: int, reason: str
) -> int:
    """Request refunds of a booking's payments, oldest first; return their sum in minor units."""
    left_minor = amount_minor
    for n, payment in enumerate(draft.payments_of(booking.id)):
        part_minor = min(left_minor, refundable_minor(draft, payment))
        if part_minor > 0:
            refund_id = first_refund_id if n == 0 else uuid5(first_refund_id, str(n))
            request_refund(draft, booking, payment, refund_id, part_minor, reason)
            left_minor -= part_minor
    return amount_minor - left_minor


def request_refund(
    draft: Draft,
    booking: Booking,
    payment: Payment,
    refund_id: UUID,
    amount_minor: int,
    reason: str,
) -> Refund:
    """Request the refund of an amount of a payment."""
    refund = Refund(
        id=refund_id,
        booking_id=payment.booking_id,
        payment_id=payment.id,
        state=RefundState.REQUESTED,
        amount_minor=amount_minor,
        currency=payment.currency,
        reason=reason,
        create_time=draft.now,
        update_time=draft.now,
        vendor_id=booking.vendor_id,
        provider=payment.provider,
        provider_payment_id=payment.payment_id,
        next_attempt_time=draft.now,
    )
    draft.changes.refunds[refund.id] = refund
    return refund


def _pay_out(draft: Draft, payment: Payment, amount_minor: int) -> None:
    """Count an amount towards the refunds of a payment, the oldest first."""
    left_minor = amount_minor
    for refund in draft.refunds_of(payment.id):
        part_minor = min(left_minor, refund.left_minor)
        if part_minor == 0:
            continue
        left_minor -= part_minor
        paid_minor = refund.paid_out_minor + part_minor
        whole = paid_minor == refund.amount_minor
        draft.changes.refunds[refund.id] = replace(
            refund,
            state=RefundState.COMPLETED if whole else RefundState.REQUESTED,
            paid_out_minor=paid_minor,
            update_time=draft.now,
        )


def _over_refund(payment: Payment, left_minor: int, wanted_minor: int) -> Refusal:
    return Refusal(
        Reason.OVER_REFUND,
        f"of the payment {left_minor} {payment.currency} in minor units can be refunded, "
        f"not {wanted_minor}",
        {"refundable_minor": str(left_minor), "currency": payment.currency},
    )
