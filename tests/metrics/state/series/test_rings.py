"""Rings of slots: a window is the sum of its slots, at the edges too, and a ring stays bounded."""

from __future__ import annotations

import itertools
import random
from typing import Self

import pytest
from google.protobuf.duration_pb2 import Duration

from metrics_service.state.series.rings import (
    RESOLUTIONS,
    Resolution,
    Rings,
    WindowError,
    duration_us,
    ring_of,
)
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND


class Total:
    """A cell of one number."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def merge(self, other: Self) -> None:
        self.value += other.value

    take = merge

    def encode(self) -> bytes:
        return str(self.value).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        return cls(int(data))


def rings(now_us: int = NOW) -> Rings[Total]:
    made = Rings("totals", Total, Total.decode)
    made.advance(now_us)
    return made


def add(into: Rings[Total], time_us: int, value: int = 1) -> None:
    for cell in into.at(time_us):
        cell.value += value


@pytest.mark.parametrize(
    ("window_us", "level"),
    [
        (10 * SECOND, 0),
        (5 * MINUTE, 0),
        (HOUR, 0),
        (HOUR + MINUTE, 1),
        (DAY, 1),
        (25 * HOUR, 2),
        (30 * DAY, 2),
    ],
)
def test_the_finest_ring_that_keeps_a_window_answers_it(window_us: int, level: int) -> None:
    assert ring_of(window_us) == level


@pytest.mark.parametrize(
    "window_us",
    [0, -10 * SECOND, SECOND, 15 * SECOND, HOUR + 10 * SECOND, DAY + MINUTE, 30 * DAY + HOUR],
)
def test_a_window_that_no_ring_keeps_is_refused(window_us: int) -> None:
    with pytest.raises(WindowError, match="not kept; kept are multiples of 10 s up to 3600 s"):
        rings().window(window_us)


def test_a_duration_finer_than_a_microsecond_is_refused() -> None:
    assert duration_us(Duration(seconds=60)) == MINUTE
    with pytest.raises(WindowError):
        duration_us(Duration(seconds=60, nanos=1))


@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=lambda resolution: resolution.name)
def test_a_window_begins_and_ends_at_slot_edges(resolution: Resolution) -> None:
    step_us = resolution.step_us
    now_us = NOW + 7 * HOUR + step_us // 2
    slot_us = now_us // step_us * step_us
    # Three steps that the finer rings do not keep.
    window_us = max(3 * step_us, _longest_finer(resolution) + 3 * step_us)
    first_us = slot_us + step_us - window_us
    for time_us, within in [
        (first_us - 1, False),
        (first_us, True),
        (slot_us - 1, True),
        (slot_us, True),
        (now_us, True),
        (slot_us + step_us - 1, True),
        (slot_us + step_us, False),
    ]:
        made = rings(now_us)
        add(made, time_us)
        assert made.window(window_us).value == within, time_us - slot_us
        assert made.window(None).value == 1


def _longest_finer(resolution: Resolution) -> int:
    finer = [other.span_us for other in RESOLUTIONS if other.step_us < resolution.step_us]
    return max(finer, default=0)


def test_a_slot_leaves_a_window_when_time_moves_past_it() -> None:
    made = rings()
    add(made, NOW)
    made.advance(NOW + 5 * MINUTE - 1)
    assert made.window(5 * MINUTE).value == 1
    made.advance(NOW + 5 * MINUTE)
    assert made.window(5 * MINUTE).value == 0
    assert made.window(6 * MINUTE).value == 1


def test_a_long_window_is_the_sum_of_its_finest_slots_wherever_it_ends() -> None:
    made = rings(NOW)
    values = {}
    for number in range(400):
        made.advance(NOW + number * 10 * SECOND)
        add(made, NOW + number * 10 * SECOND, number + 1)
        values[number] = number + 1
        for window_us in (10 * SECOND, 50 * SECOND, 70 * SECOND, 10 * MINUTE, 3590 * SECOND, HOUR):
            slots = range(max(0, number - window_us // (10 * SECOND) + 1), number + 1)
            assert made.window(window_us).value == sum(values[slot] for slot in slots)


@pytest.mark.parametrize("ahead_us", [10 * SECOND, 2 * MINUTE, 50 * MINUTE])
def test_a_figure_ahead_of_now_is_shown_at_its_time(ahead_us: int) -> None:
    made = rings()
    add(made, NOW + ahead_us)
    assert made.window(HOUR).value == 0
    assert made.window(None).value == 1
    made.advance(NOW + ahead_us)
    assert made.window(10 * SECOND).value == 1


def test_a_correction_reaches_a_slot_that_was_closed() -> None:
    made = rings()
    add(made, NOW, 5)
    for minutes in range(1, 30):
        made.advance(NOW + minutes * MINUTE)
    add(made, NOW, -2)
    assert [made.window(window).value for window in (HOUR, DAY, 30 * DAY, None)] == [3, 3, 3, 3]


def test_a_figure_older_than_every_ring_counts_in_all_times_only() -> None:
    made = rings()
    add(made, NOW - 31 * DAY)
    assert made.window(30 * DAY).value == 0
    assert made.window(None).value == 1


def test_rings_hold_no_more_slots_than_they_are_long() -> None:
    made = rings(0)
    for number in range(5_000):
        made.advance(number * 30 * SECOND)
        add(made, number * 30 * SECOND)
    counts: dict[str, int] = {}
    for section, _, _ in made.dump():
        counts[section] = counts.get(section, 0) + 1
    assert counts == {"totals.10s": 120, "totals.1m": 1440, "totals.1h": 42, "totals.total": 1}


def test_dumped_rows_give_the_same_windows_back() -> None:
    made = rings()
    for number in range(300):
        made.advance(NOW + number * 17 * SECOND)
        add(made, NOW + number * 17 * SECOND, number)
    rows = list(made.dump())
    again = Rings("totals", Total, Total.decode)
    for row in rows:
        again.load(*row)
    again.advance(NOW + 299 * 17 * SECOND)
    assert list(again.dump()) == rows
    for window_us in (MINUTE, HOUR, DAY, None):
        assert again.window(window_us).value == made.window(window_us).value


def test_a_closed_slot_is_dumped_as_the_same_bytes_each_time() -> None:
    made = rings()
    add(made, NOW)
    made.advance(NOW + 10 * SECOND)
    made.advance(NOW + 20 * SECOND)
    first = {slot: data for section, slot, data in made.dump() if section == "totals.10s"}
    second = {slot: data for section, slot, data in made.dump() if section == "totals.10s"}
    assert [id(data) for data in first.values()] == [id(data) for data in second.values()]
    assert first


def test_rows_of_an_unknown_ring_are_refused() -> None:
    with pytest.raises(KeyError):
        rings().load("totals.5s", 0, b"1")


def test_a_read_decodes_few_slots_and_no_unchanged_ones() -> None:
    decoded = 0

    def decode(data: bytes) -> Total:
        nonlocal decoded
        decoded += 1
        return Total.decode(data)

    made = Rings("totals", Total, decode)
    for number in range(720):
        made.advance(NOW + number * HOUR)
        add(made, NOW + number * HOUR, number)
    made.advance(NOW + 720 * HOUR)
    steps = 0
    for _ in made.make(30 * DAY):
        steps, decoded, before = steps + 1, 0, decoded
        assert before <= 4
    assert steps > 100
    decoded = 0
    assert made.window(30 * DAY).value == sum(range(1, 720))
    assert 0 < decoded <= 30
    decoded = 0
    add(made, NOW + 720 * HOUR, 1)
    assert made.window(30 * DAY).value == sum(range(1, 720)) + 1
    assert decoded == 0


def test_a_kept_sum_never_hides_later_figures() -> None:
    """Random figures, early and late, with reads and prepare() in between, equal a plain sum."""
    rng = random.Random(7)
    made = rings(NOW)
    now_us, figures = NOW, list[tuple[int, int]]()
    for _ in range(1_500):
        now_us += rng.choice((SECOND, 10 * SECOND, 3 * MINUTE, 2 * HOUR))
        made.advance(now_us)
        behind_us = rng.choice((0, 20 * SECOND, 30 * MINUTE, 5 * HOUR, 3 * DAY))
        time_us, value = now_us - rng.randint(0, behind_us), rng.randint(-5, 9)
        add(made, time_us, value)
        figures.append((time_us, value))
        if rng.random() < 0.3:
            list(itertools.islice(made.prepare(), rng.randint(1, 50)))
        for window_us, ended_us in ((HOUR, 0), (DAY, 0), (DAY - HOUR, HOUR), (7 * DAY, 0)):
            step_us = RESOLUTIONS[ring_of(window_us, ended_us)].step_us
            high_us = (now_us // step_us + 1) * step_us - ended_us
            expected = sum(
                value for time_us, value in figures if high_us - window_us <= time_us < high_us
            )
            assert made.window(window_us, ended_us).value == expected
