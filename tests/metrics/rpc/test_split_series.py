"""GetSeries split by package, type, location and vendor, and of matured slots, against a count in
plain Python.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from metrics_service.rpc import series
from metrics_service.state.fold import State
from metrics_service.state.history.series import MAX_KEYS
from metrics_service.state.history.series_metrics import METRICS
from protos.metrics.v1 import metrics_pb2, series_pb2
from protos.tracking.v1 import event_pb2
from servicekit.errors import ApiError
from tests.metrics.rpc.running_servicers import NoHistory
from tests.metrics.state.log import HOUR, MINUTE, NOW, SECOND, Log
from tests.metrics.state.visits import keys_of, visit

DIMENSIONS = {name: number for number, name in series.DIMENSIONS.items() if name}
MATURES = 40 * MINUTE
Counts = dict[tuple[str, int], list[int]]
"""Actors by step, by key and the begin of the step of time."""


def request(
    *metrics: str, window: int, step: int, ended: int = 0, by: str = ""
) -> series_pb2.GetSeriesRequest:
    number = DIMENSIONS.get(by, series_pb2.DIMENSION_UNSPECIFIED)
    message = series_pb2.GetSeriesRequest(metrics=metrics, by=number)
    message.window.FromMicroseconds(window)
    message.step.FromMicroseconds(step)
    message.ended.FromMicroseconds(ended)
    return message


async def ask(state: State, asked: series_pb2.GetSeriesRequest) -> list[series_pb2.Series]:
    return [*(await series.answer(asked, lambda: state, NoHistory())).series]


class Visits:
    """A log of visits of six hours, and who took which step, by when the visit began."""

    def __init__(self, seed: int, packages: int = 8) -> None:
        self.log = Log()
        self.seen: list[tuple[int, str, int]] = []
        dice = random.Random(seed)
        waiting: list[tuple[int, int, event_pb2.Event]] = []
        for number in range(150):
            at = NOW + dice.randrange(6 * HOUR)
            package, steps = f"p{dice.randrange(packages)}", dice.randint(1, 4)
            self.seen.append((at, package, steps))
            for event in visit(self.log, at, f"s{number}", package, steps):
                waiting.append((event.time_us + dice.randrange(MINUTE), len(waiting), event))
        for at, _, event in sorted(waiting, key=lambda each: each[:2]):
            self.log.now_us = at
            self.log.append(event)
        self.log.tick(NOW + 6 * HOUR + MINUTE)

    def counted(self, by: str, step: int, before: int | None = None) -> Counts:
        """Count actors, by default of all slots, else of those that had ended before a time."""
        found: Counts = defaultdict(lambda: [0, 0, 0, 0])
        number = DIMENSIONS[by] - 1 if by else 0
        slot = HOUR if step % HOUR == 0 else MINUTE
        for at, package, steps in self.seen:
            if before is None or (at // slot + 1) * slot <= before:
                for each in range(steps):
                    found[keys_of(package)[number] if by else "", at // step * step][each] += 1
        return found


@pytest.mark.parametrize("by", DIMENSIONS)
async def test_splits_are_those_of_an_independent_count(by: str) -> None:
    visits = Visits(1)
    confirmed: dict[str, int] = defaultdict(int)
    for _, package, steps in visits.seen:
        confirmed[keys_of(package)[DIMENSIONS[by] - 1]] += steps == 4
    for step in (HOUR, 10 * MINUTE):
        expected = visits.counted(by, step)
        metrics = "funnel_entered", "package_views", "view_to_start", "bookings_confirmed"
        asked = request(*metrics, window=7 * HOUR, step=step, by=by)
        for state in (visits.log.state, State.load(visits.log.state.dump())):
            found = {(each.metric, each.key): each for each in await ask(state, asked)}
            assert {key for metric, key in found if metric != metrics[-1]} == confirmed.keys()
            for (metric, key), each in found.items():
                if metric == "bookings_confirmed":
                    assert sum(point.value for point in each.points) == confirmed[key]
                    continue
                for point in each.points:
                    actors = expected.get((key, point.time.ToMicroseconds()), [0] * 4)
                    if metric == "view_to_start":
                        assert (point.numerator, point.denominator) == (actors[1], actors[0])
                    else:
                        assert point.value == actors[0]
            assert sum(
                point.value for key in confirmed for point in found["package_views", key].points
            ) == len(visits.seen)


@pytest.mark.parametrize("by", ["", *DIMENSIONS])
async def test_matured_rates_are_absent_where_nothing_has_matured(by: str) -> None:
    visits = Visits(2)
    now_us, state = visits.log.state.as_of_us, visits.log.state
    for step in (HOUR, 5 * MINUTE):
        expected = visits.counted(by, step, now_us - MATURES)
        asked = request(
            *("overall_conversion", "overall_conversion_matured"),
            window=7 * HOUR,
            step=step,
            by=by,
        )
        found = [each for each in await ask(state, asked) if each.metric.endswith("_matured")]
        for each in found:
            for point in each.points:
                actors = expected.get((each.key, point.time.ToMicroseconds()))
                assert point.HasField("value") == (actors is not None)
                if actors is not None:
                    assert (point.numerator, point.denominator) == (actors[3], actors[0])
        begins = {point.time.ToMicroseconds() for point in found[0].points}
        assert {begin for _, begin in expected} <= begins
        assert max(begins) > now_us - MATURES
        # The same as that of GetFunnel over the window.
        funnel = state.funnel(
            7 * HOUR,
            request=metrics_pb2.GetFunnelRequest(
                by=DIMENSIONS.get(by, series_pb2.DIMENSION_UNSPECIFIED)
            ),
        )
        if step == HOUR:
            continue
        groups = {each.key: each.matured for each in funnel.groups} if by else {"": funnel.matured}
        for each in found:
            overall = groups[each.key].overall
            numerator = sum(point.numerator for point in each.points)
            denominator = sum(point.denominator for point in each.points)
            assert (numerator, denominator) == (overall.numerator, overall.denominator)


async def test_a_day_is_matured_as_far_as_its_hours_are() -> None:
    visits = Visits(3)
    day = 24 * HOUR
    (rate,) = await ask(visits.log.state, request("view_to_start_matured", window=day, step=day))
    (point,) = rate.points
    matured = [
        steps
        for at, _, steps in visits.seen
        if (at // HOUR + 1) * HOUR + MATURES <= visits.log.state.as_of_us
        and at // day == point.time.ToMicroseconds() // day
    ]
    assert point.denominator == len(matured)
    assert point.numerator == sum(steps > 1 for steps in matured)


async def test_twenty_keys_and_the_rest_sum_to_the_whole() -> None:
    visits = Visits(4, packages=40)
    asked = request("funnel_entered", "view_to_start", window=HOUR * 7, step=HOUR, by="package")
    found = await ask(visits.log.state, asked)
    entered = [each for each in found if each.metric == "funnel_entered"]
    assert len(entered) == MAX_KEYS + 1
    assert entered[-1].key == "other"
    assert sum(point.value for each in entered for point in each.points) == len(visits.seen)
    rates = [each for each in found if each.metric == "view_to_start"]
    assert len(rates) == MAX_KEYS + 1
    assert sum(point.denominator for each in rates for point in each.points) == len(visits.seen)


@pytest.mark.parametrize("step", [10 * SECOND, 90 * SECOND])
async def test_a_split_is_of_whole_minutes(step: int) -> None:
    asked = request("package_views", window=20 * step, step=step, by="vendor")
    with pytest.raises(ApiError) as refused:
        await series.answer(asked, State, NoHistory())
    assert refused.value.violations[0].field == "step"
    assert "1 min for 24 h, or a multiple" in refused.value.violations[0].description
    assert "10 s" not in refused.value.violations[0].description
    asked.by = series_pb2.DIMENSION_UNSPECIFIED
    await series.answer(asked, State, NoHistory())


def test_what_is_split_is_split_by_every_dimension() -> None:
    every = set(DIMENSIONS)
    partly = {name for name, metric in METRICS.items() if 0 < len(every & set(metric.by)) < 4}
    assert partly == {"bookings_cancelled"}
