"""Verdicts follow from exact counts at the stated boundaries, for one process and for several."""

from __future__ import annotations

import math
import random

import pytest

from metrics_service.client.health import (
    Criteria,
    Figures,
    HealthWindow,
    Status,
    Verdict,
    judge,
)
from metrics_service.client.queries.record import Outcome
from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2
from tests.metrics.client.health.feeding import DEFINITION, MS, OTHER, feed, record
from tests.metrics.client.recording import Clock


def test_no_samples_have_no_percentiles_and_are_healthy(window: HealthWindow) -> None:
    figures = window.figures()
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms) == (None, None, None)
    assert judge(figures, None) == Verdict(Status.HEALTHY)


def test_the_eleventh_failure_in_five_minutes_is_unhealthy_and_one_of_300_s_ago_is_out(
    window: HealthWindow, clock: Clock
) -> None:
    clock.s = 1004.9
    window.record_query(record(1, Outcome.TIMEOUT), DEFINITION)
    clock.s = 1304.8
    for _ in range(9):
        window.record_query(record(1, Outcome.CONNECTION_LOST), DEFINITION)
    assert judge(window.figures(), None).status is Status.DEGRADED
    window.record_query(record(1, Outcome.ERROR, "53300"), DEFINITION)
    verdict = judge(window.figures(), None)
    assert (verdict.status, verdict.hard) == (Status.UNHEALTHY, True)
    clock.s = 1304.9
    assert window.figures().failed == 10
    assert judge(window.figures(), None).status is Status.DEGRADED


def figures(samples: int = 1000, **counts: int) -> Figures:
    return Figures(samples=samples, **counts)  # type: ignore[arg-type]  # counts alone


@pytest.mark.parametrize(
    ("given", "status", "criteria"),
    [
        (figures(), Status.HEALTHY, []),
        (figures(over_2000ms=10, at_least_2000ms=10), Status.HEALTHY, []),
        (figures(over_2000ms=11, at_least_2000ms=11), Status.UNHEALTHY, ["p99_ms"]),
        (figures(at_least_2000ms=11), Status.DEGRADED, ["p99_ms"]),
        (figures(at_least_1000ms=50), Status.HEALTHY, []),
        (figures(at_least_1000ms=51), Status.DEGRADED, ["p95_ms"]),
        (figures(failed=9), Status.HEALTHY, []),
        (figures(failed=10), Status.DEGRADED, ["failed"]),
        (figures(failed=11), Status.UNHEALTHY, ["failed"]),
        (figures(slow=20), Status.HEALTHY, []),
        (figures(slow=21), Status.DEGRADED, ["slow"]),
        (figures(slow=21, failed=11), Status.UNHEALTHY, ["failed", "slow"]),
        (figures(99, over_2000ms=99, at_least_2000ms=99), Status.HEALTHY, []),
        (figures(100, over_2000ms=2, at_least_2000ms=2), Status.UNHEALTHY, ["p99_ms"]),
        (figures(5, failed=11), Status.UNHEALTHY, ["failed"]),
    ],
)
def test_each_criterion_at_its_boundary(
    given: Figures, status: Status, criteria: list[str]
) -> None:
    verdict = judge(given, None)
    assert verdict.status is status
    assert [reason.criterion for reason in verdict.reasons] == criteria


@pytest.mark.parametrize("seed", range(20))
def test_verdicts_agree_with_sorting_all_samples(seed: int) -> None:
    chance = random.Random(seed)
    window = HealthWindow(Criteria(slow_max=10**6))
    count = chance.randrange(100, 700)
    middle = chance.choice([400, 900, 1500])
    samples = [
        chance.choice([1_000_000, 2_000_000, 2_000_001, 999_999])
        if chance.random() < 0.1
        else int(chance.lognormvariate(math.log(middle), 0.4) * MS)
        for _ in range(count)
    ]
    given = feed(window, *samples)
    samples.sort()
    p95_us = samples[math.ceil(0.95 * count) - 1]
    p99_us = samples[-(-99 * count // 100) - 1]
    if p99_us > 2_000_000:
        expected = Status.UNHEALTHY
    elif p95_us >= 1_000_000 or p99_us >= 2_000_000:
        expected = Status.DEGRADED
    else:
        expected = Status.HEALTHY
    assert judge(given, None, Criteria(slow_max=10**6)).status is expected


def test_a_failing_probe_is_unhealthy_at_once_with_any_figures() -> None:
    for result in (tracking_pb2.Probe.UNREACHABLE, tracking_pb2.Probe.SCHEMA_MISSING):
        verdict = judge(Figures(), tracking_pb2.Probe(result=result))
        assert (verdict.status, verdict.hard) == (Status.UNHEALTHY, True)
        assert verdict.reasons[0].criterion == "probe"
    for result in (tracking_pb2.Probe.REACHABLE, tracking_pb2.Probe.RESULT_UNSPECIFIED):
        assert judge(Figures(), tracking_pb2.Probe(result=result)).status is Status.HEALTHY


@pytest.mark.parametrize(("age_ms", "status"), [(5000, Status.HEALTHY), (5001, Status.UNHEALTHY)])
def test_a_probe_without_a_result_for_five_seconds_has_failed(age_ms: int, status: Status) -> None:
    probe = tracking_pb2.Probe(result=tracking_pb2.Probe.REACHABLE, age_ms=age_ms)
    assert judge(Figures(), probe).status is status
    patient = judge(Figures(), probe, Criteria(probe_age_max_s=10.0))
    assert patient.status is Status.HEALTHY


def test_the_reason_states_the_age_of_the_newest_probe_result() -> None:
    probe = tracking_pb2.Probe(result=tracking_pb2.Probe.REACHABLE, age_ms=7_300)
    verdict = judge(Figures(), probe)
    (reason,) = verdict.reasons
    assert verdict.hard
    assert (reason.criterion, reason.value, reason.threshold) == ("probe", 7.3, 5.0)
    assert reason.message == "the newest result of the probe is 7.3 s old"


def test_reasons_name_value_threshold_samples_and_the_worst_operations(
    window: HealthWindow,
) -> None:
    for _ in range(8):
        window.record_query(record(1, Outcome.TIMEOUT), OTHER)
    for _ in range(4):
        window.record_query(record(1, Outcome.TIMEOUT), DEFINITION)
    feed(window, *[600_000] * 21)
    failed, slow = judge(window.figures(), None).reasons
    assert (failed.criterion, failed.value, failed.threshold, failed.samples) == (
        "failed",
        12,
        10,
        33,
    )
    assert failed.operations == ("packages.search", "bookings.create")
    assert (slow.criterion, slow.value, slow.operations) == ("slow", 21, ("bookings.create",))
    shown = slow.to_proto("one")
    assert (shown.instance, shown.message) == ("one", "21 slow of 33 queries, limit 20")


def test_a_shown_value_never_contradicts_its_verdict(window: HealthWindow) -> None:
    (reason,) = (
        reason
        for reason in judge(feed(window, *[2_000_001] * 100), None).reasons
        if reason.criterion == "p99_ms"
    )
    assert reason.value >= reason.threshold


def test_statuses_have_the_numbers_of_the_contract() -> None:
    for status in Status:
        name = "STATUS_UNSPECIFIED" if status is Status.UNKNOWN else status.name
        assert health_pb2.DatabaseHealth.Status.Value(name) == status.to_proto()
