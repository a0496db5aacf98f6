"""Random scripts of booking commands: each step as a command, with the outcome that the model
expects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

from booking_service.domain.booking import Booking, Payment, PaymentKind, PaymentState, Refund
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CapacityRange,
    ClaimRefunds,
    Command,
    CompleteBooking,
    ConfirmBooking,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    FulfilStays,
    ReconcileInventory,
    RecordPayment,
    RefundPayment,
    RefundToClaim,
    RescheduleBooking,
    SetCapacity,
    StartBatch,
    StartBooking,
    UpdatePackage,
)
from booking_service.domain.holds import Limits
from booking_service.domain.money import Money
from booking_service.domain.package import PackageDraft, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.domain.recount import Reconciliation
from booking_service.domain.refusal import Refusal
from booking_service.domain.world import Answer
from tests.booking.scripts.books import LEASE, MAX_EXTENSIONS, MAX_LIVE_HOLDS, Outcome, days_from
from tests.booking.scripts.model import Model
from tests.booking.scripts.steps import NIGHTS, Step

NOW = datetime(2026, 4, 28, 12, tzinfo=UTC)
DAY = date(2026, 5, 1)
PRICE = 1001
LIMITS = Limits(MAX_LIVE_HOLDS, False, MAX_EXTENSIONS)

# No sum of these is the length of a hold: the exact end of a hold has other tests.
_CLOCK = (timedelta(minutes=7), timedelta(minutes=16), timedelta(hours=23), timedelta(hours=53))

ALONE = frozenset({"stay", "cancel", "refund", "reschedule", "clock"})
"""Steps in a group of one: refunds of one instant have no order that the model could predict."""


@dataclass
class Planned:
    """A command, its expected outcome, and whether a repeat must get the same answer."""

    command: Command
    expected: Outcome
    kept: bool
    at: datetime


class Script:
    """Two packages, the commands of the steps, and the model that they are compared with."""

    def __init__(self) -> None:
        self.vendor_id = uuid4()
        self.packages = [uuid4(), uuid4()]
        self.bookings: list[UUID] = []
        self.rows: dict[str, UUID] = {}
        # Each script has other users, because their limits span packages.
        self.tag = str(self.vendor_id)
        days = {(package, day): 3 for package in (0, 1) for day in days_from(DAY, NIGHTS)}
        self.model = Model(NOW, [PRICE, PRICE], days)

    def draft(self, package: int) -> PackageDraft:
        return PackageDraft(
            id=self.packages[package],
            vendor_id=self.vendor_id,
            title="Room",
            type="hotel_room",
            location="Reykjavik",
            time_zone="UTC",
            status=PackageStatus.ACTIVE,
            bookable_from=None,
            bookable_until=None,
            base_price_minor=PRICE,
            currency="KWD",
            pricing=Pricing.PER_UNIT_DAY,
            min_party_size=1,
            max_party_size=9,
            cutoff_s=0,
            hold_ttl_s=900,
            cancellation_policy=CancellationPolicy((Tier(86_400, 9_000), Tier(0, 5_000))),
        )

    def plan(self, step: Step, *, known: int | None = None) -> Planned | None:
        """Return the command of a step, after the model has taken it; None where it has no meaning
        yet.

        A step concerns only the first `known` bookings.
        """
        name, values = step
        before, owed = self.model.figures(), len(self.model.owed)
        made = (
            self._claim(values[0])
            if name == "claim"
            else self._catalogue(name, values) or self._stays(name, values, known)
        )
        if made is None:
            return None
        command, expected = made
        if isinstance(command, RefundPayment | ConfirmBooking | RecordPayment):
            for each in self.model.owed[owed:]:
                each.id = command.refund_row_id
        kept = not isinstance(expected, str) or self.model.figures() != before
        if name in ("captured", "attempt", "paid_back") and expected in _PAYMENT_STATES:
            kept = True
        return Planned(command, expected, kept, self.model.now)

    def expand(self, script: Iterable[Step]) -> list[Step]:
        """Replace steps that stand for several commands by these."""
        plain: list[Step] = []
        for step in script:
            if step[0] == "stay":
                plain += [("start", step[1]), ("complete", (-1,)), ("captured", (-1, 0, 0))]
            elif step[0] == "claim":
                # By two claimers, one after the other or in one group.
                plain += [step, step]
            else:
                plain.append(step)
        return plain

    def clock(self, which: int) -> None:
        self.model.now += _CLOCK[which]

    def observed(
        self,
        bookings: Iterable[Booking],
        days: dict[tuple[UUID, date], tuple[int, int, int]],
        payments: Iterable[Payment],
        refunds: Iterable[Refund],
    ) -> tuple[object, ...]:
        """What the service stores, in the terms of the model."""
        numbers = {booking_id: n for n, booking_id in enumerate(self.bookings)}
        paid = {payment.id: payment for payment in payments}
        return (
            {
                numbers[b.id]: (
                    *(str(b.state), b.start_date, b.end_date, b.price_minor, b.balance_due_minor),
                    *(b.captured_minor, b.refunded_minor, b.refund_minor, b.extensions, b.version),
                    *(b.end_reason, b.refund_requested_minor),
                )
                for b in bookings
            },
            {(self.packages.index(package), day): units for (package, day), units in days.items()},
            {p.payment_id: (str(p.state), p.amount_minor, p.refunded_minor) for p in paid.values()},
            sorted(
                (r.provider_payment_id, r.amount_minor, r.paid_out_minor, r.state == "COMPLETED")
                for r in refunds
            ),
        )

    def _catalogue(self, name: str, values: tuple[int, ...]) -> tuple[Command, Outcome] | None:
        model = self.model
        if name not in ("expire", "fulfil", "reconcile", "capacity", "price"):
            return None
        package, package_id = values[0], self.packages[values[0]]
        match name:
            case "expire":
                return ExpireHolds(package_id), model.expire(package)
            case "fulfil":
                return FulfilStays(package_id), model.fulfil(package)
            case "reconcile":
                return ReconcileInventory(package_id, repair=True), ("drifts", 0)
            case "capacity":
                start, nights = DAY + timedelta(values[1]), values[2]
                days = CapacityRange(start, start + timedelta(nights), values[3])
                outcome = model.set_capacity(package, start, nights, values[3])
                return SetCapacity(package_id, (days,)), outcome
            case _:
                model.prices[package] = PRICE + values[1]
                changes = {"base_price_minor": PRICE + values[1]}
                return UpdatePackage(package_id, changes, ""), ("price", PRICE + values[1])

    def _stays(
        self, name: str, values: tuple[int, ...], known: int | None
    ) -> tuple[Command, Outcome] | None:
        model = self.model
        if name == "start":
            return self._start(values)
        if name == "batch":
            return self._batch(values)
        count = len(self.bookings) if known is None else known
        # A refused start has a booking id and no booking.
        there = [n for n in range(count) if n in model.stays]
        if not there:
            return None
        booking = there[-1] if values[0] < 0 else there[values[0] % len(there)]
        booking_id = self.bookings[booking]
        match name:
            case "complete":
                return CompleteBooking(booking_id), model.complete(booking)
            case "extend":
                return ExtendHold(booking_id), model.extend(booking)
            case "abandon":
                return AbandonBooking(booking_id, "left"), model.give_up(booking, "ABANDONED")
            case "fail":
                return FailBooking(booking_id, "TIMEOUT"), model.give_up(booking, "FAILED")
            case "cancel":
                return CancelBooking(booking_id, "ill", uuid4()), model.cancel(booking)
            case "reschedule":
                start, nights = DAY + timedelta(values[1]), values[2]
                command = RescheduleBooking(
                    booking_id, start, start + timedelta(nights), None, uuid4()
                )
                return command, model.reschedule(booking, start, nights)
            case _:
                return self._pay(name, values, booking)

    def _claim(self, which: int) -> tuple[Command, Outcome] | None:
        owed = [each for each in self.model.owed if each.id is not None]
        if not owed:
            return None
        chosen = owed[which % len(owed)]
        booking = self.model.payments[chosen.payment].booking
        package_id = self.packages[self.model.stays[booking].package]
        assert chosen.id is not None
        wanted = RefundToClaim(chosen.id, self.bookings[booking], package_id)
        lease_s = int(LEASE.total_seconds())
        return ClaimRefunds((wanted,), lease_s), self.model.claim(chosen)

    def _start(self, values: tuple[int, ...]) -> tuple[Command, Outcome]:
        command, start = self._one_start(values)
        return command, self.model.start(*start)

    def _batch(self, values: tuple[int, ...]) -> tuple[Command, Outcome]:
        commands, starts = zip(*map(self._one_start, (values[:5], values[5:])), strict=True)
        return StartBatch(commands), self.model.batch(list(starts))

    def _one_start(
        self, values: tuple[int, ...]
    ) -> tuple[StartBooking, tuple[int, int, str, date, int, int]]:
        package, user, offset, nights, quantity = values
        start, units = DAY + timedelta(offset), 1 + quantity % 3
        self.bookings.append(uuid4())
        command = StartBooking(
            booking_id=self.bookings[-1],
            package_id=self.packages[package],
            user_id=f"{self.tag}/{user}",
            session_id="",
            start_date=start,
            end_date=start + timedelta(nights),
            quantity=units,
            party_size=1,
            quote=None,
        )
        return command, (len(self.bookings) - 1, package, str(user), start, nights, units)

    def _pay(
        self, name: str, values: tuple[int, ...], booking: int
    ) -> tuple[Command, Outcome] | None:
        model, stay = self.model, self.model.stays[booking]
        _, which, amount = values[:3]
        # Usually the first payment of the booking; the last value is a payment of another booking.
        payment = f"{self.tag}/{0 if which == 5 else booking}/{max(0, which - 2) % 3}"
        wanted = model.due(booking)
        minor = (stay.price if wanted is None else wanted) + (amount == 7)
        row = self.rows.setdefault(payment, uuid4())
        booking_id, owed_id = self.bookings[booking], uuid4()

        def record(kind: PaymentKind, minor: int, refund_id: str = "") -> RecordPayment:
            return RecordPayment(
                *(booking_id, "stripe", payment, kind, Money(minor, "KWD"), refund_id, "", row),
                refund_row_id=owed_id,
            )

        match name:
            case "confirm":
                command = ConfirmBooking(
                    booking_id, "stripe", payment, Money(minor, "KWD"), row, owed_id
                )
                return command, model.confirm(booking, payment, minor, row.int)
            case "captured":
                outcome = model.captured(booking, payment, minor, row.int)
                return record(PaymentKind.CAPTURED, minor), outcome
            case "attempt":
                kind = PaymentKind.FAILED if values[3] else PaymentKind.AUTHORISED
                outcome = model.attempted(booking, payment, minor, row.int, str(kind))
                return record(kind, minor), outcome
            case "paid_back":
                part = max(1, stay.price * amount // 6)
                outcome = model.paid_back(booking, payment, part, f"re-{amount}")
                return record(PaymentKind.REFUNDED, part, f"re-{amount}"), outcome
            case _:
                paid = model.payments.get(payment)
                if paid is None:
                    return None
                part = max(1, model.refundable(payment) * amount // 6)
                refund = RefundPayment(
                    self.bookings[paid.booking], row, Money(part, "KWD"), "", owed_id
                )
                return refund, model.refund(payment, part)


_PAYMENT_STATES = frozenset(map(str, PaymentState))


def summary(outcome: Answer | Refusal) -> Outcome:
    """An outcome in the terms of the model."""
    match outcome:
        case Refusal():
            return str(outcome.reason)
        case Booking():
            return str(outcome.state), outcome.version
        case Payment():
            return str(outcome.state)
        case Refund():
            return outcome.amount_minor
        case Reconciliation():
            return "drifts", len(outcome.drifts)
        case int():
            return outcome
        case tuple():
            return tuple(summary(each) for each in outcome)
        case _:
            return "price", getattr(outcome, "base_price_minor", None)
