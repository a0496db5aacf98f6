"""Bookings and money, from facts only. Later payments and refunds correct the slot of their
booking's confirmation; sums are kept per currency and never mixed.
"""

from __future__ import annotations

import sys
from typing import ClassVar, Final, Self

from metrics_service.measure.sketch import Sketch
from metrics_service.measure.sums import MAX_SUM, clamped
from metrics_service.state.breakdown.breakdown import BreakdownFold
from metrics_service.state.breakdown.packages import Groups
from metrics_service.state.series.kind import Kind
from metrics_service.state.series.rings import Rings
from protos.metrics.v1 import checkpoint_pb2
from protos.tracking.v1 import event_pb2

# Per slot; bookings of further packages are counted in one sum.
MAX_PACKAGES: Final = 500
MAX_MERGED_PACKAGES: Final = 10 * MAX_PACKAGES
"""Of a sum of slots, each with packages of its own."""
# More codes than ISO 4217 has; amounts in further codes are not kept, as they cannot be added.
MAX_CURRENCIES: Final = 250

_Transition = event_pb2.BookingFact

# The sum of a currency that a payment changes. CAPTURED changes none: its amount arrives with the
# CONFIRMED that it causes.
_GROSS, _REFUNDED = 1, 2
_MOVED_SUMS: Final = {
    event_pb2.PaymentFact.BALANCE_CAPTURED: _GROSS,
    event_pb2.PaymentFact.REFUNDED: _REFUNDED,
}


class Attempts:
    """The bookings of a slot, as BusinessCell has them."""

    __slots__ = (
        "abandoned",
        "cancelled",
        "completed",
        "confirmed",
        "expired",
        "form_abandoned",
        "started",
        "views",
    )

    def __init__(self) -> None:
        self.started = 0
        self.completed = 0
        self.confirmed = 0
        self.cancelled = 0
        self.abandoned = 0
        self.expired = 0
        self.form_abandoned = 0
        self.views = 0

    def merge(self, other: Attempts, sign: int = 1) -> None:
        self.started += sign * other.started
        self.completed += sign * other.completed
        self.confirmed += sign * other.confirmed
        self.cancelled += sign * other.cancelled
        self.abandoned += sign * other.abandoned
        self.expired += sign * other.expired
        self.form_abandoned += sign * other.form_abandoned
        self.views += sign * other.views

    def read(self, message: checkpoint_pb2.BusinessCell) -> Self:
        """Take the numbers of a message."""
        self.started = message.started
        self.completed = message.completed
        self.confirmed = message.confirmed
        self.cancelled = message.cancelled
        self.abandoned = message.abandoned
        self.expired = message.expired
        self.form_abandoned = message.form_abandoned
        self.views = message.views
        return self

    @classmethod
    def decode(cls, data: bytes) -> Self:
        return cls().read(checkpoint_pb2.BusinessCell.FromString(data))


ATTEMPTS: Final = Kind(Attempts, Attempts.decode)


