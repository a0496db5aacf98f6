"""Data quality: repeated, impossible, unreadable, lost events are counted and change no figure."""

from __future__ import annotations

import pytest

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state import tables
from metrics_service.state.fold import State
from metrics_service.state.ranges import MAX_COUNT
from metrics_service.state.record import MAX_TIME_US, MIN_TIME_US
from tests.metrics.state.log import DAY, NOW, SECOND, Fact, Log


def test_a_repeated_event_counts_once() -> None:
    log = Log()
    viewed, fact = log.view(NOW), log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=7)
    log.append(viewed, fact, viewed)
    log.append(fact)
    metrics = log.state.metrics()
    assert metrics.quality.duplicates == 2
    assert (metrics.quality.events, metrics.quality.facts, metrics.quality.telemetry_events) == (
        2,
        1,
        1,
    )
    assert (metrics.funnel.entered, metrics.business.confirmed) == (1, 1)


def test_duplicates_are_known_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_SEEN_EVENTS", 10)
    log = Log()
    first = log.view(NOW, "first")
    log.append(first, *(log.view(NOW, f"s{number}") for number in range(10)), first)
    assert log.state.metrics().quality.duplicates == 1
    log.append(*(log.view(NOW, f"t{number}") for number in range(20)), first)
    assert log.state.metrics().quality.duplicates == 1


def test_events_without_an_id_are_all_counted() -> None:
    log = Log()
    viewed = log.view(NOW)
    viewed.event_id = b""
    log.append(viewed, viewed)
    quality = log.state.metrics().quality
    assert (quality.events, quality.duplicates) == (2, 0)


@pytest.mark.parametrize(
    ("offset_us", "skewed"),
    [(60 * SECOND, 0), (60 * SECOND + 1, 1), (-DAY, 0), (-DAY - 1, 1)],
)
def test_implausible_telemetry_gets_the_receive_time(offset_us: int, skewed: int) -> None:
    log = Log()
    log.append(log.refused(NOW + offset_us))
    metrics = log.state.metrics()
    assert metrics.quality.skewed == skewed
    seen_us = metrics.errors.breakdown[0].first_seen.ToMicroseconds()
    assert seen_us == (NOW if skewed else NOW + offset_us)


@pytest.mark.parametrize("time_us", [MIN_TIME_US, NOW - 400 * DAY, NOW + 400 * DAY, MAX_TIME_US])
def test_facts_are_never_clamped(time_us: int) -> None:
    log = Log()
    log.append(log.payment_failed(time_us))
    metrics = log.state.metrics()
    assert metrics.quality.skewed == 0
    assert metrics.errors.breakdown[0].first_seen.ToMicroseconds() == time_us


def test_a_batch_that_does_not_parse_takes_its_position_and_is_counted() -> None:
    log = Log()
    log.append_payload(b"\x0a\xff not a list of events", 17)
    quality = log.state.metrics().quality
    assert (quality.quarantined_batches, quality.quarantined_events, quality.events) == (1, 17, 0)
    assert (log.state.position, log.state.as_of_us) == (1, NOW)


@pytest.mark.parametrize(
    "time_us", [-(1 << 63), 0, MIN_TIME_US - 1, MAX_TIME_US + 1, (1 << 63) - 1]
)
def test_a_fact_at_a_time_that_is_not_believed_is_quarantined(time_us: int) -> None:
    log = Log()
    log.append(log.fact(Fact.STARTED, NOW), log.fact(Fact.STARTED, time_us))
    metrics = log.state.metrics()
    assert (metrics.quality.quarantined_events, metrics.quality.facts) == (2, 0)
    assert metrics.funnel.bookings_started == 0


def test_an_event_of_a_newer_schema_is_counted_and_otherwise_ignored() -> None:
    log = Log()
    # Field 39 of Event, which this schema does not define.
    log.append_payload(b"\x0a\x04\xba\x02\x01x", 1)
    quality = log.state.metrics().quality
    assert (quality.events, quality.telemetry_events, quality.quarantined_batches) == (1, 1, 0)


def test_losses_and_unclean_ends_are_counted() -> None:
    log = Log()
    log.append(log.loss(3, 40), log.loss(1, 2))
    log.unclean_end()
    quality = log.state.metrics().quality
    assert (quality.dropped_events, quality.dropped_timings, quality.unclean_ends) == (4, 42, 1)


def test_losses_beyond_the_bound_of_sums_stop_there() -> None:
    log = Log()
    log.append(*(log.loss(MAX_COUNT, MAX_COUNT) for _ in range(MAX_SUM // MAX_COUNT + 2)))
    quality = log.state.metrics().quality
    assert (quality.dropped_events, quality.dropped_timings) == (MAX_SUM, MAX_SUM)
    assert State.load(log.state.dump()).metrics().quality == quality
