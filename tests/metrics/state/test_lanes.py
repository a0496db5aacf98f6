"""Facts count on the lane of facts alone: a producer of telemetry invents no revenue with them, and
keeps no fact from being counted.
"""

from __future__ import annotations

import pytest

from protos.tracking.v1.event_pb2 import Event, FactsGap, FactsRefill
from protos.tracking.v1.tracking_pb2 import LANE_FACTS, LANE_TELEMETRY, LANE_UNSPECIFIED
from tests.metrics.state import extreme
from tests.metrics.state.log import NOW, Fact, Log

OF_FACTS = ("booking", "payment", "facts_gap", "facts_refill")


def confirmed(log: Log, amount: int) -> Event:
    return log.fact(Fact.CONFIRMED, NOW, confirm_us=NOW, amount=amount)


@pytest.mark.parametrize("lane", [LANE_TELEMETRY, LANE_UNSPECIFIED, 7])
@pytest.mark.parametrize("body", OF_FACTS)
def test_what_belongs_on_the_lane_of_facts_counts_on_no_other(body: str, lane: int) -> None:
    log = Log()
    log.append(log.view(NOW))
    before = log.state.metrics()
    log.append(log.view(NOW, "another"), next(extreme.variants(body)), lane=lane)
    after = log.state.metrics()
    assert (after.quality.quarantined_batches, after.quality.quarantined_events) == (1, 2)
    before.quality.quarantined_batches, before.quality.quarantined_events = 1, 2
    before.revision = before.funnel.revision = before.errors.revision = after.revision
    assert after == before


def test_the_list_of_what_belongs_there_is_whole() -> None:
    """Of every body of the contract, those are refused as telemetry, and no other."""
    refused = set()
    for body in extreme.bodies():
        log = Log()
        log.append(next(extreme.variants(body)), lane=LANE_TELEMETRY)
        if log.state.metrics().quality.quarantined_batches:
            refused.add(body)
    assert refused == set(OF_FACTS)


def test_the_batch_is_named_with_its_reason() -> None:
    log = Log()
    log.append(confirmed(log, 5), lane=LANE_TELEMETRY)
    assert log.reasons == ["booking belongs on the lane of facts"]


def test_revenue_is_not_invented_by_telemetry() -> None:
    log = Log()
    log.append(confirmed(log, 12_300_000_000), lane=LANE_TELEMETRY)
    log.append(log.refund(NOW, 700, NOW), lane=LANE_TELEMETRY)
    log.append(Event(facts_gap=FactsGap(lacking=9, beyond=9)), lane=LANE_TELEMETRY)
    log.append(Event(facts_refill=FactsRefill(facts=9)), lane=LANE_TELEMETRY)
    metrics = log.state.metrics()
    assert not metrics.business.revenue
    assert (metrics.quality.facts, metrics.quality.facts_gaps, metrics.quality.facts_lacking) == (
        0,
        0,
        0,
    )
    assert metrics.quality.quarantined_batches == 4


@pytest.mark.parametrize("forge", ["a fact", "telemetry"])
def test_telemetry_with_the_id_of_a_fact_does_not_make_the_fact_a_repeat(forge: str) -> None:
    log = Log()
    fact = confirmed(log, 7)
    viewed = log.view(NOW, "forger")
    viewed.event_id = fact.event_id
    log.append(fact if forge == "a fact" else viewed, lane=LANE_TELEMETRY)
    log.append(fact, lane=LANE_FACTS)
    log.append(fact, lane=LANE_FACTS)
    metrics = log.state.metrics()
    assert [line.gross_minor for line in metrics.business.revenue] == [7]
    assert (metrics.quality.facts, metrics.quality.duplicates) == (1, 1)
    # Nor does a fact make a view a repeat, and views still count once.
    log.append(viewed, viewed, lane=LANE_TELEMETRY)
    assert log.state.metrics().quality.telemetry_events == 1


def test_telemetry_that_is_sent_on_the_lane_of_facts_is_telemetry() -> None:
    log = Log()
    log.append(log.view(NOW), confirmed(log, 7), lane=LANE_FACTS)
    quality = log.state.metrics().quality
    assert (quality.facts, quality.telemetry_events, quality.quarantined_batches) == (1, 1, 0)
