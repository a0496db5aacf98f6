"""GetErrorBreakdown: the newest samples of each error, which say nothing of a person, and packages
with errors, against a count in plain Python.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest

from metrics_service.state.breakdown.cell import MAX_GROUPS
from metrics_service.state.errors import EXPECTED_REASONS
from metrics_service.state.fold import State
from metrics_service.state.groups import MAX_SHOWN_GROUPS
from metrics_service.state.samples import MAX_SAMPLED, MAX_SAMPLES
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log

Key = tuple[str, str, str]
"""Reason, code and rpc."""
RPC = "booking.v1.BookingService/StartBooking"
REFUSALS = (
    ("SOLD_OUT", "availability", False, 9),
    ("HOLD_EXPIRED", "booking", True, 9),
    ("PACKAGE_CLOSED", "availability", True, 9),
    ("UNKNOWN", "internal", True, 13),
)
# A window, how long ago it ended, and the step of its ring.
WINDOWS = (
    *((10 * SECOND, 0, 10 * SECOND), (MINUTE, 0, 10 * SECOND), (90 * SECOND, 0, 10 * SECOND)),
    *((MINUTE, 30 * SECOND, 10 * SECOND), (10 * SECOND, 100 * SECOND, 10 * SECOND)),
    *((HOUR, 0, 10 * SECOND), (2 * HOUR, 0, MINUTE), (HOUR, HOUR, MINUTE), (2 * DAY, 0, HOUR)),
)
CODES = {9: "FAILED_PRECONDITION", 13: "INTERNAL"}


def refused(
    log: Log, at: int, package: str, refusal: tuple[str, str, bool, int] = REFUSALS[1]
) -> event_pb2.Event:
    reason, kind, counts, code = refusal
    event = log.refused(at, reason, kind, counts=counts, code=code, rpc=RPC)
    event.rpc_refused.package_id = package
    event.session_id = "the-session"
    return event


def view(log: Log, package: str) -> event_pb2.Event:
    """A view of a package, which makes it known."""
    event = log.view(log.now_us)
    event.package_viewed.package_id = package
    return event


@dataclass
class Count:
    """What plain Python counts: (time, package) by error, and (time, is an error) by package."""

    samples: dict[Key, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    writes: dict[str, list[tuple[int, bool]]] = field(default_factory=lambda: defaultdict(list))

    def error(self, key: Key, at: int, package: str, *, counts: bool = True) -> None:
        self.samples[key].append((at, package))
        if package and package != "unknown":
            self.writes[package].append((at, counts))

    def newest(self, low: int, high: int) -> dict[Key, list[tuple[int, str]]]:
        """The newest samples of the errors that occurred in [low, high), newest first."""
        return {
            key: sorted(samples, reverse=True)[:5]
            for key, samples in self.samples.items()
            if any(low <= at < high for at, _ in samples)
        }

    def packages(self, low: int, high: int) -> dict[str, tuple[int, int]]:
        """Errors and writes of packages with errors."""
        found = {
            package: (
                sum(error for at, error in writes if low <= at < high),
                sum(low <= at < high for at, _ in writes),
            )
            for package, writes in self.writes.items()
        }
        return {package: counts for package, counts in found.items() if counts[0]}


def events(log: Log, dice: random.Random, count: Count) -> list[event_pb2.Event]:
    """Errors of every kind, and bookings without one, within three hours."""
    found: list[event_pb2.Event] = []
    for number in range(400):
        at = NOW - dice.randrange(dice.choice((3 * MINUTE, 3 * HOUR)))
        package = dice.choice(["", "unknown", *[f"p{each}" for each in range(6)]])
        kind = dice.choice(["refused", "refused", "flow", "failed", "payment", "started"])
        if kind == "refused":
            refusal = dice.choice(REFUSALS)
            found.append(refused(log, at, package, refusal))
            key = refusal[0], CODES[refusal[3]], RPC
            count.error(key, at, package, counts=refusal[2])
        elif package == "unknown":
            continue
        elif kind == "flow":
            reason = dice.choice(["WIDGET", "SOLD_OUT"])
            event = log.flow(Flow.ERROR, at, "the-session", user="the-user", reason=reason)
            event.flow_step.package_id = package
            found.append(event)
            count.error((reason, "", ""), at, package, counts=reason not in EXPECTED_REASONS)
        elif kind == "failed":
            fact = log.fact(Fact.FAILED, at, booking=f"b{number}", package=package, user="the-user")
            found.append(fact)
            count.error(("BOOKING_FAILED", "", ""), at, package)
        elif kind == "payment":
            event = log.payment_failed(at)
            event.payment.package_id, event.payment.user_id = package, "the-user"
            found.append(event)
            count.error(("PAYMENT_FAILED", "", ""), at, package)
        elif package:
            found.append(log.fact(Fact.STARTED, at, booking=f"b{number}", package=package))
            count.writes[package].append((at, False))
    return found


def samples_of(answer: metrics_pb2.ErrorMetrics) -> dict[Key, list[tuple[int, str]]]:
    return {
        (each.reason, each.code, each.rpc): [
            (sample.time.ToMicroseconds(), sample.package_id) for sample in each.samples
        ]
        for each in answer.breakdown
    }


def packages_of(answer: metrics_pb2.ErrorMetrics) -> dict[str, tuple[int, int]]:
    for each in answer.packages:
        assert each.count == each.error_rate.numerator
        assert each.error_rate.value == each.count / each.error_rate.denominator
        assert each.error_rate.low <= each.error_rate.value <= each.error_rate.high
    return {each.package_id: (each.count, each.error_rate.denominator) for each in answer.packages}


@pytest.mark.parametrize("seed", range(3))
def test_samples_and_packages_are_those_of_an_independent_count(seed: int) -> None:
    dice, log, count = random.Random(seed), Log(NOW), Count()
    log.append(*[view(log, f"p{number}") for number in range(6)])
    happened = events(log, dice, count)
    dice.shuffle(happened)
    for first in range(0, len(happened), 40):
        log.append(*happened[first : first + 40])
    log.tick(NOW + 5 * SECOND)
    now = log.now_us
    for state in (log.state, State.load(log.state.dump())):
        answer = state.errors()
        assert samples_of(answer) == count.newest(0, now)
        assert packages_of(answer) == count.packages(0, now)
        for window, ended, step in WINDOWS:
            high = (now // step + 1) * step - ended
            low = high - window
            answer = state.errors(window, ended)
            assert samples_of(answer) == count.newest(low, high)
            # A window is widened to whole minutes.
            low, high = low // MINUTE * MINUTE, -(-high // MINUTE) * MINUTE
            assert packages_of(answer) == count.packages(low, high)
            assert answer.other_packages == 0


def test_packages_are_ranked_and_sum_to_the_whole_with_the_rest() -> None:
    log, number = Log(), MAX_GROUPS + 25
    for each in range(number):
        log.append(view(log, f"p{each:03}"), refused(log, NOW, f"p{each:03}"))
    # Twice as many of some of those that have a place.
    for each in range(50, 60):
        log.append(refused(log, NOW, f"p{each:03}"))
    log.append(refused(log, NOW, ""), refused(log, NOW, "unknown"))
    log.append(refused(log, NOW, "p000", REFUSALS[0]))
    for state in (log.state, State.load(log.state.dump())):
        for window in (None, MINUTE, HOUR, DAY, 7 * DAY):
            answer = state.errors(window)
            ranked = [(-each.count, each.package_id) for each in answer.packages]
            assert ranked == sorted(ranked)
            assert len(ranked) == MAX_SHOWN_GROUPS
            assert [each.package_id for each in answer.packages][:10] == [
                f"p{each:03}" for each in range(50, 60)
            ]
            shown = sum(each.count for each in answer.packages)
            assert shown + answer.other_packages == number + 10
            assert answer.error_rate.numerator == number + 12
            (first,) = (each for each in answer.packages if each.package_id == "p000")
            assert (first.count, first.error_rate.denominator) == (1, 2)


def test_a_short_window_is_widened_to_both_sides() -> None:
    log = Log()
    log.append(view(log, "p"), refused(log, NOW, "p"))
    log.jump(NOW + MINUTE + 5 * SECOND)
    log.append(refused(log, log.now_us, "p"))
    answer = log.state.errors(2 * MINUTE)
    assert (answer.error_rate.numerator, answer.packages[0].count) == (2, 2)
    answer = log.state.errors(10 * SECOND, 60 * SECOND)
    assert (answer.error_rate.numerator, answer.packages[0].count) == (1, 1)


def test_a_sample_says_when_and_of_which_package_and_nothing_of_a_person() -> None:
    assert [field.name for field in metrics_pb2.ErrorSample.DESCRIPTOR.fields] == [
        *("time", "package_id"),
    ]
    log = Log()
    flow = log.flow(Flow.ERROR, NOW, "the-session", user="the-user", reason="WIDGET")
    flow.flow_step.booking_id = "the-booking"
    fact = log.fact(Fact.FAILED, NOW, "the-session", booking="the-booking", user="the-user")
    failed = log.payment_failed(NOW)
    failed.session_id, failed.payment.user_id = "the-session", "the-user"
    failed.payment.payment_id = "the-payment"
    log.append(view(log, "p"), refused(log, NOW, "p"), flow, fact, failed)
    answer = log.state.errors()
    assert [len(each.samples) for each in answer.breakdown] == [1, 1, 1, 1]
    (group,) = (each for each in answer.breakdown if each.rpc)
    assert (group.reason, group.rpc, group.code) == ("HOLD_EXPIRED", RPC, "FAILED_PRECONDITION")
    (sample,) = group.samples
    assert (sample.time.ToMicroseconds(), sample.package_id) == (NOW, "p")
    stored = [data for section, _, data in log.state.dump() if section.startswith("errors")]
    assert any(b"HOLD_EXPIRED" in data for data in stored)
    for content in (answer.SerializeToString(), *stored):
        for personal in (b"the-session", b"the-user", b"the-booking", b"the-payment"):
            assert personal not in content


def test_snapshots_have_no_samples_and_no_packages() -> None:
    log = Log()
    log.append(view(log, "p"), refused(log, NOW, "p"))
    errors = log.state.metrics().errors
    assert not errors.packages
    assert not errors.breakdown[0].samples


def test_errors_with_samples_are_bounded_and_the_least_recent_one_goes() -> None:
    log = Log()
    for number in range(MAX_SAMPLED):
        log.append(log.refused(NOW + number, f"R{number}"))
    log.append(log.refused(NOW, "R0"), log.refused(NOW, "NEW"))
    for state in (log.state, State.load(log.state.dump())):
        samples = state._tables.errors.samples
        assert len(samples._samples) == MAX_SAMPLED
        assert state.metrics().quality.evicted["error_samples"] == 1
        found = Counter(len(each.samples) for each in state.errors().breakdown)
        # R1 has lost its sample, and NEW found no group.
        assert found == {1: MAX_SAMPLED - 2, 2: 1, 0: 1}


def test_samples_of_a_clock_that_ran_ahead_do_not_stay() -> None:
    log = Log()
    log.append(refused(log, NOW, "p"))
    log.jump(NOW + DAY)
    ahead = log.now_us
    log.append(*[refused(log, ahead + number, "q") for number in range(MAX_SAMPLES)])
    log.append(log.refused(ahead, "ONLY_AHEAD"))
    log.jump(NOW + MINUTE)
    log.append(refused(log, log.now_us, "r"))
    for state in (log.state, State.load(log.state.dump())):
        found = {
            each.reason: [s.package_id for s in each.samples] for each in state.errors().breakdown
        }
        assert found["HOLD_EXPIRED"] == ["r"]
        assert found["ONLY_AHEAD"] == []
