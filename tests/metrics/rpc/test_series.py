"""GetSeries from memory: the points of a chart, and what is refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from metrics_service.rpc import series
from metrics_service.state.fold import State
from metrics_service.state.history.series import MAX_ANSWER_POINTS, MAX_KEYS
from metrics_service.state.history.series_metrics import METRICS
from protos.metrics.v1 import series_pb2
from servicekit.errors import ApiError
from tests.metrics.rpc.running_servicers import NoHistory
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Log


def request(*metrics: str, window: int, step: int, ended: int = 0, **fields: Any) -> Any:
    """A request; times are microseconds."""
    message = series_pb2.GetSeriesRequest(metrics=metrics, **fields)
    message.window.FromMicroseconds(window)
    message.step.FromMicroseconds(step)
    message.ended.FromMicroseconds(ended)
    return message


async def ask(state: State, *metrics: str, **fields: Any) -> series_pb2.GetSeriesResponse:
    answer = await series.answer(request(*metrics, **fields), lambda: state, NoHistory())
    assert answer.revision == state.revision
    assert answer.as_of.ToMicroseconds() == state.as_of_us
    return answer


async def values(state: State, metric: str, **fields: Any) -> list[float | None]:
    (found,) = (await ask(state, metric, **fields)).series
    return [point.value if point.HasField("value") else None for point in found.points]


async def test_a_point_for_each_step_null_without_data_and_the_last_one_partial() -> None:
    log = Log()
    log.append(*(log.view(NOW, f"s{number}") for number in range(3)))
    log.jump(NOW + 25 * SECOND)
    log.append(log.view(log.now_us, "x"))
    (entered,) = (await ask(log.state, "funnel_entered", window=MINUTE, step=10 * SECOND)).series
    assert [point.time.ToMicroseconds() - NOW for point in entered.points] == [
        number * 10 * SECOND for number in range(-3, 3)
    ]
    assert [point.HasField("value") for point in entered.points] == [False] * 3 + [
        *(True, False, True)
    ]
    assert [point.value for point in entered.points][3:] == [3, 0, 1]
    assert [point.partial for point in entered.points] == [False] * 5 + [True]
    assert {point.source for point in entered.points if point.HasField("value")} == {series.RING}
    assert (entered.metric, entered.key, entered.unit) == ("funnel_entered", "", "count")


async def test_rates_have_both_parts_and_steps_of_every_ring_agree() -> None:
    log = Log()
    for number in range(90):
        log.now_us = NOW + number * MINUTE
        log.append(log.tally(log.now_us, 9, 1), log.refused(log.now_us))
    for step, count in ((MINUTE, 60), (5 * MINUTE, 12), (HOUR, 1)):
        (rate,) = (await ask(log.state, "error_rate", window=HOUR, step=step)).series
        assert len(rate.points) == count
        first = rate.points[0]
        minutes = min(step, 30 * MINUTE) // MINUTE
        assert (first.value, first.numerator, first.denominator) == (0.1, minutes, 10 * minutes)


async def test_a_window_that_ended_is_a_part_of_the_longer_one() -> None:
    log = Log()
    for number in range(120):
        log.now_us = NOW + number * MINUTE
        log.append(log.view(log.now_us, f"s{number}"))
    whole = await values(log.state, "funnel_entered", window=2 * HOUR, step=MINUTE)
    earlier = await values(log.state, "funnel_entered", window=HOUR, step=MINUTE, ended=HOUR)
    assert whole == [1] * 120
    assert earlier == whole[:60]


async def test_money_has_a_series_for_each_currency_with_its_unit() -> None:
    log = Log()
    for number, currency in enumerate(("EUR", "USD", "EUR")):
        fact = log.fact(
            Fact.CONFIRMED, NOW, booking=f"b{number}", confirm_us=NOW, amount=5, currency=currency
        )
        log.append(fact)
    found = (await ask(log.state, "revenue_gross", window=HOUR, step=HOUR)).series
    assert [(each.unit, each.key, each.points[0].value) for each in found] == [
        *(("EUR", "", 10), ("USD", "", 5)),
    ]


async def test_a_split_has_the_largest_keys_and_the_rest_in_one() -> None:
    log = Log()
    for number in range(30):
        fact = log.fact(
            Fact.CONFIRMED, NOW, booking=f"b{number}", package=f"p{number:02}", confirm_us=NOW
        )
        log.append(fact)
    log.append(log.fact(Fact.CONFIRMED, NOW, booking="c", package="p29", confirm_us=NOW))
    by = series_pb2.DIMENSION_PACKAGE
    found = (await ask(log.state, "bookings_confirmed", window=HOUR, step=HOUR, by=by)).series
    assert len(found) == MAX_KEYS + 1
    assert (found[0].key, found[0].points[0].value) == ("p29", 2)
    assert (found[-1].key, found[-1].points[0].value) == ("other", 10)
    assert sum(each.points[0].value for each in found) == 31


@pytest.mark.parametrize(
    ("asked", "field", "named"),
    [
        (request("nothing", window=HOUR, step=MINUTE), "metrics", "view_to_start"),
        (request("queries", window=2 * DAY, step=5 * MINUTE), "window", "1 h for 400 days"),
        (request("queries", window=1_001 * HOUR, step=HOUR), "window", "1000 steps"),
        (request("queries", window=HOUR, step=SECOND), "step", "1 min for 24 h"),
        (request("queries", window=HOUR, step=7 * MINUTE), "window", "whole number of steps"),
        (request("queries", window=HOUR, step=HOUR, ended=MINUTE), "ended", "whole number"),
        (request("queries", window=HOUR, step=HOUR, by=1), "by", "bookings_confirmed"),
        (request("queries", window=HOUR, step=HOUR, ended=400 * DAY), "ended", "is not kept"),
    ],
)
async def test_a_refusal_names_the_choices(asked: Any, field: str, named: str) -> None:
    with pytest.raises(ApiError) as refused:
        await series.answer(asked, State, NoHistory())
    (violation,) = refused.value.violations
    assert violation.field == field
    assert named in violation.description


async def test_more_points_than_an_answer_may_have_are_refused() -> None:
    log = Log()
    for number in range(25):
        fact = log.fact(
            Fact.CONFIRMED, NOW, booking=f"b{number}", package=f"p{number}", confirm_us=NOW
        )
        log.append(fact)
    asked = request(
        *("bookings_confirmed", "bookings_cancelled"),
        window=960 * MINUTE,
        step=MINUTE,
        by=series_pb2.DIMENSION_PACKAGE,
    )
    with pytest.raises(ApiError, match=str(MAX_ANSWER_POINTS)):
        await series.answer(asked, lambda: log.state, NoHistory())


async def test_the_largest_answer_is_below_a_megabyte_and_others_run_meanwhile() -> None:
    log = Log()
    for number in range(1_000):
        log.now_us = NOW + number * MINUTE
        log.append(
            log.view(log.now_us, f"s{number}"),
            log.tally(log.now_us, 9, 1),
            log.queries([number * 10 + 1] * 3),
            log.fact(Fact.STARTED, log.now_us, booking=f"b{number}", hold_us=log.now_us),
        )
    names = [name for name, metric in METRICS.items() if metric.unit != "currency"][:16]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(count())
    began_s = time.process_time()
    answer = await ask(log.state, *names, window=1_000 * MINUTE, step=MINUTE)
    spent_s = time.process_time() - began_s
    other.cancel()
    assert len(answer.series) == 16
    assert all(len(each.points) == 1_000 for each in answer.series)
    assert answer.ByteSize() < 1_000_000
    assert turns > spent_s / 0.02
