"""Only the steps that are missing in the database are taken."""

from __future__ import annotations

import pytest

from booking_service.demo.plan import Goal
from booking_service.demo.seed import Known
from booking_service.demo.steps import Step, refund_left, visit_steps
from protos.booking.v1.booking_pb2 import Booking


def known(state: Booking.State.ValueType, refund: int = 0, refunded: int = 0) -> Known:
    return Known("p", state, 100, refund, refunded)


def test_new_visitor_goes_to_his_goal() -> None:
    assert visit_steps(Goal.VIEW, None, row_known=False) == (Step.VIEW,)
    assert visit_steps(Goal.START, None, row_known=False) == (Step.VIEW, Step.START, Step.ABANDON)
    assert visit_steps(Goal.COMPLETE, None, row_known=False)[-2:] == (Step.COMPLETE, Step.ABANDON)
    assert visit_steps(Goal.CONFIRM, None, row_known=False)[-2:] == (Step.COMPLETE, Step.CONFIRM)


@pytest.mark.parametrize("goal", [Goal.VIEW, Goal.START, Goal.COMPLETE])
def test_visitor_without_a_booking_is_done_once_the_guest_has_one(goal: Goal) -> None:
    assert visit_steps(goal, None, row_known=True) == ()


@pytest.mark.parametrize(
    ("state", "guest", "visitor"),
    [
        (Booking.HELD, (Step.COMPLETE, Step.CONFIRM), (Step.ABANDON,)),
        (Booking.PENDING_PAYMENT, (Step.CONFIRM,), (Step.ABANDON,)),
        (Booking.EXPIRED, (Step.CONFIRM,), ()),
        (Booking.CONFIRMED, (), ()),
        (Booking.FULFILLED, (), ()),
        (Booking.CANCELLED, (), ()),
        (Booking.ABANDONED, (), ()),
    ],
)
def test_broken_visit_is_taken_up_where_it_stopped(
    state: Booking.State.ValueType, guest: tuple[Step, ...], visitor: tuple[Step, ...]
) -> None:
    assert visit_steps(Goal.CONFIRM, known(state), row_known=True) == guest
    assert visit_steps(Goal.COMPLETE, known(state), row_known=False) == visitor


def test_refund_is_what_the_cancellation_gave_and_was_not_yet_paid() -> None:
    assert refund_left(None) is None
    assert refund_left(known(Booking.CONFIRMED)) is None
    assert refund_left(known(Booking.CANCELLED, refund=100)) == 100
    assert refund_left(known(Booking.CANCELLED, refund=100, refunded=100)) == 0
    assert refund_left(known(Booking.CANCELLED)) == 0
