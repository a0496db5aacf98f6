"""Says what a visitor or a cancellation has still to do, from what the database holds.

A step is only ever added after the state it follows, so that taking up a broken replay repeats
nothing.
"""

from __future__ import annotations

from enum import Enum, auto

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


_FROM_NOTHING = {
    Goal.VIEW: (Step.VIEW,),
    Goal.START: (Step.VIEW, Step.START, Step.ABANDON),
    Goal.COMPLETE: (Step.VIEW, Step.START, Step.COMPLETE, Step.ABANDON),
    Goal.CONFIRM: (Step.VIEW, Step.START, Step.COMPLETE, Step.CONFIRM),
}


def visit_steps(goal: Goal, known: Known | None, *, row_known: bool) -> tuple[Step, ...]:
    """The steps left for a visitor whose booking is `known`.

    `row_known` says that the guest of the same row has a booking: the visitors made up for that
    row came before, and who left no booking only looked.
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
    """What is left to pay back of a cancellation, in cents; None before it is cancelled."""
    if known is None or known.state != _BOOKING.CANCELLED:
        return None
    return known.refund_minor - known.refunded_minor
