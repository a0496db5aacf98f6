"""Actors of the funnel: abandonment, closing windows, late events, and leaving."""

from __future__ import annotations

import pytest

from metrics_service.state.funnel.funnel import MAX_EVENTS, MAX_LATENESS_US, WINDOW_US, FunnelFold
from tests.metrics.state.funnel.one_actor import (
    GIVE_UP,
    VIEW,
    Events,
    funnel_of,
    parts,
    send,
)
from tests.metrics.state.log import HOUR, MINUTE, NOW, SECOND


@pytest.mark.parametrize(
    ("why", "events", "abandoned"),
    [
        ("said so", [(0, 0), (1, 60), (GIVE_UP, 90)], 1),
        ("a later valid step takes it back", [(0, 0), (1, 60), (GIVE_UP, 90), (2, 100)], 0),
        ("so does a new view", [(0, 0), (1, 60), (GIVE_UP, 90), (0, 100)], 0),
        ("so does a repeated step", [(0, 0), (1, 60), (GIVE_UP, 90), (1, 100)], 0),
        ("a skipped step does not", [(0, 0), (1, 60), (GIVE_UP, 90), (3, 100)], 1),
        ("a step after the window does not", [(0, 0), (1, 60), (GIVE_UP, 90), (2, 1_801)], 1),
        ("a converted actor has not given up", [(0, 0), (1, 1), (2, 2), (3, 3), (GIVE_UP, 4)], 0),
        ("at the same time the step came first", [(0, 0), (GIVE_UP, 60), (1, 60)], 1),
        ("an earlier one that arrives late", [(0, 0), (1, 60), (2, 120), (GIVE_UP, 90)], 0),
    ],
)
def test_giving_up(why: str, events: Events, abandoned: int) -> None:
    assert funnel_of(events).window(None).abandoned == abandoned, why


def test_giving_up_without_having_entered_counts_nothing() -> None:
    cell = funnel_of([(GIVE_UP, 10)]).window(None)
    assert parts(cell) == (0, 0, 0, 0)
    assert sum(cell.unmatched) == 0


def test_a_window_closes_after_its_end_and_not_at_it() -> None:
    fold = funnel_of([(0, 0), (1, 60)])
    fold.advance(NOW + WINDOW_US, 0)
    assert parts(fold.window(None)) == (1, 0, 0, 1)
    fold.advance(NOW + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)


def test_a_new_view_keeps_an_actor_open() -> None:
    fold = funnel_of([(0, 0), (0, 600)])
    fold.advance(NOW + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 0, 1)
    fold.advance(NOW + 600 * SECOND + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)


def test_a_late_step_within_the_window_revokes_an_abandonment() -> None:
    fold = funnel_of([(0, 0), (1, 60), (2, 120)])
    fold.advance(NOW + WINDOW_US + MINUTE, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)
    send(fold, [(3, 180)])
    assert parts(fold.window(None)) == (1, 1, 0, 0)


def test_a_chain_that_moves_back_in_time_closes_earlier() -> None:
    fold = funnel_of([(0, 900)])
    send(fold, [(0, 0), (1, 60)])
    fold.advance(NOW + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)
    fold.advance(NOW + 900 * SECOND + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)


def test_a_chain_that_moves_back_before_its_end_closes_once() -> None:
    fold = funnel_of([(0, 0), (0, 900)])
    fold.advance(NOW + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 0, 1)
    send(fold, [(1, 60)])
    assert parts(fold.window(None)) == (1, 0, 1, 0)
    fold.advance(NOW + 900 * SECOND + WINDOW_US + 1, 0)
    assert parts(fold.window(None)) == (1, 0, 1, 0)


def test_an_actor_stays_until_its_lateness_has_passed_and_then_leaves() -> None:
    fold = funnel_of([(0, 0)])
    fold.advance(NOW + WINDOW_US + 1, 1)
    fold.advance(NOW + WINDOW_US + HOUR, MAX_LATENESS_US)
    assert len(fold) == 1
    fold.advance(NOW + WINDOW_US + HOUR, MAX_LATENESS_US + 1)
    assert len(fold) == 0
    assert parts(fold.window(None)) == (1, 0, 1, 0)


def test_a_converted_actor_leaves_too() -> None:
    fold = funnel_of([(0, 0), (1, 1), (2, 2), (3, 3)])
    fold.advance(NOW + WINDOW_US + 1, 0)
    fold.advance(NOW + WINDOW_US + 1, MAX_LATENESS_US)
    assert len(fold) == 0
    assert parts(fold.window(None)) == (1, 1, 0, 0)


def test_a_returning_actor_stays_for_its_new_chain() -> None:
    fold = funnel_of([(0, 0)])
    fold.advance(NOW + WINDOW_US + 1, 0)
    send(fold, [(0, 1_900)])
    fold.advance(NOW + WINDOW_US + 2, MAX_LATENESS_US)
    assert len(fold) == 1
    send(fold, [(1, 1_950)])
    assert fold.window(None).reached == [1, 1, 0, 0]
    fold.advance(NOW + 3 * HOUR, MAX_LATENESS_US)
    assert len(fold) == 1
    fold.advance(NOW + 3 * HOUR, 2 * MAX_LATENESS_US)
    assert len(fold) == 0


def test_an_event_older_than_all_kept_events_is_late_and_changes_nothing() -> None:
    fold = funnel_of([(0, 100 + second) for second in range(MAX_EVENTS + 1)])
    assert fold.late == 0
    send(fold, [(0, 50), (1, 99)])
    assert fold.late == 2
    assert parts(fold.window(None)) == (1, 0, 0, 1)
    assert sum(fold.window(None).unmatched) == 0


def test_events_no_longer_kept_still_count() -> None:
    steps: Events = [(0, 0), (1, 1), (1, 2)]
    fold = funnel_of([*steps, *((1, 10 + second) for second in range(2 * MAX_EVENTS))])
    send(fold, [(2, 100), (3, 110)])
    assert fold.window(None).reached == [1, 1, 1, 1]
    assert [sketch.sum / SECOND for sketch in fold.window(None).from_first_us] == [1, 100, 110]


def test_too_many_actors_are_settled_early_and_counted() -> None:
    fold = FunnelFold(max_actors=2)
    fold.advance(NOW, 0)
    for number in range(5):
        fold.step(f"s{number}", VIEW, NOW + number)
    assert (len(fold), fold.evicted) == (2, 3)
    assert parts(fold.window(None)) == (5, 0, 3, 2)
    fold.advance(NOW + HOUR, 0)
    assert parts(fold.window(None)) == (5, 0, 5, 0)


def test_an_actor_far_ahead_of_now_counts_in_all_times_only() -> None:
    fold = funnel_of([(0, 0), (1, 10), (0, 7_200), (1, 7_210), (2, 7_220)])
    assert fold.window(None).reached == [1, 1, 1, 0]
    assert fold.window(HOUR).entered == 0
    fold.advance(NOW + 7_230 * SECOND, 0)
    assert fold.window(24 * HOUR).entered == 0
    send(fold, [(3, 7_225)])
    assert fold.window(None).reached == [1, 1, 1, 1]
    assert fold.window(24 * HOUR).reached == [0, 0, 0, 0]
