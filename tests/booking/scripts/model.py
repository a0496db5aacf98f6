"""The expected behaviour of bookings, written a second time and as plainly as possible.

It shares no rule with the service: seats are counted from the bookings whenever they are needed,
and money is summed where it is needed. An outcome is a reason, or a summary of the answer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import date, timedelta

from tests.booking.scripts.books import (
    HOLD,
    LEASE,
    LIVE,
    MAX_EXTENSIONS,
    MAX_LIVE_HOLDS,
    SEATED,
    Books,
    Outcome,
    Owed,
    Paid,
    Stay,
    days_from,
    midnight,
)


@dataclass
class Model(Books):
    """The books, and what each command does to them."""

    def start(
        self, booking: int, package: int, user: str, start: date, nights: int, quantity: int
    ) -> Outcome:
        end = start + timedelta(nights)
        if booking in self.stays:
            return "ALREADY_EXISTS"
        if self.now >= midnight(start):
            return "PAST_CUTOFF"
        mine = [s for s in self.stays.values() if s.user == user and s.state in LIVE]
        if sum(not self._lapsed(s) for s in mine) >= MAX_LIVE_HOLDS:
            return "HOLD_LIMIT"
        if not self._room(package, start, end, quantity, expire=False):
            return "SOLD_OUT"
        self._room(package, start, end, quantity, expire=True)
        price = self.prices[package] * nights * quantity
        stay = Stay(package, user, start, end, quantity, price, self.now + HOLD)
        self.stays[booking] = stay
        return self._summary(stay)

    def batch(self, starts: list[tuple[int, int, str, date, int, int]]) -> Outcome:
        before = copy.deepcopy((self.stays, self.owed))
        outcomes = []
        for start in starts:
            outcome = self.start(*start)
            if isinstance(outcome, str):
                self.stays, self.owed = before
                return outcome
            outcomes.append(outcome)
        return tuple(outcomes)

    def extend(self, booking: int) -> Outcome:
        stay = self._met(booking)
        if stay.state == "EXPIRED":
            return "HOLD_EXPIRED"
        if stay.state not in LIVE:
            return "INVALID_TRANSITION"
        if stay.extensions == MAX_EXTENSIONS:
            return "EXTEND_LIMIT"
        stay.extensions += 1
        stay.expires = self.now + HOLD
        return self._becomes(stay, stay.state)

    def complete(self, booking: int) -> Outcome:
        stay = self._met(booking)
        if stay.state == "EXPIRED":
            return "HOLD_EXPIRED"
        if stay.state == "HELD":
            return self._becomes(stay, "PENDING_PAYMENT")
        if stay.state in ("PENDING_PAYMENT", "CONFIRMED", "FULFILLED"):
            return self._summary(stay)
        return "INVALID_TRANSITION"

    def give_up(self, booking: int, state: str) -> Outcome:
        """`state` is ABANDONED or FAILED."""
        stay = self._met(booking)
        if stay.state == state:
            return self._summary(stay)
        if stay.state not in LIVE:
            return "INVALID_TRANSITION"
        return self._becomes(stay, state, {"ABANDONED": "left", "FAILED": "TIMEOUT"}[state])

    def expire(self, package: int) -> Outcome:
        lapsed = [s for s in self.stays.values() if s.package == package and self._lapsed(s)]
        for stay in lapsed:
            self._becomes(stay, "EXPIRED")
        return len(lapsed)

    def fulfil(self, package: int) -> Outcome:
        over = [
            stay
            for stay in self.stays.values()
            if (stay.package, stay.state) == (package, "CONFIRMED") and self._over(stay)
        ]
        for stay in over:
            self._becomes(stay, "FULFILLED")
        return len(over)

    def confirm(self, booking: int, payment: str, amount: int, row: int) -> Outcome:
        stay = self.stays[booking]
        if payment in self.payments and self.payments[payment].state == "FAILED":
            return "PAYMENT_DECLINED"
        refusal = self._capture(booking, payment, amount, row)
        return refusal or self._summary(stay)

    def captured(self, booking: int, payment: str, amount: int, row: int) -> Outcome:
        return self._capture(booking, payment, amount, row) or self.payments[payment].state

    def attempted(self, booking: int, payment: str, amount: int, row: int, kind: str) -> Outcome:
        """`kind` is AUTHORISED or FAILED."""
        paid = self.payments.get(payment)
        if paid is not None and paid.booking != booking:
            return "PAYMENT_ID_REUSED"
        if paid is None:
            self.payments[payment] = paid = Paid(booking, (self.turn, row), kind, amount)
        elif (payment, kind, "") not in self.seen and not paid.taken:
            paid.state = kind
        self.seen.add((payment, kind, ""))
        return paid.state

    def refund(self, payment: str, amount: int) -> Outcome:
        if amount > self.refundable(payment):
            return "OVER_REFUND"
        self.owed.append(Owed(payment, amount))
        return amount

    def claim(self, owed: Owed) -> Outcome:
        if owed.paid == owed.amount or (owed.due is not None and owed.due > self.now):
            return ()
        owed.due = self.now + LEASE
        return (owed.amount,)

    def paid_back(self, booking: int, payment: str, amount: int, refund: str) -> Outcome:
        paid = self.payments.get(payment)
        if paid is None:
            return "NOT_FOUND"
        if paid.booking != booking:
            return "PAYMENT_ID_REUSED"
        if (payment, "REFUNDED", refund) in self.seen:
            return paid.state
        if amount > (paid.amount - paid.refunded if paid.taken else 0):
            return "OVER_REFUND"
        self.seen.add((payment, "REFUNDED", refund))
        paid.refunded += amount
        if paid.state != "REFUND_DUE":
            self.stays[booking].refunded += amount
        if paid.refunded == paid.amount:
            paid.state = "REFUNDED"
        elif paid.state != "REFUND_DUE":
            paid.state = "PARTIALLY_REFUNDED"
        for owed in self.owed:
            if owed.payment == payment:
                part = min(amount, owed.amount - owed.paid)
                owed.paid += part
                amount -= part
        return paid.state

    def cancel(self, booking: int) -> Outcome:
        stay = self.stays[booking]
        if stay.state == "CANCELLED" or stay.reason == "CANCELLED":
            return self._summary(stay)
        if stay.state in LIVE:
            if self._met(booking).state == "EXPIRED":
                return "INVALID_TRANSITION"
            return self._becomes(stay, "ABANDONED", "CANCELLED")
        if refusal := self._not_movable(stay):
            return refusal
        left = midnight(stay.start) - self.now
        share = 90 if left >= timedelta(days=1) else 50 if left >= timedelta(0) else 0
        granted = round((stay.price - stay.balance) * share / 100)
        stay.refund = min(granted, sum(self.refundable(payment) for payment in self._of(booking)))
        stay.balance = 0
        self._give_back(booking, stay.refund)
        return self._becomes(stay, "CANCELLED", "ill")

    def reschedule(self, booking: int, start: date, nights: int) -> Outcome:
        stay = self.stays[booking]
        end = start + timedelta(nights)
        if refusal := self._not_movable(stay):
            return refusal
        if self.now >= midnight(stay.start):
            return "NOT_CANCELLABLE"
        if self.now >= midnight(start):
            return "PAST_CUTOFF"
        price = self.prices[stay.package] * nights * stay.quantity
        if (start, end, price) == (stay.start, stay.end, stay.price):
            return self._summary(stay)
        stay.state = "MOVING"
        fits = self._room(stay.package, start, end, stay.quantity, expire=False)
        if fits:
            self._room(stay.package, start, end, stay.quantity, expire=True)
        stay.state = "CONFIRMED"
        if not fits:
            return "SOLD_OUT"
        paid = stay.price - stay.balance
        stay.start, stay.end, stay.price = start, end, price
        stay.balance = max(0, price - paid)
        self._give_back(booking, max(0, paid - price))
        return self._becomes(stay, "CONFIRMED")

    def set_capacity(self, package: int, start: date, nights: int, capacity: int) -> Outcome:
        days = list(days_from(start, nights))
        if any(self._seats(package, day, SEATED) > capacity for day in days):
            return "CAPACITY_BELOW_TAKEN"
        for day in days:
            self.capacity[package, day] = capacity
        return nights

    def _capture(self, booking: int, payment: str, amount: int, row: int) -> str | None:
        """Return a reason, or None when the money was accepted."""
        stay, paid = self.stays[booking], self.payments.get(payment)
        if paid is not None and paid.booking != booking:
            return "PAYMENT_ID_REUSED"
        wanted = paid.amount if paid is not None and paid.taken else self.due(booking)
        if wanted is not None and amount != wanted:
            return "AMOUNT_MISMATCH"
        too_late = "HOLD_EXPIRED" if stay.state == "EXPIRED" else "INVALID_TRANSITION"
        if paid is not None and paid.taken:
            return too_late if paid.state == "REFUND_DUE" or not stay.captured else None
        if paid is None:
            self.payments[payment] = paid = Paid(booking, (self.turn, row), "", amount)
        paid.state, paid.amount = "CAPTURED", amount
        if stay.balance:
            stay.balance = 0
        else:
            if self._lapsed(stay) and self._over(stay):
                self._becomes(stay, "EXPIRED")
            if stay.state == "HELD":
                self._becomes(stay, "PENDING_PAYMENT")
            where = (stay.package, stay.start, stay.end, stay.quantity)
            again = stay.state == "EXPIRED" and not self._over(stay)
            if stay.state != "PENDING_PAYMENT" and not (again and self._room(*where, expire=True)):
                paid.state = "REFUND_DUE"
                self.owed.append(Owed(payment, amount, late=True))
                return "HOLD_EXPIRED" if stay.state == "EXPIRED" else "INVALID_TRANSITION"
            self._becomes(stay, "CONFIRMED")
        stay.captured += amount
        return None

    def _room(self, package: int, start: date, end: date, quantity: int, *, expire: bool) -> bool:
        """Whether there is room apart from lapsed holds on short days; ends those with `expire`."""
        days = list(days_from(start, (end - start).days))
        free = {
            day: self.capacity.get((package, day), 0) - self._seats(package, day, SEATED)
            for day in days
        }
        short = [day for day in days if free[day] < quantity]
        for stay in self.stays.values():
            if stay.package == package and self._lapsed(stay) and any(map(stay.on, short)):
                for day in filter(stay.on, days):
                    free[day] += stay.quantity
                if expire:
                    self._becomes(stay, "EXPIRED")
        return all(units >= quantity for units in free.values())

    def _give_back(self, booking: int, amount: int) -> None:
        for payment in self._of(booking):
            part = min(amount, self.refundable(payment))
            if part:
                self.owed.append(Owed(payment, part))
                amount -= part

    def _met(self, booking: int) -> Stay:
        stay = self.stays[booking]
        if self._lapsed(stay):
            self._becomes(stay, "EXPIRED")
        return stay

    def _not_movable(self, stay: Stay) -> str | None:
        if stay.state == "FULFILLED" or (stay.state == "CONFIRMED" and self._over(stay)):
            return "NOT_CANCELLABLE"
        return None if stay.state == "CONFIRMED" else "INVALID_TRANSITION"

    def _becomes(self, stay: Stay, state: str, reason: str = "") -> Outcome:
        stay.state = state
        stay.reason = "HOLD_EXPIRED" if state == "EXPIRED" else reason
        stay.version += 1
        return self._summary(stay)

    def _summary(self, stay: Stay) -> Outcome:
        return stay.state, stay.version
