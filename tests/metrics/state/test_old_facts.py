"""A fact of any age counts at its own time: in the figures of all times, and in the windows that
still hold it.
"""

from __future__ import annotations

import pytest

from metrics_service.state.fold import State
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, NOW, Fact, Log

AGES = [0, HOUR, 2 * DAY, 40 * DAY, 3 * 365 * DAY]


def confirmed(number: int, age_us: int, confirmed_us: int) -> event_pb2.Event:
    event = event_pb2.Event(event_id=number.to_bytes(16, "big"), time_us=NOW - age_us)
    event.booking.CopyFrom(
        Fact(
            transition=Fact.CONFIRMED,
            booking_id=f"booking-{number}",
            version=3,
            package_id="package",
            user_id=f"user-{number}",
            amount_minor=100,
            currency="EUR",
            hold_time_us=confirmed_us - 1,
            complete_time_us=confirmed_us,
            confirm_time_us=confirmed_us,
        )
    )
    return event


@pytest.mark.parametrize("reverse", [False, True])
def test_facts_of_any_age_and_order_count_once_at_their_own_time(reverse: bool) -> None:
    log = Log()
    log.tick()
    events = [confirmed(number, age, NOW - age) for number, age in enumerate(AGES)]
    for event in reversed(events) if reverse else events:
        log.append(event)
    log.tick(NOW + HOUR)
    business = log.state.metrics().business
    assert (business.confirmed, business.revenue[0].gross_minor) == (5, 500)
    # Now is an hour later.
    windows = {window: log.state.metrics(window).business.confirmed for window in (HOUR, 30 * DAY)}
    assert windows == {HOUR: 0, 30 * DAY: 3}
    assert log.state.metrics(12 * HOUR).business.confirmed == 2
    quality = log.state.metrics().quality
    assert (quality.facts, quality.skewed, quality.quarantined_events) == (5, 0, 0)
    loaded = State.load(log.state.dump())
    assert list(loaded.dump()) == list(log.state.dump())
