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
    VerdictHysteresis,
    judge,
)
from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord
from metrics_service.measure.sketch import Sketch
from protos.metrics.v1 import health_pb2
from protos.tracking.v1 import tracking_pb2
from tests.metrics.client.recording import Clock

DEFINITION = QueryDefinition(1, "bookings", "create", "")
OTHER = QueryDefinition(2, "packages", "search", "")
MS = 1000


def record(
    execute_us: int,
    outcome: Outcome = Outcome.OK,
    sqlstate: str | None = None,
    internal: bool = False,
) -> QueryRecord:
    return QueryRecord(1, 0, 0, 0, 0, execute_us, 1, 0, outcome, sqlstate, internal, None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> HealthWindow:
    return HealthWindow(monotonic_ns=clock.monotonic_ns)


def feed(window: HealthWindow, *executes_us: int) -> Figures:
    for execute_us in executes_us:
        window.record_query(record(execute_us), DEFINITION)
    return window.figures()


@pytest.mark.parametrize(
    ("execute_us", "slow", "at_least_1000", "over_1000", "at_least_2000", "over_2000"),
    [
        (500_000, 0, 0, 0, 0, 0),
        (500_001, 1, 0, 0, 0, 0),
        (999_999, 1, 0, 0, 0, 0),
        (1_000_000, 1, 1, 0, 0, 0),
        (1_000_001, 1, 1, 1, 0, 0),
        (2_000_000, 1, 1, 1, 1, 0),
        (2_000_001, 1, 1, 1, 1, 1),
    ],
)
def test_thresholds_are_exact_to_the_microsecond(
    window: HealthWindow,
    execute_us: int,
    slow: int,
    at_least_1000: int,
    over_1000: int,
    at_least_2000: int,
    over_2000: int,
) -> None:
    figures = feed(window, execute_us)
    assert figures.samples == 1
    assert (
        figures.slow,
        figures.at_least_1000ms,
        figures.over_1000ms,
        figures.at_least_2000ms,
        figures.over_2000ms,
    ) == (slow, at_least_1000, over_1000, at_least_2000, over_2000)


def test_cancelled_misuse_and_internal_are_not_in_the_figures(window: HealthWindow) -> None:
    window.record_query(record(9_000_000, Outcome.CANCELLED), DEFINITION)
    window.record_query(record(9_000_000, Outcome.MISUSE), DEFINITION)
    window.record_query(record(9_000_000, Outcome.TIMEOUT, internal=True), DEFINITION)
    assert window.figures() == Figures()


def test_percentiles_are_of_execute_time_within_one_percent(window: HealthWindow) -> None:
    figures = feed(window, *(n * MS for n in range(1, 101)))
    assert figures.p50_ms == pytest.approx(50, rel=0.01)
    assert figures.p95_ms == pytest.approx(95, rel=0.01)
    assert figures.p99_ms == pytest.approx(99, rel=0.01)


def test_no_samples_have_no_percentiles_and_are_healthy(window: HealthWindow) -> None:
    figures = window.figures()
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms) == (None, None, None)
    assert judge(figures, None) == Verdict(Status.HEALTHY)


def test_the_window_slides(window: HealthWindow, clock: Clock) -> None:
    feed(window, *[600_000] * 5)
    clock.s += 150
    feed(window, *[600_000] * 5)
    clock.s += 149
    assert (window.figures().samples, window.figures().slow) == (10, 10)
    clock.s += 2
    assert (window.figures().samples, window.figures().slow) == (5, 5)
    clock.s += 300
    assert window.figures() == Figures()


