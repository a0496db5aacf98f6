"""Business figures: from facts alone, per currency, each once."""

from __future__ import annotations

import pytest

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.answers import MAX_SHOWN_PACKAGES
from metrics_service.state.business import MAX_CURRENCIES, MAX_PACKAGES
from metrics_service.state.figures import divide_half_even, rate
from metrics_service.state.ranges import MAX_MONEY_MINOR
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log, revenue


def test_money_is_kept_per_currency_in_minor_units() -> None:
    log = Log()
    for number, (amount, currency) in enumerate(
        [(10_050, "EUR"), (20_000, "EUR"), (0, "EUR"), (5_000, "JPY"), (1_234_567, "KWD")]
    ):
        log.append(
            log.fact(
                Fact.CONFIRMED,
                NOW,
                booking=f"b{number}",
                confirm_us=NOW,
                amount=amount,
                currency=currency,
            )
        )
    log.append(log.refund(NOW, 50, NOW), log.refund(NOW, 5_000, NOW, "JPY"))
    euro, yen, dinar = (revenue(log)[code] for code in ("EUR", "JPY", "KWD"))
    assert (euro.exponent, yen.exponent, dinar.exponent) == (2, 0, 3)
    assert (euro.confirmed, euro.gross_minor, euro.refunded_minor) == (3, 30_050, 50)
    assert (euro.net_minor, euro.average_minor) == (30_000, 10_017)
    assert (yen.gross_minor, yen.net_minor) == (5_000, 0)
    assert dinar.average_minor == 1_234_567
    assert log.state.metrics().business.confirmed == 5


@pytest.mark.parametrize(
    ("amount", "count", "expected"),
    [(5, 2, 2), (7, 2, 4), (8, 3, 3), (7, 3, 2), (-5, 2, -2), (-7, 2, -4), (0, 3, 0)],
)
def test_an_average_is_rounded_half_to_even(amount: int, count: int, expected: int) -> None:
    assert divide_half_even(amount, count) == expected


def test_sums_of_money_stop_at_their_bound() -> None:
    log = Log()
    for number in range(3):
        log.append(
            log.fact(
                Fact.CONFIRMED, NOW, booking=str(number), confirm_us=NOW, amount=MAX_MONEY_MINOR
            )
        )
    assert revenue(log)["EUR"].gross_minor == MAX_SUM
    assert list(log.state.dump())


def test_front_end_steps_are_neither_revenue_nor_attempts() -> None:
    log = Log()
    confirm = log.flow(Flow.CONFIRM, NOW, booking="b")
    confirm.flow_step.amount_minor, confirm.flow_step.currency = 500, "EUR"
    log.append(log.flow(Flow.START, NOW), log.flow(Flow.COMPLETE, NOW, booking="b"), confirm)
    metrics = log.state.metrics()
    assert (metrics.business.confirmed, len(metrics.business.revenue)) == (0, 0)
    assert metrics.funnel.bookings_started == 0


def test_attempts_are_counted_from_facts() -> None:
    log = Log()
    for number, transition in enumerate(
        [Fact.STARTED] * 7
        + [Fact.COMPLETED] * 5
        + [Fact.CONFIRMED] * 4
        + [Fact.CANCELLED] * 3
        + [Fact.ABANDONED] * 2
        + [Fact.EXPIRED]
        + [Fact.FULFILLED, Fact.RESCHEDULED, Fact.EXTENDED]
    ):
        log.append(log.fact(transition, NOW, booking=f"b{number}"))
    funnel = log.state.funnel()
    assert (
        funnel.bookings_started,
        funnel.bookings_completed,
        funnel.bookings_confirmed,
        funnel.bookings_cancelled,
        funnel.bookings_abandoned,
        funnel.bookings_expired,
    ) == (7, 5, 4, 3, 2, 1)
    rate_ = log.state.metrics().performance.form_abandonment
    assert (rate_.numerator, rate_.denominator) == (3, 7)


def test_form_abandonment_counts_in_the_window_of_the_start() -> None:
    log = Log()
    log.append(log.fact(Fact.STARTED, NOW, hold_us=NOW))
    log.jump(NOW + 10 * MINUTE)
    log.append(log.fact(Fact.EXPIRED, NOW + 10 * MINUTE, hold_us=NOW))
    figures = {
        window: log.state.metrics(window).performance.form_abandonment
        for window in (5 * MINUTE, HOUR)
    }
    assert [(each.numerator, each.denominator) for each in figures.values()] == [(0, 0), (1, 1)]
    assert log.state.funnel(5 * MINUTE).bookings_expired == 1


