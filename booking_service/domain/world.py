"""What a group of commands knows of the database, and the changes that it makes.

The shell loads a `World` under the package locks; each command drafts its changes over it, and only
a complete draft is merged back. Nothing else may modify a World.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final
from uuid import UUID

from booking_service.domain.booking import (
    LIVE,
    Booking,
    BookingEvent,
    Event,
    Payment,
    PaymentEffect,
    PaymentEvent,
    PaymentEventKey,
    PaymentSeen,
    Refund,
    State,
    Transition,
)
from booking_service.domain.catalog_events import CatalogEvent
from booking_service.domain.inventory import Day, days_of
from booking_service.domain.package import Package, Vendor
from booking_service.domain.profile import UserProfile
from booking_service.domain.recount import Reconciliation, Recount
from booking_service.domain.refusal import Refusal
from booking_service.domain.review import Review

NO_DAY: Final = Day()


@dataclass(slots=True)
class Changes:
    """Values after a change, by key, and the events in their order."""

    vendors: dict[UUID, Vendor] = field(default_factory=dict)
    packages: dict[UUID, Package] = field(default_factory=dict)
    days: dict[tuple[UUID, date], Day] = field(default_factory=dict)
    bookings: dict[UUID, Booking] = field(default_factory=dict)
    payments: dict[tuple[str, str], Payment] = field(default_factory=dict)
    refunds: dict[UUID, Refund] = field(default_factory=dict)
    payments_seen: dict[PaymentEventKey, PaymentSeen] = field(default_factory=dict)
    reviews: dict[UUID, Review] = field(default_factory=dict)
    profiles: dict[str, UserProfile] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    catalog_events: list[CatalogEvent] = field(default_factory=list)

    def merge(self, later: Changes) -> None:
        """Put later changes on top of these."""
        self.vendors |= later.vendors
        self.packages |= later.packages
        self.days |= later.days
        self.bookings |= later.bookings
        self.payments |= later.payments
        self.refunds |= later.refunds
        self.payments_seen |= later.payments_seen
        self.reviews |= later.reviews
        self.profiles |= later.profiles
        self.events += later.events
        self.catalog_events += later.catalog_events

    def __bool__(self) -> bool:
        return bool(
            self.vendors
            or self.packages
            or self.days
            or self.bookings
            or self.payments
            or self.refunds
            or self.payments_seen
            or self.reviews
            or self.profiles
        )


@dataclass(slots=True)
class World(Changes):
    """What is stored, with the changes made so far on top.

    Complete for the locked packages as far as their commands need: the packages and days that they
    name, the bookings that they name with all payments and refunds, lapsed holds that overlap the
    requested days, and the live holds of the users who start bookings. `more_lapsed` are the
    packages with more such lapsed holds than are known here. Reviews are by booking.
    `recounts` are by package and first day, as ReconcileInventory names them.
    """

    recounts: dict[tuple[UUID, date], Recount] = field(default_factory=dict)
    more_lapsed: set[UUID] = field(default_factory=set)
    user_holds: dict[str, dict[UUID, None]] = field(default_factory=dict)
    package_holds: dict[UUID, dict[UUID, None]] = field(default_factory=dict)

    def merge(self, later: Changes) -> None:
        """Put loaded values or later changes on top of these."""
        self._recount(later.bookings)
        # Called by name: super() without arguments does not work with slots=True.
        Changes.merge(self, later)
        if isinstance(later, World):
            self.more_lapsed |= later.more_lapsed
            self.recounts |= {
                key: replace(recount, days=dict(recount.days))
                for key, recount in later.recounts.items()
            }
        for booking in later.bookings.values():
            if booking.state in LIVE:
                self.user_holds.setdefault(booking.user_id, {})[booking.id] = None
                self.package_holds.setdefault(booking.package_id, {})[booking.id] = None

    def _recount(self, changed: dict[UUID, Booking]) -> None:
        """Update the recounts by bookings that changed after the recounts were made."""
        for (package_id, _), recount in self.recounts.items():
            for after in changed.values():
                if after.package_id == package_id:
                    recount.count(self.bookings.get(after.id), -1)
                    recount.count(after, 1)


Answer = (
    Vendor
    | Package
    | Booking
    | Payment
    | Refund
    | Review
    | UserProfile
    | Reconciliation
    | tuple[Booking, ...]
    | tuple[Payment, ...]
    | tuple[Refund, ...]
    | int
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a command: an answer or a refusal, either with changes."""

    outcome: Answer | Refusal
    changes: Changes


