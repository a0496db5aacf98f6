"""Errors: which count, what the rate is of, exact five minutes, and a bounded breakdown."""

from __future__ import annotations

import pytest

from metrics_service.state.errors import MAX_GROUPS, ErrorFold, ErrorKey
from metrics_service.state.truncate import MAX_NAME_BYTES
from protos.metrics.v1 import metrics_pb2
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log


def kinds(errors: metrics_pb2.ErrorMetrics) -> tuple[int, int, int, int]:
    return (
        errors.booking_errors,
        errors.payment_failures,
        errors.availability_errors,
        errors.internal_errors,
    )


def test_refusals_count_by_kind_when_the_catalogue_says_so() -> None:
    log = Log()
    log.append(
        log.refused(NOW, "HOLD_EXPIRED", "booking"),
        log.refused(NOW, "PAYMENT_DECLINED", "payment"),
        log.refused(NOW, "PACKAGE_CLOSED", "availability"),
        log.refused(NOW, "UNKNOWN", "internal", code=13),
        log.refused(NOW, "UNKNOWN", "of a later version", code=13),
        log.refused(NOW, "SOLD_OUT", "availability", counts=False),
        log.refused(NOW, "INVALID_ARGUMENT", "caller", counts=False, code=3),
        log.tally(NOW, ok=40, refused=10),
        log.tally(NOW, ok=1_000, write=False),
    )
    errors = log.state.errors()
    assert kinds(errors) == (1, 1, 1, 2)
    assert errors.last_5_minutes == 5
    rate = errors.error_rate
    assert (rate.numerator, rate.denominator, rate.value) == (5, 50, 0.1)
    assert rate.low < 0.1 < rate.high
    assert {group.reason for group in errors.breakdown} >= {"SOLD_OUT", "INVALID_ARGUMENT"}
    assert {group.code for group in errors.breakdown} == {
        "FAILED_PRECONDITION",
        "INTERNAL",
        "INVALID_ARGUMENT",
    }


def test_without_write_rpcs_the_rate_is_absent() -> None:
    log = Log()
    log.append(log.refused(NOW), log.tally(NOW, ok=5, write=False))
    rate = log.state.errors().error_rate
    assert (rate.numerator, rate.denominator) == (1, 0)
    assert not rate.HasField("value")
    assert not rate.HasField("low")
    assert not rate.HasField("high")


@pytest.mark.parametrize(
    ("reason", "kind", "expected"),
    [
        ("UNKNOWN", "booking", (1, 0, 0, 0)),
        ("", "", (1, 0, 0, 0)),
        ("PAYMENT_DECLINED", "payment", (0, 1, 0, 0)),
        ("PACKAGE_CLOSED", "availability", (0, 0, 1, 0)),
        ("SOLD_OUT", "availability", (0, 0, 0, 0)),
        ("ALREADY_HELD", "booking", (0, 0, 0, 0)),
    ],
)
def test_what_a_front_end_reports(
    reason: str, kind: str, expected: tuple[int, int, int, int]
) -> None:
    log = Log()
    log.append(log.flow(Flow.ERROR, NOW, reason=reason, kind=kind))
    errors = log.state.errors()
    assert kinds(errors) == expected
    (group,) = errors.breakdown
    assert (group.reason, group.code, group.rpc) == (reason or "UNKNOWN", "", "")
    assert log.state.metrics().funnel.entered == 0


def test_failed_payments_and_bookings_are_errors() -> None:
    log = Log()
    log.append(log.payment_failed(NOW), log.fact(Fact.FAILED, NOW))
    assert kinds(log.state.errors()) == (1, 1, 0, 0)