class BusinessCell(Attempts):
    """The business figures of one slot.

    started, form_abandoned: by when the hold began. confirmed, revenue: by when the booking was
    first confirmed, whenever the money moved. booking_time_us: Start to Complete. views: of
    packages. These and the others: by when they happened.
    revenue: [confirmed, gross, refunded] by currency; packages: [confirmed, cancelled] by id.
    """

    __slots__ = ("booking_time_us", "other_packages", "packages", "revenue")
    max_packages: ClassVar = MAX_PACKAGES

    def __init__(self) -> None:
        super().__init__()
        self.revenue: dict[str, list[int]] = {}
        self.packages: dict[str, list[int]] = {}
        self.other_packages = [0, 0]
        self.booking_time_us = Sketch()

    def of_package(self, package_id: str, most: int | None = None) -> list[int]:
        """Return [confirmed, cancelled] of a package, or of the rest once there are `most`, by
        default max_packages.
        """
        counts = self.packages.get(package_id)
        if counts is None:
            if len(self.packages) >= (most or self.max_packages):
                return self.other_packages
            counts = self.packages[package_id] = [0, 0]
        return counts

    def of_currency(self, currency: str) -> list[int]:
        """Return [confirmed, gross, refunded] of a currency."""
        sums = self.revenue.get(currency)
        if sums is None:
            sums = self.revenue[currency] = [0, 0, 0]
        return sums

    def merge(self, other: Self) -> None:  # type: ignore[override]  # Adds up with its like only.
        self._add(other, MAX_MERGED_PACKAGES)

    def take(self, late: Self) -> None:
        self._add(late, self.max_packages)

    def _add(self, other: Self, most: int) -> None:
        super().merge(other)
        for currency, theirs in other.revenue.items():
            _add(self.revenue.setdefault(currency, [0, 0, 0]), theirs)
        for package_id, (confirmed, cancelled) in other.packages.items():
            counts = self.of_package(package_id, most)
            counts[0] += confirmed
            counts[1] += cancelled
        self.other_packages[0] += other.other_packages[0]
        self.other_packages[1] += other.other_packages[1]
        self.booking_time_us.merge(other.booking_time_us)

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.BusinessCell."""
        return checkpoint_pb2.BusinessCell(
            started=self.started,
            completed=self.completed,
            confirmed=self.confirmed,
            cancelled=self.cancelled,
            abandoned=self.abandoned,
            expired=self.expired,
            form_abandoned=self.form_abandoned,
            views=self.views,
            revenue=[
                checkpoint_pb2.RevenueCell(
                    currency=currency,
                    confirmed=sums[0],
                    gross_minor=sums[1],
                    refunded_minor=sums[2],
                )
                for currency, sums in sorted(self.revenue.items())
            ],
            packages=[
                checkpoint_pb2.PackageCell(
                    package_id=package_id, confirmed=confirmed, cancelled=cancelled
                )
                for package_id, (confirmed, cancelled) in sorted(self.packages.items())
            ],
            other_packages=checkpoint_pb2.PackageCell(
                confirmed=self.other_packages[0], cancelled=self.other_packages[1]
            ),
            booking_time_us=self.booking_time_us.to_proto(),
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.BusinessCell.FromString(data)
        cell = cls().read(message)
        cell.revenue = {
            sums.currency: [sums.confirmed, sums.gross_minor, sums.refunded_minor]
            for sums in message.revenue
        }
        cell.packages = {
            counts.package_id: [counts.confirmed, counts.cancelled] for counts in message.packages
        }
        rest = message.other_packages
        cell.other_packages = [rest.confirmed, rest.cancelled]
        cell.booking_time_us = Sketch.from_proto(message.booking_time_us)
        return cell


class LateBusinessCell(BusinessCell):
    """Late figures of one slot, with every package: the bound is that of the slot."""

    __slots__ = ()
    max_packages = sys.maxsize


class BusinessFold:
    """Business figures by time."""

    def __init__(self, breakdown: BreakdownFold | None = None) -> None:
        self._breakdown = breakdown or BreakdownFold()
        self.rings = Rings("business", BusinessCell, BusinessCell.decode, new_late=LateBusinessCell)
        self.evicted_currencies = 0

    def count_booking(self, fact: event_pb2.BookingFact, time_us: int, groups: Groups = ()) -> None:
        """Count one transition of one booking of a group, which happened at time_us.

        EXTENDED and FULFILLED change no figure. Neither does RESCHEDULED: the booking was counted
        when it was confirmed, and the price difference arrives with payments.
        """
        transition = fact.transition
        if transition == _Transition.STARTED:
            for cell in self.rings.at(fact.hold_time_us or time_us):
                cell.started += 1
        elif transition == _Transition.COMPLETED:
            for cell in self.rings.at(time_us):
                cell.completed += 1
        elif transition == _Transition.CONFIRMED:
            self._confirmed(fact, time_us, groups)
        elif transition == _Transition.CANCELLED:
            package_id = fact.package_id
            for cell in self.rings.at(time_us):
                cell.cancelled += 1
                cell.of_package(package_id)[1] += 1
        elif transition in (_Transition.ABANDONED, _Transition.EXPIRED):
            abandoned = transition == _Transition.ABANDONED
            for cell in self.rings.at(time_us):
                cell.abandoned += abandoned
                cell.expired += not abandoned
            for cell in self.rings.at(fact.hold_time_us or time_us):
                cell.form_abandoned += 1

    def count_view(self, time_us: int) -> None:
        """Count a view of a package."""
        for cell in self.rings.at(time_us):
            cell.views += 1

    def count_payment(self, fact: event_pb2.PaymentFact, groups: Groups = ()) -> None:
        """Count a captured balance or a completed refund of a confirmed booking of a group."""
        moved = _MOVED_SUMS.get(fact.kind)
        if moved is None or not fact.confirm_time_us:
            return
        currency, amount_minor = fact.currency, fact.amount_minor
        if self._keeps(currency):
            for cell in self.rings.at(fact.confirm_time_us):
                sums = cell.of_currency(currency)
                sums[moved] = clamped(sums[moved] + amount_minor)
            money = (0, amount_minor, 0) if moved == _GROSS else (0, 0, amount_minor)
            self._breakdown.count_money(groups, currency, money, fact.confirm_time_us)

    def count_booking_time(self, time_us: int, duration_us: int) -> None:
        """Count a booking that took duration_us from Start to Complete, completed at time_us."""
        for cell in self.rings.at(time_us):
            cell.booking_time_us.add(duration_us)

    def evicted(self) -> dict[str, int]:
        """Return what did not fit: bookings of further packages, amounts in further currencies."""
        return {
            "packages": sum(self.rings.total.other_packages),
            "currencies": self.evicted_currencies,
        }

    def _confirmed(self, fact: event_pb2.BookingFact, time_us: int, groups: Groups) -> None:
        package_id, currency, amount_minor = fact.package_id, fact.currency, fact.amount_minor
        keeps_currency = self._keeps(currency)
        confirmed_us = fact.confirm_time_us or time_us
        for cell in self.rings.at(confirmed_us):
            cell.confirmed += 1
            counts = cell.packages.get(package_id) or cell.of_package(package_id)
            counts[0] += 1
            if keeps_currency:
                sums = cell.revenue.get(currency) or cell.of_currency(currency)
                sums[0] += 1
                gross = sums[_GROSS] + amount_minor
                sums[_GROSS] = gross if gross <= MAX_SUM else MAX_SUM
        if keeps_currency:
            self._breakdown.count_money(groups, currency, (1, amount_minor, 0), confirmed_us)

    def _keeps(self, currency: str) -> bool:
        revenue = self.rings.total.revenue
        if currency in revenue or len(revenue) < MAX_CURRENCIES:
            return True
        self.evicted_currencies += 1
        return False


def _add(mine: list[int], theirs: list[int]) -> None:
    for index, value in enumerate(theirs):
        mine[index] = clamped(mine[index] + value)
