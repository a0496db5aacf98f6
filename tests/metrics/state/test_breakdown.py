"""Groups by package, type, location and vendor: (session, package) is the actor, every event counts
in one group of each dimension, and the groups sum to the whole.
"""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from metrics_service.state.breakdown.cell import MAX_GROUPS
from metrics_service.state.breakdown.packages import MAX_KNOWN
from metrics_service.state.fold import State
from metrics_service.state.funnel.chain import MAX_PACKAGES
from metrics_service.state.groups import MAX_SHOWN_GROUPS
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.series_pb2 import (
    DIMENSION_LOCATION,
    DIMENSION_PACKAGE,
    DIMENSION_PACKAGE_TYPE,
    DIMENSION_VENDOR,
    Dimension,
)
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log
from tests.metrics.state.visits import visit

Request = metrics_pb2.GetFunnelRequest
EVERY = (DIMENSION_PACKAGE, DIMENSION_PACKAGE_TYPE, DIMENSION_LOCATION, DIMENSION_VENDOR)


def funnel(
    state: State, by: Dimension.ValueType = DIMENSION_PACKAGE, window: int | None = None
) -> metrics_pb2.Funnel:
    return state.funnel(window, request=Request(by=by))


def counted(funnel: metrics_pb2.Funnel) -> dict[str, list[int]]:
    return {group.key: list(group.actors) for group in funnel.groups}


def test_a_session_counts_once_for_each_package() -> None:
    log = Log()
    log.append(*visit(log, NOW, "s", "p1", 2), *visit(log, NOW + SECOND, "s", "p2", 4))
    log.append(*visit(log, NOW, "t", "p1", 1))
    answer = funnel(log.state)
    assert counted(answer) == {"p1": [2, 1, 0, 0], "p2": [1, 1, 1, 1]}
    assert list(answer.all_groups.actors) == [3, 2, 1, 1]
    # Of sessions, there are two.
    assert (answer.entered, answer.converted) == (2, 1)
    overall = answer.groups[1].overall
    assert (overall.numerator, overall.denominator, overall.value) == (1, 1, 1.0)
    [money] = answer.groups[1].revenue
    assert (money.currency, money.confirmed, money.gross_minor) == ("EUR", 1, 100)
    assert not answer.groups[0].revenue
    assert [group.package_views for group in answer.groups] == [2, 1]
    assert log.state.metrics().business.package_views == 3


@pytest.mark.parametrize("seed", range(4))
def test_the_groups_are_those_of_an_independent_count(seed: int) -> None:
    dice = random.Random(seed)
    log = Log()
    expected: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    waiting: list[tuple[int, event_pb2.Event]] = []
    for number in range(120):
        at = NOW + dice.randrange(HOUR)
        for package in dice.sample([f"p{each}" for each in range(8)], dice.randint(1, 3)):
            steps = dice.randint(1, 4)
            for step in range(steps):
                expected[package][step] += 1
            events = visit(log, at + dice.randrange(20 * MINUTE), f"s{number}", package, steps)
            waiting += [(each.time_us + dice.randrange(MINUTE), each) for each in events]
    for at, event in sorted(waiting, key=lambda each: each[0]):
        log.now_us = at
        log.append(event)
    log.tick(NOW + 3 * HOUR)
    loaded = State.load(log.state.dump())
    for state in (log.state, loaded):
        for window in (None, 4 * HOUR, 2 * DAY):
            answer = funnel(state, DIMENSION_PACKAGE, window)
            assert counted(answer) == expected
            for group in (*answer.groups, answer.all_groups):
                assert group.open == 0
                assert group.actors[0] == group.actors[3] + group.abandoned
            if window != 2 * DAY:
                assert [each.matured.overall for each in answer.groups] == [
                    each.overall for each in answer.groups
                ]
            for by in EVERY:
                of_dimension = funnel(state, by, window)
                sums = [sum(column) for column in zip(*counted(of_dimension).values(), strict=True)]
                assert sums == list(of_dimension.all_groups.actors)
                assert of_dimension.all_groups == answer.all_groups
    assert list(loaded.dump()) == list(log.state.dump())


