"""Holds: how seats are taken for a limited time, and how a hold ends without payment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from booking_service.domain.booking import LIVE, Booking, State, Transition
from booking_service.domain.commands import (
    AbandonBooking,
    CompleteBooking,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    StartBatch,
    StartBooking,
)
from booking_service.domain.package import Package
from booking_service.domain.refusal import (
    Reason,
    Refusal,
    already_exists,
    hold_expired,
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
from booking_service.domain.transitions import complete_form, expire
from booking_service.domain.world import Changes, Decision, Draft


@dataclass(frozen=True, slots=True)
class Limits:
    """How many live holds a user may have (0: no limit), and how often a hold may be extended."""

    max_live_holds_per_user: int = 0
    one_live_hold_per_user_and_package: bool = False
    max_extensions: int = 3

    @property
    def of_users(self) -> bool:
        """Whether a limit needs the other holds of the user."""
        return self.max_live_holds_per_user > 0 or self.one_live_hold_per_user_and_package


def start(draft: Draft, command: StartBooking, limits: Limits) -> Decision:
    """Hold the seats of a stay, or return why that is refused."""
    if draft.booking(command.booking_id) is not None:
        return draft.decided(already_exists("booking", command.booking_id))
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    days = (command.end_date - command.start_date).days
    list_price_minor = package.base_price_minor * command.quantity * days
    refusal = (
        refuse_if_not_on_sale(package, command.start_date, command.end_date, draft.now)
        or _refuse_party_size(package, command.quantity, command.party_size)
        or _refuse_over_limit(draft, command, limits)
        or refuse_wrong_price(package, command.quote, list_price_minor)
        or make_room(draft, package, command.start_date, command.end_date, command.quantity)
    )
    if refusal is not None:
        # No changes, not even to lapsed holds: a refused start is decided again on a retry.
        return Decision(refusal, Changes())
    price_minor, policy = agreed_terms(command.quote, list_price_minor, package.cancellation_policy)
    booking = Booking(
        id=command.booking_id,
        package_id=package.id,
        vendor_id=package.vendor_id,
        user_id=command.user_id,
        session_id=command.session_id,
        state=State.HELD,
        start_date=command.start_date,
        end_date=command.end_date,
        quantity=command.quantity,
        party_size=command.party_size,
        price_minor=price_minor,
        currency=package.currency,
        cancellation_policy=policy,
        hold_expire_time=draft.now + timedelta(seconds=package.hold_ttl_s),
        complete_time=None,
        confirm_time=None,
        end_time=None,
        end_reason="",
        refund_minor=None,
        refunded_minor=0,
        version=1,
        create_time=draft.now,
        update_time=draft.now,
    )
    draft.take(booking, held=booking.quantity)
    return draft.decided(draft.put(booking, Transition.STARTED, before=None))


def start_all(draft: Draft, command: StartBatch, limits: Limits) -> Decision:
    """Hold the seats of several stays, each decided after the ones before it, or of none."""
    started: list[Booking] = []
    for index, each in enumerate(command.starts):
        outcome = start(draft, each, limits).outcome
        if isinstance(outcome, Refusal):
            metadata = {**outcome.metadata, "index": str(index)}
            return Decision(replace(outcome, metadata=metadata), Changes())
        assert isinstance(outcome, Booking)  # noqa: S101 - narrows the type
        started.append(outcome)
    return draft.decided(tuple(started))


def extend(draft: Draft, command: ExtendHold, limits: Limits) -> Decision:
    """Give a live hold its full time again, counted from now; the time never becomes shorter."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    changed = refuse_if_changed(booking, command.etag)
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is State.EXPIRED:
        return draft.decided(hold_expired(booking))
    if changed is not None:
        return draft.decided(changed)
    if booking.state not in LIVE:
        return draft.decided(invalid_transition(booking, "extended"))
    if booking.extensions >= limits.max_extensions:
        return draft.decided(
            Refusal(
                Reason.EXTEND_LIMIT,
                f"the hold of booking {booking.id} was extended {booking.extensions} times",
                {"limit": str(limits.max_extensions), "booking_id": str(booking.id)},
            )
        )
    full = draft.now + timedelta(seconds=draft.package_of(booking).hold_ttl_s)
    extended = replace(
        booking,
        hold_expire_time=max(full, booking.hold_expire_time),
        extensions=booking.extensions + 1,
    )
    return draft.decided(draft.put(extended, Transition.EXTENDED, before=booking))


def fail(draft: Draft, command: FailBooking) -> Decision:
    """Release the hold because of a fault on the way."""
    return _release(draft, command, State.FAILED, Transition.FAILED)


def complete(draft: Draft, command: CompleteBooking) -> Decision:
    """Complete the form of a hold, which then waits for payment."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    changed = refuse_if_changed(booking, command.etag)
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is State.EXPIRED:
        return draft.decided(hold_expired(booking))
    if booking.state in (State.PENDING_PAYMENT, State.CONFIRMED, State.FULFILLED):
        return draft.decided(booking)
    if changed is not None:
        return draft.decided(changed)
    if booking.state is State.HELD:
        return draft.decided(complete_form(draft, booking))
    return draft.decided(invalid_transition(booking, "completed"))


def abandon(draft: Draft, command: AbandonBooking) -> Decision:
    """Release the hold because the visitor gave up."""
    return _release(draft, command, State.ABANDONED, Transition.ABANDONED)


def expire_all(draft: Draft, command: ExpireHolds) -> Decision:
    """End every known lapsed hold of a package; the answer is how many."""
    lapsed = draft.lapsed(command.package_id)
    for hold in lapsed:
        expire(draft, hold)
    return draft.decided(len(lapsed))


def _release(
    draft: Draft, command: FailBooking | AbandonBooking, state: State, transition: Transition
) -> Decision:
    """End a live hold for the given reason; a repeat gets the booking unchanged."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    changed = refuse_if_changed(booking, command.etag)
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is state:
        return draft.decided(booking)
    if changed is not None:
        return draft.decided(changed)
    if booking.state not in LIVE:
        return draft.decided(invalid_transition(booking, state.lower()))
    return draft.decided(draft.end(booking, state, transition, command.reason))


def _refuse_party_size(package: Package, quantity: int, party_size: int) -> Refusal | None:
    largest = package.largest_party(quantity)
    if package.min_party_size <= party_size <= largest:
        return None
    return Refusal(
        Reason.PARTY_SIZE,
        f"a party of {party_size} in {quantity} units is not between {package.min_party_size} "
        f"and {largest}",
        {"min": str(package.min_party_size), "max": str(largest)},
    )


def _refuse_over_limit(draft: Draft, command: StartBooking, limits: Limits) -> Refusal | None:
    if not limits.of_users:
        return None
    held = draft.holds_of_user(command.user_id)
    live = [hold for hold in held if not hold.lapsed(draft.now)]
    if limits.one_live_hold_per_user_and_package:
        for hold in live:
            if hold.package_id == command.package_id:
                return Refusal(
                    Reason.ALREADY_HELD,
                    f"the user holds booking {hold.id} of this package",
                    {"booking_id": str(hold.id), "state": str(hold.state)},
                )
    if 0 < limits.max_live_holds_per_user <= len(live):
        return Refusal(
            Reason.HOLD_LIMIT,
            f"the user has {len(live)} live holds, as many as are allowed",
            {"limit": str(limits.max_live_holds_per_user)},
        )
    return None