def test_cancellations_count_when_they_happen() -> None:
    log = Log()
    log.append(log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=100))
    log.jump(NOW + 2 * DAY)
    log.append(log.fact(Fact.CANCELLED, NOW + 2 * DAY, confirm_us=NOW))
    business = log.state.metrics(HOUR).business
    assert (business.confirmed, business.cancelled) == (0, 1)
    (package,) = business.packages
    assert (package.package_id, package.confirmed, package.cancelled) == ("p", 0, 1)


def test_packages_are_ranked_and_bounded() -> None:
    log = Log()
    for number in range(MAX_PACKAGES + 20):
        for copy in range(2 if number == 300 else 1):
            log.append(
                log.fact(
                    Fact.CONFIRMED,
                    NOW,
                    booking=f"{number}-{copy}",
                    package=f"p{number:04}",
                    confirm_us=NOW,
                )
            )
    for window_us in (None, HOUR):
        business = log.state.metrics(window_us).business
        assert len(business.packages) == MAX_SHOWN_PACKAGES
        assert [p.package_id for p in business.packages[:3]] == ["p0300", "p0000", "p0001"]
        assert business.packages[0].confirmed == 2
        shown = sum(package.confirmed for package in business.packages)
        assert shown + business.other_packages == business.confirmed == MAX_PACKAGES + 21
    assert log.state.metrics().quality.evicted["packages"] == 20


def test_currencies_beyond_the_bound_are_counted_and_never_summed() -> None:
    log = Log()
    for number in range(MAX_CURRENCIES + 5):
        log.append(
            log.fact(
                Fact.CONFIRMED,
                NOW,
                booking=str(number),
                confirm_us=NOW,
                amount=1,
                currency=f"C{number:03}",
            )
        )
    found = revenue(log)
    assert len(found) == MAX_CURRENCIES
    assert {each.gross_minor for each in found.values()} == {1}
    assert log.state.metrics().quality.evicted["currencies"] == 5
    assert log.state.metrics().business.confirmed == MAX_CURRENCIES + 5


def test_booking_time_is_from_start_to_complete() -> None:
    log = Log()
    for number, seconds in enumerate((100, 200, 300)):
        log.append(
            log.fact(
                Fact.COMPLETED,
                NOW,
                booking=f"b{number}",
                hold_us=NOW - seconds * SECOND,
                complete_us=NOW,
            )
        )
    time = log.state.metrics().performance.booking_time
    assert (time.count, time.mean_ms, time.min_ms, time.max_ms) == (3, 200_000, 100_000, 300_000)
    assert time.p50_ms == pytest.approx(200_000, rel=0.01)


def test_a_front_ends_duration_is_used_only_where_the_service_saw_no_start() -> None:
    log = Log()
    log.append(
        log.fact(Fact.STARTED, NOW, booking="seen", hold_us=NOW),
        log.flow(Flow.COMPLETE, NOW, booking="seen", duration_us=5 * SECOND),
        log.flow(Flow.COMPLETE, NOW, booking="unseen", duration_us=7 * SECOND),
        log.flow(Flow.COMPLETE, NOW, booking="unseen", duration_us=8 * SECOND),
        log.flow(Flow.COMPLETE, NOW, booking="backwards", duration_us=-1),
    )
    time = log.state.metrics().performance.booking_time
    assert (time.count, time.mean_ms) == (1, 7_000)
    log.append(
        log.fact(Fact.COMPLETED, NOW, booking="seen", hold_us=NOW - 3 * SECOND, complete_us=NOW)
    )
    time = log.state.metrics().performance.booking_time
    assert (time.count, time.mean_ms) == (2, 5_000)


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(0, 10), (10, 10), (5, 20), (250, 1_000), (1, 1), (3, 7)]
)
def test_wilson_bounds_are_the_shares_1_96_errors_away_from_the_sample(
    numerator: int, denominator: int
) -> None:
    answer = rate(numerator, denominator)
    share = numerator / denominator
    assert answer.value == share
    assert answer.low <= share <= answer.high
    for bound in (answer.low, answer.high):
        error = (bound * (1 - bound) / denominator) ** 0.5
        assert abs(share - bound) == pytest.approx(1.959964 * error, rel=1e-5)
    assert (answer.low == answer.value) == (numerator == 0)
    assert (answer.high == answer.value) == (numerator == denominator)


def test_a_rate_without_a_denominator_is_absent() -> None:
    answer = rate(0, 0)
    assert not any(answer.HasField(name) for name in ("value", "low", "high"))