def test_an_actor_with_many_events_and_packages_keeps_the_chain_of_each() -> None:
    log = Log()
    for number in range(MAX_PACKAGES + 10):
        log.now_us = NOW + number * SECOND
        log.append(*visit(log, NOW + number * SECOND, "s", f"p{number}", 1 + number % 2))
    log = reloaded(log)
    log.append(log.fact(Fact.COMPLETED, NOW + 5 * MINUTE, booking="s p1", package="p1"))
    answer = funnel(log.state)
    assert list(answer.all_groups.actors) == [MAX_PACKAGES + 1, MAX_PACKAGES // 2 + 1, 1, 0]
    # Further packages of a session are one, of no group.
    assert list(answer.other_groups.actors) == [1, 1, 0, 0]
    assert counted(answer)["p1"] == [1, 1, 1, 0]
    log.jump(NOW + HOUR)
    assert funnel(log.state).all_groups.open == 0


def reloaded(log: Log) -> Log:
    log.state = State.load(log.state.dump())
    return log


def test_a_step_without_its_package_belongs_to_that_of_the_step_before() -> None:
    log = Log()
    for package, steps in (("p1", 3), ("p2", 2)):
        log.append(
            *[
                event_pb2.Event(
                    event_id=log.event_id(),
                    time_us=NOW + number,
                    session_id="s",
                    flow_step=Flow(step=step, package_id=package, booking_id=f"b{package}"),
                )
                for number, step in enumerate((Flow.VIEW, Flow.START, Flow.COMPLETE)[:steps])
            ]
        )
    confirmed = Flow(step=Flow.CONFIRM, booking_id="bp1")
    log.append(event_pb2.Event(time_us=NOW + 9, session_id="s", flow_step=confirmed))
    assert counted(funnel(log.state)) == {"p1": [1, 1, 1, 1], "p2": [1, 1, 0, 0]}


def test_keys_are_bounded_and_the_rest_is_counted() -> None:
    log = Log()
    number = MAX_GROUPS + 7
    for first in range(number):
        log.append(*visit(log, NOW + first, f"s{first}", f"p{first}", 1))
    answer = funnel(log.state, window=HOUR)
    assert len(answer.groups) == MAX_SHOWN_GROUPS
    assert answer.other_groups.actors[0] == number - MAX_SHOWN_GROUPS
    assert answer.all_groups.actors[0] == number
    assert log.state.metrics().quality.evicted["breakdown"] == 7 * 2
    assert funnel(log.state, DIMENSION_VENDOR).all_groups.actors[0] == number
    for first in range(2 * MAX_KNOWN + 1_000):
        log.state._tables.breakdown.packages.of(f"q{first}")
    assert len(log.state._tables.breakdown.packages._newer) <= MAX_KNOWN
    assert log.state._tables.breakdown.packages.known("p0") == ()


def test_the_days_of_entry_are_those_of_the_actors() -> None:
    log = Log(NOW // DAY * DAY - 3 * DAY)
    for day in range(4):
        at = NOW // DAY * DAY + (day - 3) * DAY
        # The last step is on the next day.
        log.jump(at + DAY - 2 * SECOND)
        for number in range(day + 1):
            log.append(*visit(log, log.now_us, f"{day} {number}", "p1", 4))
    log.jump(NOW // DAY * DAY + DAY + 2 * MINUTE)
    days = log.state.funnel(request=Request(entry_days=30)).days
    assert len(days) == 30
    assert [list(each.actors) for each in days[:5]] == [
        [0, 0, 0, 0],
        [4, 4, 4, 4],
        [3, 3, 3, 3],
        [2, 2, 2, 2],
        [1, 1, 1, 1],
    ]
    assert days[0].key == "2027-01-16"
    assert not days[0].HasField("matured")
    assert not days[1].HasField("matured")
    assert days[2].matured.overall == days[2].overall
    log.jump(log.now_us + HOUR)
    assert log.state.funnel(request=Request(entry_days=2)).days[1].matured.entered == 4