def test_the_eleventh_failure_of_five_minutes_tips_it_and_one_of_300_s_ago_is_out(
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


def test_failures_beyond_the_limit_are_still_counted(window: HealthWindow) -> None:
    for _ in range(40):
        window.record_query(record(1, Outcome.TIMEOUT), DEFINITION)
    assert window.figures().failed == 40


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


def test_a_failing_probe_is_unhealthy_at_once_whatever_the_figures() -> None:
    for result in (tracking_pb2.Probe.UNREACHABLE, tracking_pb2.Probe.SCHEMA_MISSING):
        verdict = judge(Figures(), tracking_pb2.Probe(result=result))
        assert (verdict.status, verdict.hard) == (Status.UNHEALTHY, True)
        assert verdict.reasons[0].criterion == "probe"
    for result in (tracking_pb2.Probe.REACHABLE, tracking_pb2.Probe.RESULT_UNSPECIFIED):
        assert judge(Figures(), tracking_pb2.Probe(result=result)).status is Status.HEALTHY


@pytest.mark.parametrize(("age_ms", "status"), [(5000, Status.HEALTHY), (5001, Status.UNHEALTHY)])
def test_a_probe_that_has_not_looked_for_five_seconds_has_failed(
    age_ms: int, status: Status
) -> None:
    probe = tracking_pb2.Probe(result=tracking_pb2.Probe.REACHABLE, age_ms=age_ms)
    assert judge(Figures(), probe).status is status
    patient = judge(Figures(), probe, Criteria(probe_age_max_s=10.0))
    assert patient.status is Status.HEALTHY


def test_how_long_the_probe_has_not_looked_is_told() -> None:
    probe = tracking_pb2.Probe(result=tracking_pb2.Probe.REACHABLE, age_ms=7_300)
    verdict = judge(Figures(), probe)
    (reason,) = verdict.reasons
    assert verdict.hard
    assert (reason.criterion, reason.value, reason.threshold) == ("probe", 7.3, 5.0)
    assert reason.message == "the probe has not looked for 7.3 s"


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


def test_a_value_that_is_shown_never_contradicts_its_verdict(window: HealthWindow) -> None:
    (reason,) = (
        reason
        for reason in judge(feed(window, *[2_000_001] * 100), None).reasons
        if reason.criterion == "p99_ms"
    )
    assert reason.value >= reason.threshold


def test_beats_add_up_to_what_was_counted_directly(clock: Clock) -> None:
    chance = random.Random(7)
    windows = [HealthWindow(monotonic_ns=clock.monotonic_ns) for _ in range(3)]
    direct = HealthWindow(monotonic_ns=clock.monotonic_ns)
    merged = HealthWindow(monotonic_ns=clock.monotonic_ns)
    for _ in range(20):
        for window in windows:
            for _ in range(50):
                execute_us = int(chance.lognormvariate(12.5, 1.2))
                outcome = Outcome.TIMEOUT if chance.random() < 0.02 else Outcome.OK
                for one in (window, direct):
                    one.record_query(record(execute_us, outcome), chance.choice([DEFINITION]))
            counts, operations = window.beat()
            sent = tracking_pb2.QueryCounts.FromString(counts.SerializeToString())
            merged.add_counts(sent, operations)
        clock.s += 2
    assert merged.figures() == direct.figures()
    assert merged.figures().samples == 3000


def test_figures_asked_for_often_are_those_of_a_window_that_is_asked_once(
    window: HealthWindow, clock: Clock
) -> None:
    chance = random.Random(5)
    outcomes = [Outcome.OK] * 8 + [Outcome.TIMEOUT, Outcome.CANCELLED]
    fed: list[tuple[float, QueryRecord, QueryDefinition]] = []
    for step in range(400):
        for _ in range(chance.randrange(4)):
            execute_us, outcome = round(chance.lognormvariate(11, 2)), chance.choice(outcomes)
            named = QueryDefinition(1, "m", f"made_up_{chance.randrange(150)}", "")
            fed.append((clock.s, record(execute_us, outcome), named))
            window.record_query(*fed[-1][1:])
        # Within a slot, to the next, over some, and now and then past the whole window.
        clock.s += 301 if step % 90 == 89 else chance.choice([0.5, 2, 4.9, 5, 7, 30])
        figures = window.figures()
        if step % 40 == 0:
            other_clock = Clock()
            other = HealthWindow(monotonic_ns=other_clock.monotonic_ns)
            for other_clock.s, each, named in fed:
                other.record_query(each, named)
            other_clock.s = clock.s
            assert figures == other.figures()


def test_figures_do_not_add_up_the_whole_window_each_time(
    window: HealthWindow, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(59):
        feed(window, 1000)
        clock.s += 5
    merges = 0
    merge = Sketch.merge

    def counted(self: Sketch, other: Sketch) -> None:
        nonlocal merges
        merges += 1
        merge(self, other)

    monkeypatch.setattr(Sketch, "merge", counted)
    assert feed(window, 1000).samples == 60
    assert 59 <= merges < 70
    merges = 0
    assert feed(window, 1000).samples == 61
    assert merges < 10


def test_a_malformed_sketch_leaves_the_counts_exact(window: HealthWindow) -> None:
    broken = tracking_pb2.Sketch(index_delta=[1, 2], count=[1])
    window.add_counts(tracking_pb2.QueryCounts(total=12, failed=11, execute_us=broken))
    assert window.figures().p99_ms is None
    assert judge(window.figures(), None).status is Status.UNHEALTHY


def test_a_beat_is_what_came_since_the_last(window: HealthWindow) -> None:
    feed(window, 600_000, 1)
    counts, operations = window.beat()
    assert (counts.total, counts.over_500ms) == (2, 1)
    assert [(o.operation, o.total, o.slow) for o in operations] == [("bookings.create", 1, 1)]
    counts, operations = window.beat()
    assert counts == tracking_pb2.QueryCounts()
    assert operations == []
    assert window.figures().samples == 2


def test_many_operations_stay_bounded(window: HealthWindow) -> None:
    for n in range(1000):
        window.record_query(record(1, Outcome.TIMEOUT), QueryDefinition(n, "m", f"made_up_{n}", ""))
    shown = window.figures().operations
    assert len(shown) == 101
    assert (shown[0].operation, shown[0].failed) == ("other", 900)
    assert len(window.beat()[1]) == 10


class Kept:
    """A keeper beside the clock it runs on."""

    def __init__(self, gap_s: float = 0.0) -> None:
        self.clock = Clock()
        self.keeper = VerdictHysteresis(
            Criteria(gap_s=gap_s), monotonic_ns=self.clock.monotonic_ns, now_us=self.clock.now_us
        )

    def at(self, s: float, status: Status, *, hard: bool = False) -> Status:
        self.clock.s = 1000.0 + s
        self.keeper.update(Verdict(status, (), hard))
        return self.keeper.status


@pytest.fixture
def kept() -> Kept:
    made = Kept()
    assert made.at(0, Status.HEALTHY) is Status.HEALTHY
    return made


def test_a_hard_failure_shows_at_once(kept: Kept) -> None:
    assert kept.at(1, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY
    assert kept.keeper.since_us == 1_001_000_000


def test_criteria_have_to_hold_before_it_turns_worse(kept: Kept) -> None:
    assert kept.at(1, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(10, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED


def test_a_moment_of_bad_figures_shows_nothing(kept: Kept) -> None:
    assert kept.at(1, Status.DEGRADED) is Status.HEALTHY
    assert kept.at(5, Status.HEALTHY) is Status.HEALTHY
    assert kept.at(12, Status.DEGRADED) is Status.HEALTHY


def test_it_turns_better_only_after_thirty_good_seconds(kept: Kept) -> None:
    kept.at(1, Status.UNHEALTHY, hard=True)
    assert kept.at(5, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(20, Status.UNHEALTHY) is Status.UNHEALTHY
    assert kept.at(25, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(54, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(55, Status.HEALTHY) is Status.HEALTHY


def test_it_improves_to_the_worst_of_the_last_thirty_seconds(kept: Kept) -> None:
    kept.at(1, Status.UNHEALTHY, hard=True)
    kept.at(10, Status.DEGRADED)
    assert kept.at(30, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(40, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(59, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(60, Status.HEALTHY) is Status.HEALTHY


def test_after_a_turn_nothing_but_a_hard_failure_shows_for_a_minute() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.DEGRADED)
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED
    # Neither better ...
    assert kept.at(12, Status.HEALTHY) is Status.DEGRADED
    assert kept.at(45, Status.HEALTHY) is Status.DEGRADED
    # ... nor worse, for as long as figures alone say so.
    assert kept.at(46, Status.UNHEALTHY) is Status.DEGRADED
    assert kept.at(70, Status.UNHEALTHY) is Status.DEGRADED
    assert kept.at(71, Status.UNHEALTHY) is Status.UNHEALTHY
    kept.at(72, Status.HEALTHY)
    assert kept.at(130, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(131, Status.HEALTHY) is Status.HEALTHY
    assert kept.at(132, Status.UNHEALTHY, hard=True) is Status.UNHEALTHY


def test_what_is_good_for_a_moment_at_the_end_of_the_minute_does_not_show() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.UNHEALTHY, hard=True)
    kept.at(50, Status.UNHEALTHY, hard=True)
    kept.at(51, Status.HEALTHY)
    assert kept.at(80, Status.HEALTHY) is Status.UNHEALTHY
    assert kept.at(81, Status.HEALTHY) is Status.HEALTHY


def test_the_first_status_begins_no_minute() -> None:
    kept = Kept(gap_s=60.0)
    kept.at(0, Status.HEALTHY)
    kept.at(1, Status.DEGRADED)
    assert kept.at(11, Status.DEGRADED) is Status.DEGRADED


def test_going_stale_and_coming_back_shows_at_once(kept: Kept) -> None:
    assert kept.at(1, Status.STALE) is Status.STALE
    assert kept.at(2, Status.HEALTHY) is Status.HEALTHY


def test_update_says_whether_what_shows_has_changed() -> None:
    keeper = VerdictHysteresis()
    poor = judge(Figures(samples=100, slow=21), None)
    assert keeper.update(poor)
    assert not keeper.update(judge(Figures(samples=200, slow=40), None))
    assert keeper.reasons[0].value == 40
    assert keeper.update(judge(Figures(samples=200, slow=40, at_least_1000ms=40), None))


def test_statuses_are_the_contract_s() -> None:
    for status in Status:
        name = "STATUS_UNSPECIFIED" if status is Status.UNKNOWN else status.name
        assert health_pb2.DatabaseHealth.Status.Value(name) == status.to_proto()
