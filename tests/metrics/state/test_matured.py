"""Windows that ended earlier, and the rates of matured slots beside those of all slots."""

from __future__ import annotations

import random

import pytest

from metrics_service.state.fold import State
from metrics_service.state.series.rings import WindowError
from protos.metrics.v1 import metrics_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Log

MATURED = metrics_pb2.GetFunnelRequest(state=metrics_pb2.GetFunnelRequest.MATURED)
MATURES = 40 * MINUTE


def visits(log: Log, number: int, every_us: int = MINUTE) -> None:
    """Visits, one every so often: each starts, each second completes, each fourth confirms."""
    for visit in range(number):
        at, session = log.now_us, f"s{visit}"
        events = [log.view(at, session)]
        for step, each in ((Fact.STARTED, 1), (Fact.COMPLETED, 2), (Fact.CONFIRMED, 4)):
            if visit % each == 0:
                events.append(
                    log.fact(step, at + 2 * SECOND, session, booking=session, hold_us=at + SECOND)
                )
        log.append(*events)
        log.jump(at + every_us)


def numbers(rate: metrics_pb2.Rate) -> tuple[int, int]:
    return rate.numerator, rate.denominator


@pytest.mark.parametrize("window", [None, HOUR, DAY], ids=str)
def test_a_slot_matures_when_window_and_lateness_have_passed_since_its_end(
    window: int | None,
) -> None:
    log = Log()
    log.append(
        log.view(NOW), log.fact(Fact.STARTED, NOW + SECOND), log.view(NOW + 15 * SECOND, "t")
    )
    step = 10 * SECOND if window != DAY else MINUTE
    log.jump(NOW + step + MATURES - 1)
    assert not log.state.funnel(window).HasField("matured")
    log.jump(NOW + step + MATURES)
    funnel = log.state.funnel(window)
    both = window == DAY
    assert numbers(funnel.matured.overall) == (0, 1 + both)
    assert numbers(funnel.matured.from_previous[0]) == (1, 1 + both)
    assert funnel.matured.abandoned == funnel.matured.entered
    assert funnel.matured.until.ToMicroseconds() == NOW + step
    assert numbers(funnel.overall) == (0, 2)


def test_matured_rates_are_true_where_live_ones_are_not_yet() -> None:
    log = Log()
    visits(log, 100)
    # Those who convert settle first: of the settled alone the rate would be above a quarter.
    funnel = log.state.funnel(2 * HOUR)
    assert numbers(funnel.overall) == (25, 100)
    assert funnel.open == 23
    assert numbers(funnel.matured.overall) == (15, 60)
    assert [numbers(rate) for rate in funnel.matured.from_previous] == [
        (60, 60),
        (30, 60),
        (15, 30),
    ]
    assert funnel.matured.overall.value == 0.25
    assert funnel.matured.until.ToMicroseconds() == log.now_us - MATURES


def test_the_matured_form_abandonment_is_of_the_bookings_started_then() -> None:
    log = Log()
    for visit, at in enumerate((NOW, NOW + MINUTE, NOW + 30 * MINUTE)):
        log.append(
            log.fact(Fact.STARTED, at, f"s{visit}", booking=f"b{visit}", hold_us=at),
            log.fact(Fact.EXPIRED, at + MINUTE, f"s{visit}", booking=f"b{visit}", hold_us=at),
        )
    log.jump(NOW + MINUTE + MATURES)
    matured = log.state.funnel(HOUR).matured
    assert numbers(matured.form_abandonment) == (1, 1)
    assert numbers(matured.overall) == (0, 0)
    assert not matured.overall.HasField("value")
    assert numbers(log.state.metrics(HOUR).performance.form_abandonment) == (3, 3)


@pytest.mark.parametrize("window", [None, HOUR, 6 * HOUR, 2 * DAY], ids=str)
def test_the_matured_funnel_has_the_matured_rates(window: int | None) -> None:
    log = Log()
    visits(log, 300, 17 * SECOND)
    live, matured = log.state.funnel(window), log.state.funnel(window, request=MATURED)
    assert (live.state, matured.state) == (MATURED.LIVE, MATURED.MATURED)
    assert matured.matured == live.matured
    if window is not None and window > DAY:
        # Steps of an hour: none has matured.
        assert not live.HasField("matured")
        assert matured.entered == 0
        return
    assert matured.overall == live.matured.overall
    assert [step.from_previous for step in matured.steps[1:]] == list(live.matured.from_previous)
    assert matured.entered == matured.converted + matured.abandoned
    assert matured.bookings_started == live.matured.form_abandonment.denominator
    assert matured.steps[3].time_from_first.count == matured.steps[3].actors
    if matured.converted:
        assert matured.steps[3].time_from_first.p50_ms == pytest.approx(2_000, rel=0.01)


def figures(snapshot: metrics_pb2.MetricsSnapshot) -> list[bytes]:
    """The parts of a snapshot that belong to its window alone."""
    funnel = metrics_pb2.Funnel()
    funnel.CopyFrom(snapshot.funnel)
    for name in ("as_of", "revision", "ended", "matured"):
        funnel.ClearField(name)
    return [part.SerializeToString() for part in (funnel, snapshot.business, snapshot.performance)]


@pytest.mark.parametrize(
    ("window", "ended"),
    [(10 * SECOND, 10 * SECOND), (10 * MINUTE, 50 * MINUTE), (HOUR, 3 * HOUR), (DAY, 2 * DAY)],
)
def test_a_window_that_ended_is_the_one_of_that_time(window: int, ended: int) -> None:
    dice = random.Random(1)
    log = Log(NOW + dice.randrange(HOUR))
    visits(log, 40, 41 * SECOND)
    # All visits have ended by then.
    log.jump(NOW + 3 * HOUR)
    before = figures(log.state.metrics(window))
    log.jump(log.now_us + ended)
    assert figures(log.state.metrics(window, ended)) == before
    funnel = log.state.funnel(window, ended)
    assert funnel.ended.ToMicroseconds() == log.state.metrics(window, ended).ended.ToMicroseconds()
    assert funnel.ended.ToMicroseconds() == ended
    assert log.state.errors(window, ended).ended.ToMicroseconds() == ended
    request = metrics_pb2.GetQueryStatsRequest()
    request.window.FromMicroseconds(window)
    request.ended.FromMicroseconds(ended)
    assert log.state.query_stats(request).ended.ToMicroseconds() == ended


@pytest.mark.parametrize(
    ("window", "ended"),
    [(HOUR, 5 * SECOND), (HOUR, 10 * SECOND), (50 * MINUTE + 10 * SECOND, 20 * MINUTE)],
)
def test_a_window_that_ended_between_two_steps_is_not_kept(window: int, ended: int) -> None:
    state = State()
    with pytest.raises(WindowError, match="kept are, both and together"):
        state.funnel(window, ended)
