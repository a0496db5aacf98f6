"""Revenue after the confirmation: money that moves later corrects the slot of the confirmation, and
no booking counts twice.
"""

from __future__ import annotations

import pytest

from metrics_service.state.fold import State
from metrics_service.state.ranges import MAX_MONEY_MINOR
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import HOUR, NOW, Fact, Log, revenue

Payment = event_pb2.PaymentFact


def test_a_refund_corrects_the_window_of_its_confirmation() -> None:
    log = Log()
    log.append(log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=900))
    log.jump(NOW + 2 * HOUR)
    log.append(log.refund(NOW + 2 * HOUR, 400, NOW))
    assert not revenue(log, HOUR)
    assert revenue(log, 3 * HOUR)["EUR"].net_minor == 500
    assert revenue(log)["EUR"].refunded_minor == 400


def test_a_refund_of_money_that_was_not_revenue_changes_no_revenue() -> None:
    log = Log()
    log.append(log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=900), log.refund(NOW, 400, 0))
    assert revenue(log)["EUR"].refunded_minor == 0


def test_a_balance_is_revenue_of_the_window_of_its_confirmation_and_no_second_booking() -> None:
    log = Log()
    log.append(log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=900))
    log.jump(NOW + 2 * HOUR)
    log.append(
        log.fact(Fact.RESCHEDULED, NOW + 2 * HOUR, confirm_us=NOW, amount=1_300),
        log.payment(Payment.BALANCE_CAPTURED, NOW + 2 * HOUR, 400, NOW),
    )
    assert not revenue(log, HOUR)
    for window_us in (3 * HOUR, None):
        euro = revenue(log, window_us)["EUR"]
        assert (euro.confirmed, euro.gross_minor, euro.average_minor) == (1, 1_300, 1_300)


def test_a_move_to_cheaper_days_lowers_net_revenue_when_the_difference_is_paid_back() -> None:
    log = Log()
    log.append(
        log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=900),
        log.fact(Fact.RESCHEDULED, NOW, confirm_us=NOW, amount=600),
    )
    assert revenue(log)["EUR"].net_minor == 900
    log.append(log.refund(NOW, 300, NOW))
    euro = revenue(log)["EUR"]
    assert (euro.gross_minor, euro.refunded_minor, euro.net_minor) == (900, 300, 600)


@pytest.mark.parametrize("transition", [Fact.RESCHEDULED, Fact.EXTENDED], ids=["moved", "extended"])
def test_rescheduling_and_extending_change_no_figure(
    transition: Fact.Transition.ValueType,
) -> None:
    log = Log()
    steps = (Fact.STARTED, Fact.COMPLETED, Fact.CONFIRMED)
    log.append(
        *(
            log.fact(
                step,
                NOW + number,
                hold_us=NOW,
                complete_us=NOW + 1,
                confirm_us=NOW + 2 if step == Fact.CONFIRMED else 0,
                amount=900,
            )
            for number, step in enumerate(steps)
        )
    )
    before = log.state.metrics()
    for at_us in (NOW + 3, NOW + 4):
        log.append(
            log.fact(
                transition,
                at_us,
                hold_us=NOW,
                complete_us=NOW + 1,
                confirm_us=NOW + 2,
                amount=1_300,
            )
        )
    after = log.state.metrics()
    assert after.business == before.business
    assert after.performance == before.performance
    assert list(after.funnel.steps) == list(before.funnel.steps)


@pytest.mark.parametrize(
    "kind",
    [Payment.AUTHORISED, Payment.CAPTURED, Payment.FAILED, Payment.REFUND_DUE],
    ids=Payment.Kind.Name,
)
def test_a_payment_that_is_neither_balance_nor_refund_changes_no_sum(
    kind: Payment.Kind.ValueType,
) -> None:
    log = Log()
    log.append(
        log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=900),
        log.payment(kind, NOW, 900, NOW),
    )
    euro = revenue(log)["EUR"]
    assert (euro.gross_minor, euro.refunded_minor) == (900, 0)


def test_a_refund_alone_has_no_average() -> None:
    log = Log()
    log.append(log.refund(NOW, 400, NOW))
    euro = revenue(log)["EUR"]
    assert (euro.net_minor, euro.HasField("average_minor")) == (-400, False)


def test_sums_at_their_bound_are_the_same_after_a_restart() -> None:
    log = Log()
    for booking in ("a", "b"):
        log.append(log.fact(Fact.CONFIRMED, NOW, booking=booking, amount=MAX_MONEY_MINOR))
    assert State.load(log.state.dump()).metrics() == log.state.metrics()
