"""The funnel compared with an oracle that tries every chain: slow, obvious and stateless."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.state.funnel.funnel import MAX_EVENTS, FunnelFold
from metrics_service.state.series.rings import MINUTE_US, SECOND_US

STEPS = ("view", "start", "complete", "confirm")
GIVE_UP = len(STEPS)
# Small numbers, so that edges occur often: a window of 40 s, times in steps of 5 s.
WINDOW_US = 40 * SECOND_US
NOW_US = 1_800_000_000 * SECOND_US

# (seconds after NOW, step): tuples sort by time, then by step, abandonment last.
Event = tuple[int, int]

event = st.tuples(st.integers(0, 24).map(lambda n: 5 * n), st.integers(0, GIVE_UP))
actors = st.lists(st.lists(event, max_size=MAX_EVENTS), min_size=1, max_size=4)


class Figures(NamedTuple):
    """The figures of a funnel."""

    reached: list[int]
    abandoned: int
    unmatched: list[int]
    from_first_s: list[list[int]]
    from_previous_s: list[list[int]]


def best_chain(events: list[Event]) -> list[int]:
    """Of all chains of sorted events, the times of the furthest; of those the one that got there
    first; of those the one that began last. At the first step the newest view.
    """
    found: list[tuple[int, int, int, list[int]]] = []
    for first, (began_s, step) in enumerate(events):
        if step != 0:
            continue
        times, last = [began_s], first
        for position in range(first + 1, len(events)):
            time_s, step = events[position]
            if step == len(times) < GIVE_UP and time_s - began_s <= WINDOW_US // SECOND_US:
                times, last = [*times, time_s], position
        found.append((len(times), -last if len(times) > 1 else last, first, times))
    return max(found)[3] if found else []


def is_matched(events: list[Event], position: int) -> bool:
    """Return whether a step extends any chain before it."""
    time_s, step = events[position]
    if step == 0:
        return True
    within = [
        (began_s, other)
        for began_s, other in events[:position]
        if time_s - began_s <= WINDOW_US // SECOND_US
    ]
    return any(
        reaches(within[first:], step) for first, (_, other) in enumerate(within) if other == 0
    )


def reaches(events: list[Event], step: int) -> bool:
    wanted = 0
    for _, other in events:
        wanted += other == wanted
    return wanted >= step


def has_given_up(events: list[Event]) -> bool:
    given_up = False
    for position, (time_s, step) in enumerate(events):
        best = best_chain(events[: position + 1])
        if not best:
            continue
        if step == GIVE_UP:
            given_up = True
        elif is_matched(events, position) and time_s - best[0] <= WINDOW_US // SECOND_US:
            given_up = False
    return given_up


@lru_cache(maxsize=64)
def outcome(events: tuple[Event, ...]) -> tuple[list[int], bool, list[Event]]:
    """Return the best chain of sorted events, whether it is abandoned, and unmatched events."""
    ordered = list(events)
    unmatched = [
        event
        for position, event in enumerate(ordered)
        if event[1] != GIVE_UP and not is_matched(ordered, position)
    ]
    return best_chain(ordered), has_given_up(ordered), unmatched


def oracle(events_by_actor: list[list[Event]], as_of_s: int, from_s: int) -> Figures:
    """Figures of the actors whose best chain began at from_s or later, and of the events since."""
    figures = Figures([0] * 4, 0, [0] * 4, [[], [], []], [[], [], []])
    abandoned = 0
    for events in events_by_actor:
        best, given_up, unmatched = outcome(tuple(sorted(events)))
        for time_s, step in unmatched:
            figures.unmatched[step] += from_s <= time_s
        if not best or best[0] < from_s:
            continue
        for step, time_s in enumerate(best):
            figures.reached[step] += 1
            if step:
                figures.from_first_s[step - 1].append(time_s - best[0])
                figures.from_previous_s[step - 1].append(time_s - best[step - 1])
        closed = as_of_s > best[0] + WINDOW_US // SECOND_US
        abandoned += len(best) < len(STEPS) and (closed or given_up)
    return figures._replace(abandoned=abandoned)


def check(fold: FunnelFold, events_by_actor: list[list[Event]], as_of_s: int) -> None:
    for window_s in (None, 10, 60, 300):
        window_us = None if window_s is None else window_s * SECOND_US
        from_s = -1_000 if window_s is None else (as_of_s // 10 + 1) * 10 - window_s
        expected = oracle(events_by_actor, as_of_s, from_s)
        cell = fold.window(window_us)
        assert cell.reached == expected.reached
        assert cell.abandoned == expected.abandoned
        assert cell.unmatched == expected.unmatched
        for sketches, times in (
            (cell.from_first_us, expected.from_first_s),
            (cell.from_previous_us, expected.from_previous_s),
        ):
            assert [sketch.count for sketch in sketches] == [len(each) for each in times]
            assert [sketch.sum for sketch in sketches] == [sum(each) * SECOND_US for each in times]
        assert cell.open >= 0
        assert cell.entered == cell.converted + cell.abandoned + cell.open


def send(fold: FunnelFold, actor: int, events: Iterable[Event]) -> None:
    for time_s, step in events:
        time_us = NOW_US + time_s * SECOND_US
        if step == GIVE_UP:
            fold.abandon(f"actor {actor}", time_us)
        else:
            fold.step(f"actor {actor}", step, time_us)


@settings(max_examples=200, deadline=None)
@given(actors, st.integers(120, 200))
def test_the_funnel_equals_the_oracle_in_any_order_of_arrival(
    events_by_actor: list[list[Event]], as_of_s: int
) -> None:
    fold = FunnelFold(STEPS, WINDOW_US)
    fold.advance(NOW_US + as_of_s * SECOND_US, 0)
    for actor, events in enumerate(events_by_actor):
        send(fold, actor, events)
    check(fold, events_by_actor, as_of_s)


@settings(max_examples=60, deadline=None)
@given(actors, st.lists(st.integers(0, 15), max_size=6))
def test_the_funnel_equals_the_oracle_at_every_moment(
    events_by_actor: list[list[Event]], delays: list[int]
) -> None:
    """Events arrive in order of time, some late, while the clock advances."""
    fold = FunnelFold(STEPS, WINDOW_US)
    arrivals = sorted(
        (time_s + (delays[number % len(delays)] if delays else 0), actor, number)
        for actor, events in enumerate(events_by_actor)
        for number, (time_s, _) in enumerate(events)
    )
    seen: list[list[Event]] = [[] for _ in events_by_actor]
    for arrived_s in range(0, 200, 5):
        # No actor leaves: the oracle does not model that.
        fold.advance(NOW_US + arrived_s * SECOND_US, 0)
        while arrivals and arrivals[0][0] <= arrived_s:
            _, actor, number = arrivals.pop(0)
            send(fold, actor, [events_by_actor[actor][number]])
            seen[actor].append(events_by_actor[actor][number])
        if arrived_s % 35 == 0:
            check(fold, seen, arrived_s)
    check(fold, seen, arrived_s)


@settings(max_examples=40, deadline=None)
@given(st.lists(event, min_size=MAX_EVENTS, max_size=3 * MAX_EVENTS))
def test_the_funnel_equals_the_oracle_for_any_number_of_ordered_events(events: list[Event]) -> None:
    fold = FunnelFold(STEPS, WINDOW_US)
    fold.advance(NOW_US + 150 * SECOND_US, 0)
    send(fold, 0, sorted(events))
    check(fold, [events], 150)
    assert fold.late == 0


@settings(max_examples=60, deadline=None)
@given(actors)
def test_no_actor_is_open_or_kept_once_every_window_has_closed(
    events_by_actor: list[list[Event]],
) -> None:
    fold = FunnelFold(STEPS, WINDOW_US)
    for actor, events in enumerate(events_by_actor):
        fold.advance(NOW_US + actor * SECOND_US, 0)
        send(fold, actor, events)
    fold.advance(NOW_US + 10 * MINUTE_US, 0)
    assert fold.window(None).open == 0
    fold.advance(NOW_US + 10 * MINUTE_US, 10 * MINUTE_US)
    assert len(fold) == 0
    assert fold.window(None).reached == oracle(events_by_actor, 0, -1_000).reached
