"""Payments: what a captured payment, a refund or a cancellation does to a booking.

Money that a provider has taken is never refused without a trace: it confirms a booking, or it
is kept as REFUND_DUE once.
"""

from dataclasses import replace
from uuid import UUID

from booking_service.domain.booking import (
    LIVE,
    Booking,
    Payment,
    PaymentEffect,
    PaymentEventKey,
    PaymentKind,
    PaymentSeen,
    PaymentState,
    Refund,
    RefundState,
    State,
    Transition,
)
from booking_service.domain.commands import CancelBooking, ConfirmBooking, RecordPayment
from booking_service.domain.holds import (
    completed,
    currency_mismatch,
    hold_expired,
    invalid_transition,
    make_room,
)
from booking_service.domain.money import Money
from booking_service.domain.policy import refund_minor
from booking_service.domain.refusal import Reason, Refusal, not_found
from booking_service.domain.world import Decision, Draft


def confirm(draft: Draft, command: ConfirmBooking) -> Decision:
    """The caller says that a payment for a booking was captured."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.state is State.HELD and not booking.lapsed(draft.now):
        return draft.decided(invalid_transition(booking, "confirmed before it is completed"))
    outcome = _capture(draft, booking, _as_capture(command))
    return draft.decided(outcome if isinstance(outcome, Refusal) else outcome[0])


def record(draft: Draft, command: RecordPayment) -> Decision:
    """A provider's event: each has one effect, however often and in what order it comes."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if command.kind is PaymentKind.CAPTURED:
        outcome = _capture(draft, booking, command)
        return draft.decided(outcome if isinstance(outcome, Refusal) else outcome[1])
    if command.kind is PaymentKind.REFUNDED:
        return draft.decided(_refunded(draft, booking, command))
    return draft.decided(_attempted(draft, booking, command))