def test_the_breakdown_is_most_frequent_first_with_first_and_last_seen() -> None:
    log = Log()
    log.append(log.refused(NOW - 7, "SOLD_OUT"), log.refused(NOW - 90, "HOLD_EXPIRED"))
    log.append(log.refused(NOW - 3, "HOLD_EXPIRED"), log.refused(NOW - 5, "HOLD_EXPIRED", rpc="x"))
    groups = log.state.errors().breakdown
    assert [(g.reason, g.count) for g in groups] == [
        ("HOLD_EXPIRED", 2),
        ("HOLD_EXPIRED", 1),
        ("SOLD_OUT", 1),
    ]
    seen = (groups[0].first_seen.ToMicroseconds(), groups[0].last_seen.ToMicroseconds())
    assert seen == (NOW - 90, NOW - 3)


def test_the_last_five_minutes_are_exact() -> None:
    log = Log()
    log.append(log.refused(NOW), log.refused(NOW + 1), log.refused(NOW + 2, counts=False))
    log.jump(NOW + 5 * MINUTE - 1)
    assert log.state.errors().last_5_minutes == 2
    log.jump(NOW + 5 * MINUTE)
    assert log.state.errors().last_5_minutes == 1
    log.jump(NOW + 5 * MINUTE + 1)
    assert log.state.errors().last_5_minutes == 0


def test_the_last_five_minutes_do_not_depend_on_the_requested_window() -> None:
    log = Log()
    log.append(log.refused(NOW))
    log.jump(NOW + 2 * MINUTE)
    assert log.state.errors(10 * SECOND).last_5_minutes == 1
    assert log.state.errors(10 * SECOND).booking_errors == 0


def test_errors_ahead_of_now_count_in_the_last_five_minutes_once_they_are_due() -> None:
    log = Log()
    log.append(log.refused(NOW + 30 * SECOND))
    assert log.state.errors().last_5_minutes == 0
    log.jump(NOW + 30 * SECOND)
    assert log.state.errors().last_5_minutes == 1


def test_error_times_stay_bounded_and_keep_the_newest() -> None:
    fold = ErrorFold(max_recent=3)
    fold.advance(NOW)
    key = ErrorKey("R", "booking", True, "", "")
    for number in range(10):
        fold.add(key, NOW - number)
    assert fold.last_five_minutes(NOW) == 3
    assert fold.evicted()["error_times"] == 7


def test_reasons_beyond_the_bound_are_counted_together() -> None:
    log = Log()
    for number in range(MAX_GROUPS + 25):
        log.append(log.refused(NOW, f"REASON_{number:03}"))
    for window_us in (None, MINUTE, DAY):
        errors = log.state.errors(window_us)
        assert (len(errors.breakdown), errors.other) == (MAX_GROUPS, 25)
        assert errors.booking_errors == MAX_GROUPS + 25
    assert log.state.metrics().quality.evicted["errors"] == 25


def test_slots_with_different_reasons_are_answered_within_the_bound() -> None:
    log = Log()
    for number in range(MAX_GROUPS + 25):
        log.now_us = NOW + number * SECOND
        log.append(log.refused(log.now_us, f"REASON_{number:03}"))
    errors = log.state.errors(HOUR)
    assert (len(errors.breakdown), errors.other) == (MAX_GROUPS, 25)


def test_errors_count_in_the_window_they_happened_in() -> None:
    log = Log()
    log.append(log.refused(NOW), log.tally(NOW, ok=9, refused=1))
    log.jump(NOW + 2 * HOUR)
    log.append(log.tally(NOW + 2 * HOUR, ok=4))
    assert log.state.errors(HOUR).error_rate.denominator == 4
    assert log.state.errors(3 * HOUR).error_rate.denominator == 14
    assert log.state.errors(HOUR).booking_errors == 0
    assert log.state.errors(3 * HOUR).booking_errors == 1


def test_names_of_errors_are_truncated() -> None:
    log = Log()
    log.append(
        log.refused(NOW, "R" * 100_000, rpc="m" * 100_000),
        log.flow(Flow.ERROR, NOW, reason="F" * 100_000),
    )
    found = {(each.reason, each.rpc) for each in log.state.errors().breakdown}
    assert found == {("R" * MAX_NAME_BYTES, "m" * MAX_NAME_BYTES), ("F" * MAX_NAME_BYTES, "")}