class Draft:
    """The changes of one command, visible to it at once and to others only when merged.

    `lacks_holds` is set where unknown lapsed holds might have made room.
    """

    def __init__(self, world: World, now: datetime) -> None:
        self.now = now
        self.changes = Changes()
        self.lacks_holds = False
        self._world = world

    def decided(self, outcome: Answer | Refusal) -> Decision:
        return Decision(outcome, self.changes)

    def vendor(self, vendor_id: UUID) -> Vendor | None:
        return self._world.vendors.get(vendor_id)

    def package(self, package_id: UUID) -> Package | None:
        return self._world.packages.get(package_id)

    def package_of(self, booking: Booking) -> Package:
        """Return the package of a known booking: the two are locked together."""
        return self._world.packages[booking.package_id]

    def booking(self, booking_id: UUID) -> Booking | None:
        return self.changes.bookings.get(booking_id) or self._world.bookings.get(booking_id)

    def day(self, package_id: UUID, day: date) -> Day:
        key = package_id, day
        return self.changes.days.get(key) or self._world.days.get(key, NO_DAY)

    def payment(self, provider: str, payment_id: str) -> Payment | None:
        key = provider, payment_id
        return self.changes.payments.get(key) or self._world.payments.get(key)

    def payments_of(self, booking_id: UUID) -> list[Payment]:
        """Return the payments of a booking, oldest first."""
        merged = self._world.payments | self.changes.payments
        mine = [payment for payment in merged.values() if payment.booking_id == booking_id]
        return sorted(mine, key=lambda payment: (payment.create_time, payment.id))

    def refund(self, refund_id: UUID) -> Refund | None:
        return self.changes.refunds.get(refund_id) or self._world.refunds.get(refund_id)

    def refunds_of(self, payment_row_id: UUID) -> list[Refund]:
        """Return the refunds of a payment, oldest first."""
        merged = self._world.refunds | self.changes.refunds
        mine = [refund for refund in merged.values() if refund.payment_id == payment_row_id]
        return sorted(mine, key=lambda refund: (refund.create_time, refund.id))

    def review_of(self, booking_id: UUID) -> Review | None:
        return self._world.reviews.get(booking_id)

    def profile(self, user_id: str) -> UserProfile | None:
        return self._world.profiles.get(user_id)

    def recount(self, package_id: UUID, start_date: date) -> Recount:
        """Return days of a package to reconcile, as computed from its bookings."""
        return self._world.recounts[package_id, start_date]

    def seen(self, key: PaymentEventKey) -> bool:
        return key in self._world.payments_seen

    def holds_of_user(self, user_id: str) -> Iterator[Booking]:
        """Yield the known bookings of a user that hold seats, lapsed or not."""
        stored = self._world.user_holds.get(user_id, {})
        drafted = {
            booking_id: None
            for booking_id, booking in self.changes.bookings.items()
            if booking.user_id == user_id
        }
        return self._live(stored | drafted)

    def lapsed(self, package_id: UUID) -> list[Booking]:
        """Return the known bookings of a package whose hold has run out."""
        holds = self._live(self._world.package_holds.get(package_id, ()))
        return [hold for hold in holds if hold.lapsed(self.now)]

    def has_more_lapsed(self, package_id: UUID) -> bool:
        """Whether a package has more lapsed holds than are known."""
        return package_id in self._world.more_lapsed

    def stays(self, package_id: UUID) -> list[Booking]:
        """Return the known confirmed bookings of a package."""
        return [
            booking
            for booking in self._world.bookings.values()
            if booking.package_id == package_id and booking.state is State.CONFIRMED
        ]

    def payment_row(self, payment_row_id: UUID) -> Payment | None:
        for payments in (self.changes.payments, self._world.payments):
            for payment in payments.values():
                if payment.id == payment_row_id:
                    return payment
        return None

    def take(self, booking: Booking, *, held: int = 0, confirmed: int = 0) -> None:
        """Change the seats of every day of a booking; negative numbers free them."""
        for day in days_of(booking.start_date, booking.end_date):
            self.changes.days[booking.package_id, day] = self.day(booking.package_id, day).changed(
                held=held, confirmed=confirmed
            )

    def put(self, booking: Booking, transition: Transition, *, before: Booking | None) -> Booking:
        """Store a booking after a transition, with its new version, time and event."""
        if before is not None:
            booking = replace(booking, version=before.version + 1, update_time=self.now)
        self.changes.bookings[booking.id] = booking
        from_state = before.state if before is not None else None
        self.changes.events.append(BookingEvent(transition, from_state, booking))
        return booking

    def end(self, before: Booking, state: State, transition: Transition, reason: str) -> Booking:
        """End a hold and free its seats."""
        self.take(before, held=-before.quantity)
        ended = replace(before, state=state, end_time=self.now, end_reason=reason)
        return self.put(ended, transition, before=before)

    def put_payment(
        self,
        payment: Payment,
        effect: PaymentEffect,
        booking: Booking,
        amount_minor: int,
        *,
        is_revenue: bool = True,
        refund_id: str = "",
    ) -> Payment:
        """Store a payment after a change, with its event."""
        self.changes.payments[payment.key] = payment
        event = PaymentEvent(effect, payment, booking, amount_minor, is_revenue, refund_id)
        self.changes.events.append(event)
        return payment

    def _live(self, booking_ids: Iterable[UUID]) -> Iterator[Booking]:
        for booking_id in booking_ids:
            booking = self.booking(booking_id)
            if booking is not None and booking.state in LIVE:
                yield booking
