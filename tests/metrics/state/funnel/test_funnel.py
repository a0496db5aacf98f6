"""The semantics of the funnel: what each sequence of events counts as, and in which slot."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from metrics_service.state.funnel.funnel import WINDOW_US, FunnelFold
from tests.metrics.state.funnel.one_actor import (
    Events,
    funnel_of,
    parts,
)
from tests.metrics.state.log import DAY, HOUR, NOW, SECOND


class Case(NamedTuple):
    """Events in order of arrival, the steps reached, and the outcome an hour later."""

    why: str
    events: Events
    reached: tuple[int, int, int, int]
    converted: int = 0
    unmatched: tuple[int, int, int, int] = (0, 0, 0, 0)


WINDOW_S = WINDOW_US / SECOND
CASES = [
    Case("a whole chain", [(0, 0), (1, 60), (2, 120), (3, 180)], (1, 1, 1, 1), 1),
    Case("other events may lie between", [(0, 0), (0, 5), (1, 9), (0, 10), (2, 12)], (1, 1, 1, 0)),
    Case("the window's end is inclusive", [(0, 0), (1, WINDOW_S)], (1, 1, 0, 0)),
    Case(
        "a microsecond later it is over",
        [(0, 0), (1, WINDOW_S + 1e-6)],
        (1, 0, 0, 0),
        unmatched=(0, 1, 0, 0),
    ),
    Case(
        "the window runs from the first step, not from the last",
        [(0, 0), (1, 1_000), (2, 1_700), (3, 1_801)],
        (1, 1, 1, 0),
        unmatched=(0, 0, 0, 1),
    ),
    Case(
        "a new view moves the start of the chain",
        [(0, 0), (0, 1_000), (1, 2_000), (2, 2_700), (3, 2_800)],
        (1, 1, 1, 1),
        1,
    ),
    Case(
        "the latest chain that reached a step is kept for each step",
        [(0, 0), (1, 100), (0, 1_000), (2, 1_200)],
        (1, 1, 1, 0),
    ),
    Case(
        "a later start is not enough for a step that its own chain has not reached",
        [(0, 0), (1, 100), (0, 1_000), (2, 1_801)],
        (1, 1, 0, 0),
        unmatched=(0, 0, 1, 0),
    ),
    Case(
        "a repeated later step keeps the level and is not unmatched",
        [(0, 0), (1, 60), (1, 70), (1, 80), (2, 90), (1, 100)],
        (1, 1, 1, 0),
    ),
    Case(
        "a skipped step does not count",
        [(0, 0), (2, 60)],
        (1, 0, 0, 0),
        unmatched=(0, 0, 1, 0),
    ),
    Case(
        "a start without a view enters nothing",
        [(1, 0), (2, 60)],
        (0, 0, 0, 0),
        unmatched=(0, 1, 1, 0),
    ),
    Case("equal times are sorted by step", [(3, 0), (2, 0), (1, 0), (0, 0)], (1, 1, 1, 1), 1),
    Case("one event fills one step", [(0, 0), (1, 0)], (1, 1, 0, 0)),
    Case(
        "the order of arrival does not matter, the order of time does",
        [(3, 180), (1, 60), (2, 120), (0, 0)],
        (1, 1, 1, 1),
        1,
    ),
    Case(
        "a step before its view stays unmatched",
        [(1, 0), (0, 60)],
        (1, 0, 0, 0),
        unmatched=(0, 1, 0, 0),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why)
def test_chain(case: Case) -> None:
    fold = funnel_of(case.events)
    cell = fold.window(None)
    assert tuple(cell.reached) == case.reached
    assert tuple(cell.unmatched) == case.unmatched
    entered = case.reached[0]
    assert parts(cell) == (entered, case.converted, 0, entered - case.converted)
    fold.advance(NOW + 2 * HOUR, 0)
    assert parts(cell) == (entered, case.converted, entered - case.converted, 0)


@pytest.mark.parametrize("time_us", [0, 1, -5 * SECOND])
def test_zero_and_before_are_valid_times(time_us: int) -> None:
    fold = FunnelFold()
    for step in range(4):
        fold.step("s", step, time_us)
    assert fold.window(None).reached == [1, 1, 1, 1]


class Slots(NamedTuple):
    """Events, and the second whose slot the actor counts in."""

    why: str
    events: Events
    slot_s: float


@pytest.mark.parametrize(
    "case",
    [
        Slots("the newest view, while there is nothing else", [(0, 0), (0, 100), (0, 200)], 200),
        Slots("the start of the chain that went on", [(0, 0), (0, 100), (1, 150)], 100),
        Slots("a new view does not replace a further chain", [(0, 0), (1, 50), (0, 100)], 0),
        Slots(
            "of two chains equally far the first to get there",
            [(0, 0), (1, 50), (0, 100), (1, 150)],
            0,
        ),
        Slots(
            "a later chain that gets further replaces it",
            [(0, 0), (1, 50), (0, 100), (1, 150), (2, 160)],
            100,
        ),
        Slots(
            "an older event that arrives late moves it back",
            [(0, 0), (0, 100), (2, 150), (1, 50)],
            0,
        ),
    ],
    ids=lambda case: case.why,
)
def test_an_actor_counts_in_the_slot_of_its_best_chain(case: Slots) -> None:
    fold = funnel_of(case.events)
    found = []
    for start_s in range(0, 300, 10):
        fold.advance(NOW + start_s * SECOND, 0)
        found.append((start_s, fold.window(10 * SECOND).entered))
    assert [second for second, entered in found if entered] == [case.slot_s // 10 * 10]
    assert sum(entered for _, entered in found) == 1
    # The same one actor in the coarser rings and of all times.
    assert [fold.window(window).entered for window in (HOUR, 3 * HOUR, DAY, 30 * DAY, None)] == (
        [1] * 5
    )


def test_times_to_convert_are_those_of_the_best_chain() -> None:
    fold = funnel_of([(0, 0), (0, 10), (1, 40), (1, 50), (2, 100), (3, 160)])
    cell = fold.window(None)
    from_first = [sketch.sum / SECOND for sketch in cell.from_first_us]
    from_previous = [sketch.sum / SECOND for sketch in cell.from_previous_us]
    assert (from_first, from_previous) == ([30, 90, 150], [30, 60, 60])
    assert [sketch.count for sketch in cell.from_first_us] == [1, 1, 1]


def test_times_are_corrected_when_the_best_chain_changes() -> None:
    fold = funnel_of([(0, 0), (1, 50), (0, 100), (1, 110), (2, 130)])
    cell = fold.window(None)
    assert [sketch.sum / SECOND for sketch in cell.from_first_us] == [10, 30, 0]
    assert [sketch.count for sketch in cell.from_previous_us] == [1, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 10])
def test_funnels_of_other_steps_and_windows(count: int) -> None:
    fold = FunnelFold([f"step {number}" for number in range(count)], 10 * SECOND)
    fold.advance(NOW, 0)
    for step in range(count):
        fold.step("in time", step, NOW + step)
        fold.step("too late", step, NOW + step * 11 * SECOND)
    cell = fold.window(None)
    assert cell.reached == [2, *[1] * (count - 1)]
    assert cell.converted == (2 if count == 1 else 1)


@pytest.mark.parametrize("count", [0, 11])
def test_a_funnel_has_1_to_10_steps(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 10 steps"):
        FunnelFold([str(number) for number in range(count)])


@pytest.mark.parametrize("step", [-1, 4])
def test_a_step_the_funnel_does_not_have_is_refused(step: int) -> None:
    with pytest.raises(ValueError, match="of a funnel of 4"):
        FunnelFold().step("s", step, 0)
