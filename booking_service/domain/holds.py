"""Holds: taking seats for a time, and how a hold ends without payment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

from booking_service.domain.booking import LIVE, Booking, State, Transition
from booking_service.domain.commands import (
    AbandonBooking,
    CompleteBooking,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    FulfilStays,
    Quote,
    StartBatch,
    StartBooking,
)
from booking_service.domain.inventory import days_of
from booking_service.domain.package import Package, PackageStatus, Pricing
from booking_service.domain.refusal import Reason, Refusal, already_exists, not_found
from booking_service.domain.world import Changes, Decision, Draft

HOLD_EXPIRED = "HOLD_EXPIRED"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one user may hold at a time, 0 live holds meaning no limit, and how often a hold may
    be extended.
    """

    max_live_holds_per_user: int = 0
    one_live_hold_per_user_and_package: bool = False
    max_extensions: int = 3

    @property
    def of_users(self) -> bool:
        """Whether there is a limit that needs the user's other holds."""
        return self.max_live_holds_per_user > 0 or self.one_live_hold_per_user_and_package


def start(draft: Draft, command: StartBooking, limits: Limits) -> Decision:
    """Takes the seats of a stay, or says why not."""
    if draft.booking(command.booking_id) is not None:
        return draft.decided(already_exists("booking", command.booking_id))
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    days = (command.end_date - command.start_date).days
    list_price_minor = package.base_price_minor * command.quantity * days
    refusal = (
        closed(draft, package, command.start_date, command.end_date)
        or _wrong_party(package, command.party_size)
        or _over_limit(draft, command, limits)
        or wrong_price(package, command.quote, list_price_minor)
        or make_room(draft, package, command.start_date, command.end_date, command.quantity)
    )
    if refusal is not None:
        # Without effect, also on the holds of others: a refused start is tried anew.
        return Decision(refusal, Changes())
    quote = command.quote
    policy = package.cancellation_policy
    if quote is not None and quote.cancellation_policy is not None:
        policy = quote.cancellation_policy
    price_minor = quote.price.minor if quote is not None else list_price_minor
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
    """Takes the seats of several stays, each seeing the ones before, or of none."""
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
    """Gives a live hold its full time again, counted from now; never less than it has."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is State.EXPIRED:
        return draft.decided(hold_expired(booking))
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
    """Something went wrong on the way: the hold is released."""
    return _released(draft, command, State.FAILED, Transition.FAILED)


def complete(draft: Draft, command: CompleteBooking) -> Decision:
    """The form is filled in: the hold now waits for payment."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is State.EXPIRED:
        return draft.decided(hold_expired(booking))
    if booking.state is State.HELD:
        return draft.decided(completed(draft, booking))
    if booking.state in (State.PENDING_PAYMENT, State.CONFIRMED, State.FULFILLED):
        return draft.decided(booking)
    return draft.decided(invalid_transition(booking, "completed"))


def abandon(draft: Draft, command: AbandonBooking) -> Decision:
    """The visitor gave up the hold."""
    return _released(draft, command, State.ABANDONED, Transition.ABANDONED)


def expire_all(draft: Draft, command: ExpireHolds) -> Decision:
    """Ends every known lapsed hold of a package; answers how many."""
    lapsed = draft.lapsed(command.package_id)
    for hold in lapsed:
        expire(draft, hold)
    return draft.decided(len(lapsed))


def fulfil_all(draft: Draft, command: FulfilStays) -> Decision:
    """Ends every known confirmed stay of a package that is over; answers how many."""
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    today = package.today(draft.now)
    over = [stay for stay in draft.stays(command.package_id) if stay.end_date <= today]
    for stay in over:
        fulfilled = replace(stay, state=State.FULFILLED, end_time=draft.now)
        draft.put(fulfilled, Transition.FULFILLED, before=stay)
    return draft.decided(len(over))


def completed(draft: Draft, booking: Booking) -> Booking:
    """The hold after its form was completed."""
    pending = replace(booking, state=State.PENDING_PAYMENT, complete_time=draft.now)
    return draft.put(pending, Transition.COMPLETED, before=booking)


def expire(draft: Draft, hold: Booking) -> Booking:
    """The hold after its time ran out; its seats are free."""
    return draft.end(hold, State.EXPIRED, Transition.EXPIRED, HOLD_EXPIRED)


