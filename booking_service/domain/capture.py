"""A captured payment: it confirms a booking, completed or not, or is kept once as REFUND_DUE.

Money that a provider has captured is never refused without a record.
"""

from __future__ import annotations

from dataclasses import replace

from booking_service.domain.booking import (
    LIVE,
    TAKEN,
    Booking,
    Payment,
    PaymentEffect,
    PaymentState,
    State,
    Transition,
)
from booking_service.domain.commands import RecordPayment
from booking_service.domain.money import Money
from booking_service.domain.payment_events import (
    new_payment,
    record_event,
    refuse_if_of_another_booking,
)
from booking_service.domain.refunds import REFUND_DUE, request_refund
from booking_service.domain.refusal import (
    Reason,
    Refusal,
    currency_mismatch,
    hold_expired,
    invalid_transition,
)
from booking_service.domain.sale import make_room
from booking_service.domain.transitions import complete_form, expire
from booking_service.domain.world import Draft


def capture(
    draft: Draft, booking: Booking, command: RecordPayment
) -> tuple[Booking, Payment] | Refusal:
    """Confirm the booking, or keep the payment as REFUND_DUE and return the reason."""
    known = draft.payment(command.provider, command.payment_id)
    refusal = refuse_if_of_another_booking(known, booking)
    if refusal is not None:
        return refusal
    taken = known is not None and known.state not in (PaymentState.AUTHORISED, PaymentState.FAILED)
    expected_minor = known.amount_minor if known is not None and taken else to_pay_minor(booking)
    refusal = _refuse_wrong_amount(booking, command.amount, expected_minor)
    if refusal is not None:
        return refusal
    if known is not None and taken:
        if known.state is PaymentState.REFUND_DUE or booking.confirm_time is None:
            return _refuse_late_payment(booking)
        return booking, known
    payment = _captured_payment(draft, booking, command, known)
    if booking.state in TAKEN and booking.balance_due_minor > 0:
        return _settle_balance(draft, booking, payment)
    if booking.lapsed(draft.now) and _is_over(draft, booking):
        booking = expire(draft, booking)
    if booking.state in LIVE:
        # A hold that lapsed is still confirmed as long as its seats are not taken.
        if booking.state is State.HELD:
            booking = complete_form(draft, booking)
        draft.take(booking, held=-booking.quantity, confirmed=booking.quantity)
    elif booking.state is State.EXPIRED and _make_room_again(draft, booking):
        draft.take(booking, confirmed=booking.quantity)
    else:
        due = replace(payment, state=PaymentState.REFUND_DUE)
        draft.put_payment(due, PaymentEffect.REFUND_DUE, booking, due.amount_minor)
        if due.amount_minor > 0:
            refund_id, owed_minor = command.refund_row_id, due.amount_minor
            request_refund(draft, booking, due, refund_id, owed_minor, REFUND_DUE)
        return _refuse_late_payment(booking)
    confirmed = replace(
        booking,
        state=State.CONFIRMED,
        confirm_time=booking.confirm_time or draft.now,
        end_time=None,
        end_reason="",
        captured_minor=payment.amount_minor,
    )
    confirmed = draft.put(confirmed, Transition.CONFIRMED, before=booking)
    draft.put_payment(payment, PaymentEffect.CAPTURED, confirmed, payment.amount_minor)
    return confirmed, payment


def to_pay_minor(booking: Booking) -> int | None:
    """Return the amount that the next payment must have; None: any amount would be refunded."""
    if booking.state in LIVE or booking.state is State.EXPIRED:
        return booking.price_minor
    return booking.balance_due_minor or None


def _settle_balance(draft: Draft, booking: Booking, payment: Payment) -> tuple[Booking, Payment]:
    """Accept the balance of a change of dates: no transition, but revenue."""
    settled = replace(
        booking,
        balance_due_minor=0,
        captured_minor=booking.captured_minor + payment.amount_minor,
        update_time=draft.now,
    )
    draft.changes.bookings[booking.id] = settled
    draft.put_payment(payment, PaymentEffect.BALANCE_CAPTURED, settled, payment.amount_minor)
    return settled, payment


def _is_over(draft: Draft, booking: Booking) -> bool:
    return draft.package_of(booking).begins(booking.end_date) <= draft.now


def _make_room_again(draft: Draft, booking: Booking) -> bool:
    if _is_over(draft, booking):
        return False
    package = draft.package_of(booking)
    return make_room(draft, package, booking.start_date, booking.end_date, booking.quantity) is None


def _refuse_late_payment(booking: Booking) -> Refusal:
    if booking.state is State.EXPIRED:
        return hold_expired(booking)
    return invalid_transition(booking, "paid")


def _captured_payment(
    draft: Draft, booking: Booking, command: RecordPayment, known: Payment | None
) -> Payment:
    record_event(draft, command)
    if known is None:
        return new_payment(draft, booking, command, PaymentState.CAPTURED)
    return replace(
        known,
        state=PaymentState.CAPTURED,
        amount_minor=command.amount.minor,
        failure_code="",
        next_retry_time=None,
        version=known.version + 1,
        update_time=draft.now,
    )


def _refuse_wrong_amount(
    booking: Booking, amount: Money, expected_minor: int | None
) -> Refusal | None:
    if amount.currency != booking.currency:
        return currency_mismatch(amount.currency, booking.currency)
    if expected_minor in (None, amount.minor):
        return None
    return Refusal(
        Reason.AMOUNT_MISMATCH,
        f"to be paid is {expected_minor}, not {amount.minor} {booking.currency} in minor units",
        {"price_minor": str(expected_minor), "currency": booking.currency},
    )
