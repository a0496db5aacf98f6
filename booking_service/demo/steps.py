"""Computes what remains to be done for a visitor or a cancellation, from what the database
contains.

A step is planned only from the state that it follows, so that a resumed replay repeats nothing.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from booking_service.demo.plan import Goal
from booking_service.demo.seed import Known
from protos.booking.v1 import booking_pb2

_BOOKING = booking_pb2.Booking


class Step(Enum):
    """One request of a visitor."""

    VIEW = auto()
    START = auto()
    COMPLETE = auto()
    CONFIRM = auto()
    ABANDON = auto()


_FROM_NOTHING: Final = {
    Goal.VIEW: (Step.VIEW,),
    Goal.START: (Step.VIEW, Step.START, Step.ABANDON),
    Goal.COMPLETE: (Step.VIEW, Step.START, Step.COMPLETE, Step.ABANDON),
    Goal.CONFIRM: (Step.VIEW, Step.START, Step.COMPLETE, Step.CONFIRM),
}


def visit_steps(goal: Goal, known: Known | None, *, row_known: bool) -> tuple[Step, ...]:
    """Return the remaining steps of a visitor whose booking is `known`.

    `row_known` means that the guest of the same row has a booking: the generated visitors of that
    row came before, and those without a booking only viewed.
    """
    if known is None:
        return () if row_known else _FROM_NOTHING[goal]
    match known.state, goal:
        case _BOOKING.HELD, Goal.CONFIRM:
            return Step.COMPLETE, Step.CONFIRM
        # A payment after the hold ran out takes the seats again.
        case _BOOKING.PENDING_PAYMENT | _BOOKING.EXPIRED, Goal.CONFIRM:
            return (Step.CONFIRM,)
        case _BOOKING.HELD | _BOOKING.PENDING_PAYMENT, _:
            return (Step.ABANDON,)
    return ()


def refund_left(known: Known | None) -> int | None:
    """Return what remains to be refunded, in cents; None before the booking is cancelled."""
    if known is None or known.state != _BOOKING.CANCELLED:
        return None
    return known.refund_minor - known.refunded_minor