def cancel(draft: Draft, command: CancelBooking) -> Decision:
    """Gives the seats back and requests the refund that the booking's policy grants now."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.state is State.CANCELLED:
        return draft.decided(booking)
    package = draft.package_of(booking)
    over = booking.state is State.CONFIRMED and package.begins(booking.end_date) <= draft.now
    if booking.state is State.FULFILLED or over:
        return draft.decided(
            Refusal(
                Reason.NOT_CANCELLABLE,
                f"the stay of booking {booking.id} is over",
                {"state": str(booking.state), "booking_id": str(booking.id)},
            )
        )
    if booking.state is not State.CONFIRMED:
        return draft.decided(invalid_transition(booking, "cancelled"))
    time_left_s = (package.begins(booking.start_date) - draft.now).total_seconds()
    due_minor = refund_minor(booking.cancellation_policy, booking.price_minor, time_left_s)
    due_minor = max(0, due_minor - booking.refunded_minor)
    draft.take(booking, confirmed=-booking.quantity)
    cancelled = replace(
        booking,
        state=State.CANCELLED,
        end_time=draft.now,
        end_reason=command.reason,
        refund_minor=due_minor,
    )
    cancelled = draft.put(cancelled, Transition.CANCELLED, before=booking)
    for payment in draft.payments_of(booking.id):
        if due_minor > 0 and payment.state in (
            PaymentState.CAPTURED,
            PaymentState.PARTIALLY_REFUNDED,
        ):
            _owe(draft, payment, command.refund_row_id, due_minor, "CANCELLED")
            break
    return draft.decided(cancelled)


def _as_capture(command: ConfirmBooking) -> RecordPayment:
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


def _capture(
    draft: Draft, booking: Booking, command: RecordPayment
) -> tuple[Booking, Payment] | Refusal:
    """Confirms the booking, or keeps the payment as REFUND_DUE and says why."""
    known = draft.payment(command.provider, command.payment_id)
    refusal = _belongs_elsewhere(known, booking) or _wrong_amount(booking, command.amount)
    if refusal is not None:
        return refusal
    if known is not None and known.state not in (PaymentState.AUTHORISED, PaymentState.FAILED):
        if known.state is PaymentState.REFUND_DUE or booking.confirm_time is None:
            return _too_late(booking)
        return booking, known
    payment = _captured(draft, booking, command, known)
    if booking.state in LIVE:
        # A hold that lapsed but still has its seats is as good as live.
        if booking.state is State.HELD:
            booking = completed(draft, booking)
        draft.take(booking, held=-booking.quantity, confirmed=booking.quantity)
    elif booking.state is State.EXPIRED and _takes_again(draft, booking):
        draft.take(booking, confirmed=booking.quantity)
    else:
        due = replace(payment, state=PaymentState.REFUND_DUE)
        draft.put_payment(due, PaymentEffect.REFUND_DUE, booking, due.amount_minor)
        if due.amount_minor > 0:
            _owe(draft, due, command.refund_row_id, due.amount_minor, str(booking.state))
        return _too_late(booking)
    confirmed = replace(
        booking,
        state=State.CONFIRMED,
        confirm_time=booking.confirm_time or draft.now,
        end_time=None,
        end_reason="",
    )
    confirmed = draft.put(confirmed, Transition.CONFIRMED, before=booking)
    draft.put_payment(payment, PaymentEffect.CAPTURED, confirmed, payment.amount_minor)
    return confirmed, payment


def _takes_again(draft: Draft, booking: Booking) -> bool:
    package = draft.package_of(booking)
    return make_room(draft, package, booking.start_date, booking.end_date, booking.quantity) is None


def _too_late(booking: Booking) -> Refusal:
    if booking.state is State.EXPIRED:
        return hold_expired(booking)
    return invalid_transition(booking, "paid")


def _captured(
    draft: Draft, booking: Booking, command: RecordPayment, known: Payment | None
) -> Payment:
    _see(draft, command)
    if known is None:
        return _new_payment(draft, booking, command, PaymentState.CAPTURED)
    return replace(
        known,
        state=PaymentState.CAPTURED,
        amount_minor=command.amount.minor,
        failure_code="",
        version=known.version + 1,
        update_time=draft.now,
    )


def _attempted(draft: Draft, booking: Booking, command: RecordPayment) -> Payment | Refusal:
    """An authorisation or a failure: kept, unless the payment has gone further already."""
    known = draft.payment(command.provider, command.payment_id)
    refusal = _belongs_elsewhere(known, booking)
    if refusal is None and command.amount.currency != booking.currency:
        refusal = currency_mismatch(command.amount.currency, booking.currency)
    if refusal is not None:
        return refusal
    if known is not None and draft.seen(_event_key(command)):
        return known
    _see(draft, command)
    state = PaymentState(command.kind)
    effect = PaymentEffect(command.kind)
    if known is None:
        payment = _new_payment(draft, booking, command, state)
    elif known.state in (PaymentState.AUTHORISED, PaymentState.FAILED):
        payment = replace(
            known,
            state=state,
            failure_code=command.failure_code,
            version=known.version + 1,
            update_time=draft.now,
        )
    else:
        return known
    return draft.put_payment(payment, effect, booking, payment.amount_minor)


def _refunded(draft: Draft, booking: Booking, command: RecordPayment) -> Payment | Refusal:
    """A refund was paid out: the oldest requested ones that it covers are completed."""
    payment = draft.payment(command.provider, command.payment_id)
    if payment is None:
        return not_found("payment", f"{command.provider}/{command.payment_id}")
    refusal = _belongs_elsewhere(payment, booking)
    if refusal is None and command.amount.currency != payment.currency:
        refusal = currency_mismatch(command.amount.currency, payment.currency)
    if refusal is not None:
        return refusal
    if draft.seen(_event_key(command)):
        return payment
    left_minor = payment.amount_minor - payment.refunded_minor
    captured = payment.state not in (PaymentState.AUTHORISED, PaymentState.FAILED)
    if not captured or command.amount.minor > left_minor:
        return Refusal(
            Reason.OVER_REFUND,
            f"of the payment {left_minor if captured else 0} {payment.currency} in minor units "
            f"can be refunded, not {command.amount.minor}",
            {"refundable_minor": str(left_minor if captured else 0), "currency": payment.currency},
        )
    _see(draft, command)
    total_minor = payment.refunded_minor + command.amount.minor
    whole = total_minor == payment.amount_minor
    payment = replace(
        payment,
        state=PaymentState.REFUNDED if whole else PaymentState.PARTIALLY_REFUNDED,
        refunded_minor=total_minor,
        version=payment.version + 1,
        update_time=draft.now,
    )
    covered_minor = total_minor
    for refund in draft.refunds_of(payment.id):
        covered_minor -= refund.amount_minor
        if covered_minor >= 0 and refund.state is RefundState.REQUESTED:
            draft.changes.refunds[refund.id] = replace(
                refund, state=RefundState.COMPLETED, update_time=draft.now
            )
    if booking.confirm_time is not None:
        booking = replace(
            booking,
            refunded_minor=booking.refunded_minor + command.amount.minor,
            update_time=draft.now,
        )
        draft.changes.bookings[booking.id] = booking
    return draft.put_payment(payment, PaymentEffect.REFUNDED, booking, command.amount.minor)


def _owe(draft: Draft, payment: Payment, refund_id: UUID, amount_minor: int, reason: str) -> None:
    draft.changes.refunds[refund_id] = Refund(
        id=refund_id,
        booking_id=payment.booking_id,
        payment_id=payment.id,
        state=RefundState.REQUESTED,
        amount_minor=amount_minor,
        currency=payment.currency,
        reason=reason,
        create_time=draft.now,
        update_time=draft.now,
    )


def _new_payment(
    draft: Draft, booking: Booking, command: RecordPayment, state: PaymentState
) -> Payment:
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
    )


def _event_key(command: RecordPayment) -> PaymentEventKey:
    return PaymentEventKey(command.provider, command.payment_id, command.kind, command.refund_id)


def _see(draft: Draft, command: RecordPayment) -> None:
    key = _event_key(command)
    draft.changes.payments_seen[key] = PaymentSeen(
        key, command.booking_id, command.amount, draft.now
    )


def _belongs_elsewhere(known: Payment | None, booking: Booking) -> Refusal | None:
    if known is None or known.booking_id == booking.id:
        return None
    return Refusal(
        Reason.PAYMENT_ID_REUSED,
        f"payment {known.payment_id} of {known.provider} belongs to another booking",
        {"provider": known.provider, "payment_id": known.payment_id},
    )


def _wrong_amount(booking: Booking, amount: Money) -> Refusal | None:
    if amount.currency != booking.currency:
        return currency_mismatch(amount.currency, booking.currency)
    if amount.minor == booking.price_minor:
        return None
    return Refusal(
        Reason.AMOUNT_MISMATCH,
        f"the price is {booking.price_minor}, not {amount.minor} {booking.currency} in minor units",
        {"price_minor": str(booking.price_minor), "currency": booking.currency},
    )
