"""Stays: how one is cancelled, paid for or not, and how a confirmed one is moved and fulfilled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from booking_service.domain.booking import LIVE, Booking, State, Transition
from booking_service.domain.commands import CancelBooking, FulfilStays, RescheduleBooking
from booking_service.domain.money import Money
from booking_service.domain.package import Package
from booking_service.domain.policy import refund_changes_below_s, refund_minor
from booking_service.domain.refunds import refundable_minor, request_refunds
from booking_service.domain.refusal import (
    Reason,
    Refusal,
    invalid_transition,
    not_found,
    refuse_if_changed,
)
from booking_service.domain.sale import (
    agreed_terms,
    make_room,
    refuse_if_not_on_sale,
    refuse_wrong_price,
)
from booking_service.domain.transitions import expire
from booking_service.domain.world import Changes, Decision, Draft

CANCELLED: Final = "CANCELLED"
"""Why a hold that was cancelled has ended, and why the money of a stay is paid back."""


def cancel(draft: Draft, command: CancelBooking) -> Decision:
    """Free the seats, and request the refund that the policy of the booking grants now.

    A hold, for which nothing was paid, is released.
    """
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    released = booking.state is State.ABANDONED and booking.end_reason == CANCELLED
    if booking.state is State.CANCELLED or released:
        return draft.decided(booking)
    refusal = refuse_if_changed(booking, command.etag)
    if refusal is not None:
        return draft.decided(refusal)
    if booking.state in LIVE:
        return _release(draft, booking, command)
    package = draft.package_of(booking)
    refusal = _refuse_unless_confirmed(draft, booking, package, "cancelled")
    if refusal is not None:
        return draft.decided(refusal)
    time_left_s = (package.begins(booking.start_date) - draft.now).total_seconds()
    # Computed from what was paid: an unpaid balance must not become a refund.
    granted_minor = refund_minor(booking.cancellation_policy, booking.paid_minor, time_left_s)
    paid_minor = sum(refundable_minor(draft, paid) for paid in draft.payments_of(booking.id))
    due_minor = min(granted_minor, paid_minor)
    refusal = _refuse_other_refund(booking, command, due_minor)
    if refusal is not None:
        return draft.decided(refusal)
    draft.take(booking, confirmed=-booking.quantity)
    cancelled = replace(
        booking,
        state=State.CANCELLED,
        end_time=draft.now,
        end_reason=command.reason,
        refund_minor=due_minor,
        refund_requested_minor=booking.refund_requested_minor + due_minor,
        balance_due_minor=0,
    )
    request_refunds(draft, booking, command.refund_row_id, due_minor, CANCELLED)
    return draft.decided(draft.put(cancelled, Transition.CANCELLED, before=booking))


def reschedule(draft: Draft, command: RescheduleBooking) -> Decision:
    """Move a stay to other days; it keeps its seats on days that both ranges contain.

    The old days are freed only if the new ones have room. What was paid counts towards the new
    price; the difference is due or refunded.
    """
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    package = draft.package_of(booking)
    list_price_minor = (
        package.base_price_minor * booking.quantity * (command.end_date - command.start_date).days
    )
    refusal = (
        refuse_if_changed(booking, command.etag)
        or _refuse_unless_confirmed(draft, booking, package, "rescheduled")
        or _refuse_if_begun(draft, booking, package)
        or refuse_if_not_on_sale(package, command.start_date, command.end_date, draft.now)
        or refuse_wrong_price(package, command.quote, list_price_minor)
    )
    if refusal is not None:
        return draft.decided(refusal)
    price_minor, policy = agreed_terms(command.quote, list_price_minor, booking.cancellation_policy)
    paid_minor = booking.paid_minor
    moved = replace(
        booking,
        start_date=command.start_date,
        end_date=command.end_date,
        price_minor=price_minor,
        cancellation_policy=policy,
        balance_due_minor=max(0, price_minor - paid_minor),
    )
    if moved == booking:
        return draft.decided(booking)
    draft.take(booking, confirmed=-booking.quantity)
    refusal = make_room(draft, package, moved.start_date, moved.end_date, moved.quantity)
    if refusal is not None:
        return Decision(refusal, Changes())
    draft.take(moved, confirmed=moved.quantity)
    surplus_minor = max(0, paid_minor - price_minor)
    requested_minor = request_refunds(
        draft, booking, command.refund_row_id, surplus_minor, "RESCHEDULED"
    )
    moved = replace(moved, refund_requested_minor=booking.refund_requested_minor + requested_minor)
    return draft.decided(draft.put(moved, Transition.RESCHEDULED, before=booking))


def fulfil_all(draft: Draft, command: FulfilStays) -> Decision:
    """End every known confirmed stay of a package that is over; the answer is how many."""
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    today = package.today(draft.now)
    over = [stay for stay in draft.stays(command.package_id) if stay.end_date <= today]
    for stay in over:
        fulfilled = replace(stay, state=State.FULFILLED, end_time=draft.now)
        draft.put(fulfilled, Transition.FULFILLED, before=stay)
    return draft.decided(len(over))


def refund_valid_until(booking: Booking, cancelled: Booking, package: Package) -> datetime | None:
    """Return the instant until which a cancellation gives the refund of `cancelled`, None where it
    no longer changes.

    `cancelled` is the booking that a cancellation would result in now.
    """
    if booking.state is State.CANCELLED or cancelled.state is not State.CANCELLED:
        return None
    if cancelled.end_time is None:
        return None
    begins = package.begins(booking.start_date)
    changes_below_s = refund_changes_below_s(
        booking.cancellation_policy,
        booking.paid_minor,
        (begins - cancelled.end_time).total_seconds(),
        cancelled.refund_minor or 0,
    )
    return None if changes_below_s is None else begins - timedelta(seconds=changes_below_s)


def _release(draft: Draft, booking: Booking, command: CancelBooking) -> Decision:
    """End a live hold, as giving it up does; one that has run out expires instead."""
    if booking.lapsed(draft.now):
        return draft.decided(invalid_transition(expire(draft, booking), "cancelled"))
    refusal = _refuse_other_refund(booking, command, 0)
    if refusal is not None:
        return draft.decided(refusal)
    return draft.decided(draft.end(booking, State.ABANDONED, Transition.ABANDONED, CANCELLED))


def _refuse_other_refund(
    booking: Booking, command: CancelBooking, due_minor: int
) -> Refusal | None:
    """Refuse a cancellation whose caller was shown another refund than the one due now."""
    expected = command.expected_refund
    if expected is None or expected == Money(due_minor, booking.currency):
        return None
    return Refusal(
        Reason.FEE_CHANGED,
        f"the refund is {due_minor} {booking.currency} in minor units now",
        {"refund_minor": str(due_minor), "currency": booking.currency},
    )


def _refuse_if_begun(draft: Draft, booking: Booking, package: Package) -> Refusal | None:
    """Refuse to move a stay that has begun: one price would pay for two stays."""
    if draft.now < package.begins(booking.start_date):
        return None
    return Refusal(
        Reason.NOT_CANCELLABLE,
        f"the stay of booking {booking.id} has begun",
        {"state": str(booking.state), "booking_id": str(booking.id)},
    )


def _refuse_unless_confirmed(
    draft: Draft, booking: Booking, package: Package, verb: str
) -> Refusal | None:
    over = booking.state is State.CONFIRMED and package.begins(booking.end_date) <= draft.now
    if booking.state is State.FULFILLED or over:
        return Refusal(
            Reason.NOT_CANCELLABLE,
            f"the stay of booking {booking.id} is over",
            {"state": str(booking.state), "booking_id": str(booking.id)},
        )
    if booking.state is not State.CONFIRMED:
        return invalid_transition(booking, verb)
    return None
