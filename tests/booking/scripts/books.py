"""The books of the model: stays, payments and refunds owed, and the figures derived from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

LIVE = ("HELD", "PENDING_PAYMENT")
SEATED = (*LIVE, "CONFIRMED", "FULFILLED")
HOLD = timedelta(minutes=15)
LEASE = timedelta(minutes=5)
MAX_LIVE_HOLDS = 3
MAX_EXTENSIONS = 3

ALLOWED = {
    *(("HELD", end) for end in ("HELD", "PENDING_PAYMENT", "ABANDONED", "EXPIRED", "FAILED")),
    *(("PENDING_PAYMENT", end) for end in ("PENDING_PAYMENT", "CONFIRMED")),
    *(("PENDING_PAYMENT", end) for end in ("ABANDONED", "EXPIRED", "FAILED")),
    *(("CONFIRMED", end) for end in ("CONFIRMED", "FULFILLED", "CANCELLED")),
    ("EXPIRED", "CONFIRMED"),
}
"""The states that may follow each other; a change of dates or of a hold's time keeps the state."""

Outcome = str | int | tuple[object, ...]


@dataclass
class Stay:
    package: int
    user: str
    start: date
    end: date
    quantity: int
    price: int
    expires: datetime
    state: str = "HELD"
    version: int = 1
    extensions: int = 0
    balance: int = 0
    captured: int = 0
    refunded: int = 0
    refund: int | None = None
    reason: str = ""

    def on(self, day: date) -> bool:
        return self.start <= day < self.end

    def figures(self) -> tuple[object, ...]:
        return (
            *(self.state, self.start, self.end, self.price, self.balance, self.captured),
            *(self.refunded, self.refund, self.extensions, self.version, self.reason),
        )


@dataclass
class Paid:
    booking: int
    age: tuple[int, int]
    state: str
    amount: int
    refunded: int = 0

    @property
    def taken(self) -> bool:
        return self.state not in ("AUTHORISED", "FAILED")


@dataclass
class Owed:
    payment: str
    amount: int
    paid: int = 0
    late: bool = False
    # Of those that a command requested by itself, and so may be claimed.
    id: UUID | None = None
    due: datetime | None = None


@dataclass
class Books:
    """Two packages, by number; days without capacity are absent."""

    now: datetime
    prices: list[int]
    capacity: dict[tuple[int, date], int]
    stays: dict[int, Stay] = field(default_factory=dict)
    payments: dict[str, Paid] = field(default_factory=dict)
    owed: list[Owed] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    # Counts groups of commands; payments first reported in one group are ordered by their rows.
    turn: int = 0

    def figures(self) -> tuple[object, ...]:
        held = {key: self._seats(*key, LIVE) for key in self.capacity}
        sold = {key: self._seats(*key, ("CONFIRMED", "FULFILLED")) for key in self.capacity}
        return (
            {key: (*stay.figures(), self.asked(key)) for key, stay in self.stays.items()},
            {key: (self.capacity[key], held[key], sold[key]) for key in self.capacity},
            {key: (paid.state, paid.amount, paid.refunded) for key, paid in self.payments.items()},
            sorted((o.payment, o.amount, o.paid, o.paid == o.amount) for o in self.owed),
        )

    def due(self, booking: int) -> int | None:
        """The amount that a payment of a booking must have; None where no payment is expected."""
        stay = self.stays[booking]
        if stay.state in (*LIVE, "EXPIRED"):
            return stay.price
        return stay.balance or None

    def asked(self, booking: int) -> int:
        """What was requested to be paid back of the money that a booking accepted."""
        of = [o for o in self.owed if self.payments[o.payment].booking == booking]
        return sum(o.amount for o in of if not o.late)

    def refundable(self, payment: str) -> int:
        paid = self.payments[payment]
        if not paid.taken:
            return 0
        asked = sum(o.amount - o.paid for o in self.owed if o.payment == payment)
        return max(0, paid.amount - paid.refunded - asked)

    def _seats(self, package: int, day: date, states: tuple[str, ...]) -> int:
        return sum(
            stay.quantity
            for stay in self.stays.values()
            if stay.package == package and stay.state in states and stay.on(day)
        )

    def _lapsed(self, stay: Stay) -> bool:
        return stay.state in LIVE and stay.expires <= self.now

    def _over(self, stay: Stay) -> bool:
        return midnight(stay.end) <= self.now

    def _of(self, booking: int) -> list[str]:
        mine = [key for key, paid in self.payments.items() if paid.booking == booking]
        return sorted(mine, key=lambda key: self.payments[key].age)


def days_from(start: date, nights: int) -> Iterator[date]:
    return (start + timedelta(n) for n in range(nights))


def midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