def make_room(
    draft: Draft, package: Package, start_date: date, end_date: date, quantity: int
) -> Refusal | None:
    """Refuses with SOLD_OUT unless every day has `quantity` units free.

    A lapsed hold never blocks a sale: where a day is short, the lapsed holds on it end first.
    """
    days = list(days_of(start_date, end_date))
    short = _short(draft, package, days, quantity)
    if short:
        for hold in draft.lapsed(package.id):
            if any(hold.start_date <= day < hold.end_date for day in short):
                expire(draft, hold)
        short = _short(draft, package, days, quantity)
    if not short:
        return None
    free = {day: draft.day(package.id, day).free for day in short}
    listed = ",".join(f"{day}={units}" for day, units in free.items())
    return Refusal(
        Reason.SOLD_OUT,
        f"{quantity} wanted on each day, but free are: {listed}",
        {"days": listed, "quantity": str(quantity)},
    )


def closed(draft: Draft, package: Package, start_date: date, end_date: date) -> Refusal | None:
    """Refuses what is not on sale for these dates, or not any more."""
    outside = (package.bookable_from is not None and start_date < package.bookable_from) or (
        package.bookable_until is not None and end_date > package.bookable_until
    )
    if package.status is PackageStatus.CLOSED or outside:
        window = f"[{package.bookable_from or '...'}, {package.bookable_until or '...'})"
        return Refusal(
            Reason.PACKAGE_CLOSED,
            f"package {package.id} is {package.status} and sold for {window}",
            {"status": str(package.status), "window": window},
        )
    closes = package.begins(start_date) - timedelta(seconds=package.cutoff_s)
    if draft.now >= closes:
        return Refusal(
            Reason.PAST_CUTOFF,
            f"selling {start_date} ended at {closes.isoformat()}",
            {"cutoff_time": closes.isoformat()},
        )
    return None


def invalid_transition(booking: Booking, verb: str) -> Refusal:
    return Refusal(
        Reason.INVALID_TRANSITION,
        f"booking {booking.id} is {booking.state} and cannot be {verb}",
        {"state": str(booking.state), "booking_id": str(booking.id)},
    )


def hold_expired(booking: Booking) -> Refusal:
    return Refusal(
        Reason.HOLD_EXPIRED,
        f"the hold of booking {booking.id} ended at {booking.hold_expire_time.isoformat()}",
        {"state": str(booking.state), "booking_id": str(booking.id)},
    )


def _released(
    draft: Draft, command: FailBooking | AbandonBooking, state: State, transition: Transition
) -> Decision:
    """Ends a live hold for the reason given; a repeat gets the booking as it is."""
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.lapsed(draft.now):
        booking = expire(draft, booking)
    if booking.state is state:
        return draft.decided(booking)
    if booking.state not in LIVE:
        return draft.decided(invalid_transition(booking, state.lower()))
    return draft.decided(draft.end(booking, state, transition, command.reason))


def _short(draft: Draft, package: Package, days: Iterable[date], quantity: int) -> list[date]:
    return [day for day in days if draft.day(package.id, day).free < quantity]


def _wrong_party(package: Package, party_size: int) -> Refusal | None:
    if package.min_party_size <= party_size <= package.max_party_size:
        return None
    return Refusal(
        Reason.PARTY_SIZE,
        f"a party of {party_size} is not between {package.min_party_size} and "
        f"{package.max_party_size}",
        {"min": str(package.min_party_size), "max": str(package.max_party_size)},
    )


def _over_limit(draft: Draft, command: StartBooking, limits: Limits) -> Refusal | None:
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


def wrong_price(package: Package, quote: Quote | None, price_minor: int) -> Refusal | None:
    """Refuses a quote that the package does not take, or that is not the list price."""
    if quote is None:
        if package.pricing is Pricing.PER_UNIT_DAY:
            return None
        return Refusal(Reason.QUOTE_REQUIRED, f"package {package.id} is sold at quoted prices", {})
    if quote.price.currency != package.currency:
        return currency_mismatch(quote.price.currency, package.currency)
    if package.pricing is Pricing.QUOTED:
        return None
    if quote.price.minor == price_minor and quote.cancellation_policy is None:
        return None
    return Refusal(
        Reason.PRICE_CHANGED,
        f"the price is {price_minor} {package.currency} in minor units",
        {"price_minor": str(price_minor), "currency": package.currency},
    )


def currency_mismatch(given: str, expected: str) -> Refusal:
    return Refusal(
        Reason.CURRENCY_MISMATCH,
        f"the currency is {expected}, not {given}",
        {"currency": expected},
    )
