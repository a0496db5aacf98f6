"""The error catalogue: complete, consistent with the contract's comments, and as documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from booking_service.domain.refusal import Reason, Refusal
from booking_service.errors import CATALOGUE, DOMAIN, MAX_DAYS, table, to_api_error
from metrics_service.client.booking.reasons import KIND_BY_REASON

ROOT = Path(__file__).resolve().parents[2]
DESIGNED = {
    "SOLD_OUT",
    "PACKAGE_CLOSED",
    "PAST_CUTOFF",
    "PARTY_SIZE",
    "HOLD_LIMIT",
    "ALREADY_HELD",
    "HOLD_EXPIRED",
    "EXTEND_LIMIT",
    "INVALID_TRANSITION",
    "AMOUNT_MISMATCH",
    "PAYMENT_DECLINED",
    "OVER_REFUND",
    "NOT_CANCELLABLE",
    "FEE_CHANGED",
    "PRICE_CHANGED",
    "CURRENCY_MISMATCH",
    "CAPACITY_BELOW_TAKEN",
    "NOT_ELIGIBLE",
    "REQUEST_ID_REUSED",
    "PAGE_TOKEN_INVALID",
    "ETAG_MISMATCH",
    "OVERLOADED",
    "ALREADY_EXISTS",
    "NOT_FOUND",
    "INVALID_ARGUMENT",
}


def test_every_reason_has_an_entry() -> None:
    assert CATALOGUE.keys() >= DESIGNED
    assert set(Reason) <= CATALOGUE.keys()
    assert CATALOGUE.keys() == KIND_BY_REASON.keys()


def test_a_front_end_reports_the_same_kind() -> None:
    for reason, spec in CATALOGUE.items():
        if spec.kind in ("booking", "payment", "availability"):
            assert KIND_BY_REASON[reason] == spec.kind


def test_a_callers_mistake_does_not_count_as_an_error() -> None:
    uncounted = {reason for reason, spec in CATALOGUE.items() if not spec.counts_as_error}
    callers = {reason for reason, spec in CATALOGUE.items() if spec.kind == "caller"}
    assert uncounted == callers | {"SOLD_OUT", "ALREADY_HELD", "DRAINING", "STARTING"}


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("SOLD_OUT", StatusCode.FAILED_PRECONDITION),
        ("INVALID_TRANSITION", StatusCode.FAILED_PRECONDITION),
        ("ALREADY_HELD", StatusCode.ALREADY_EXISTS),
        ("OVERLOADED", StatusCode.RESOURCE_EXHAUSTED),
        ("ETAG_MISMATCH", StatusCode.ABORTED),
        ("FEE_CHANGED", StatusCode.ABORTED),
        ("REQUEST_ID_REUSED", StatusCode.INVALID_ARGUMENT),
        ("PAGE_TOKEN_INVALID", StatusCode.INVALID_ARGUMENT),
    ],
)
def test_codes_are_those_of_the_contract(reason: str, code: StatusCode) -> None:
    assert CATALOGUE[reason].code is code


def test_resource_exhausted_is_too_much_work_and_says_when_to_retry() -> None:
    exhausted = [s.reason for s in CATALOGUE.values() if s.code is StatusCode.RESOURCE_EXHAUSTED]
    assert sorted(exhausted) == [
        "OVERLOADED",
        "RATE_LIMITED",
        "TOO_MANY_RESETS",
        "TOO_MANY_STREAMS",
    ]
    status = to_api_error(Refusal(Reason.OVERLOADED, "too much", {})).to_status(DOMAIN)
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0


def test_a_refusal_about_many_days_stays_within_a_trailer() -> None:
    days = ",".join(f"2026-01-{n:02}={n}" for n in range(3660))
    refusal = Refusal(Reason.CAPACITY_BELOW_TAKEN, f"overbooked: {days}", {"days": days})
    error = to_api_error(refusal)
    assert error.metadata["days"].count("=") == MAX_DAYS
    assert error.metadata["days_omitted"] == str(3660 - MAX_DAYS)
    # gRPC's bound is 8 kB, for the message in its own header, too.
    assert error.to_status(DOMAIN).ByteSize() * 4 / 3 + len(error.message) < 6000


def test_the_documented_catalogue_is_this_one() -> None:
    """`python -c "from booking_service.errors import table; print(table())"` prints it."""
    assert table() in (ROOT / "docs" / "errors.md").read_text("utf-8")
