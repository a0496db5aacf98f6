"""How many facts are lacking after a gap, while the audit trail is sent again."""

from __future__ import annotations

from typing import Any

import pytest

from metrics_service.state.fold import State
from protos.tracking.v1 import event_pb2, tracking_pb2
from protos.tracking.v1.event_pb2 import Event, FactsGap, FactsRefill
from tests.metrics.state.log import NOW, Fact, Log


def fact(number: int) -> Event:
    event = Event(event_id=number.to_bytes(16, "big"), time_us=NOW)
    booking_id = f"booking-{number}"
    event.booking.CopyFrom(Fact(transition=Fact.STARTED, booking_id=booking_id, version=1))
    return event


def refill(*numbers: int) -> list[Event]:
    """What one step of a refill sends."""
    facts = [fact(number) for number in numbers]
    return [Event(facts_refill=FactsRefill(facts=len(facts))), *facts]


def end(not_kept: int = 0, producer_id: str = "booking-db") -> Event:
    return Event(facts_refill=FactsRefill(producer_id=producer_id, not_kept=not_kept))


class FactsLog(Log):
    """A log of the facts of one booking database."""

    def facts(
        self,
        *events: Event,
        producer_id: str = "booking-db",
        lane: int = tracking_pb2.LANE_FACTS,
    ) -> None:
        self.append(*events, producer_id=producer_id, lane=lane)


@pytest.fixture
def log() -> FactsLog:
    """A log that has facts 1 and 2, and lacks three."""
    made = FactsLog()
    made.tick()
    made.facts(fact(1), fact(2))
    made.facts(Event(facts_gap=FactsGap(lacking=3)))
    return made


def lacking(log: FactsLog) -> int:
    figures = log.state.metrics().quality
    assert figures.quarantined_batches == 0
    loaded = State.load(log.state.dump())
    assert loaded.metrics().quality.facts_lacking == figures.facts_lacking
    return int(figures.facts_lacking)


def test_each_fact_of_the_audit_trail_that_is_new_is_one_less(log: FactsLog) -> None:
    log.facts(*refill(1, 2, 3))
    assert lacking(log) == 2
    # What was booked since is none of those.
    log.facts(fact(10), fact(11))
    assert lacking(log) == 2
    log.facts(*refill(4), fact(12), *refill(5))
    assert lacking(log) == 0
    log.facts(*refill(6, 7))
    assert lacking(log) == 0


def test_once_all_was_sent_no_more_are_lacking_than_were_not_kept(log: FactsLog) -> None:
    log.facts(*refill(3))
    log.facts(end(not_kept=1))
    assert lacking(log) == 1
    log.facts(end(not_kept=7))
    assert lacking(log) == 1


def test_the_end_of_a_refill_of_another_lane_says_nothing(log: FactsLog) -> None:
    log.facts(end(), producer_id="its successor")
    log.facts(end(producer_id=""))
    assert lacking(log) == 3


def test_telemetry_does_not_lessen_what_is_lacking(log: FactsLog) -> None:
    log.facts(*refill(3), lane=tracking_pb2.LANE_TELEMETRY)
    log.facts(end(), lane=tracking_pb2.LANE_TELEMETRY)
    quality = log.state.metrics().quality
    assert (quality.facts_lacking, quality.quarantined_batches) == (3, 2)


@pytest.mark.parametrize(
    "fields", [{"facts": -1}, {"facts": 2**63 - 1}, {"not_kept": -1}, {"not_kept": 2**63 - 1}]
)
def test_a_count_that_cannot_be_true_counts_nothing(log: FactsLog, fields: Any) -> None:
    log.facts(event_pb2.Event(facts_refill=FactsRefill(producer_id="booking-db", **fields)))
    figures = log.state.metrics().quality
    assert (figures.facts_lacking, figures.quarantined_batches) == (3, 1)
