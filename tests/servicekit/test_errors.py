"""An ApiError becomes a google.rpc.Status with every detail that applies."""

from __future__ import annotations

from google.rpc import error_details_pb2 as details
from grpc import StatusCode

from servicekit.errors import (
    OVERLOADED,
    SHARED_SPECS,
    ApiError,
    ErrorSpec,
    Violation,
    invalid,
    not_found,
)

SOLD_OUT = ErrorSpec(
    "SOLD_OUT", StatusCode.FAILED_PRECONDITION, "availability", True, True, "No room."
)


def detail(error: ApiError, kind: type) -> list[object]:
    found = []
    for packed in error.to_status("test.domain").details:
        message = kind()
        if packed.Unpack(message):
            found.append(message)
    return found


def test_error_info_carries_reason_domain_and_metadata() -> None:
    error = ApiError(SOLD_OUT, "no room", metadata={"free": "0"})
    status = error.to_status("test.domain")
    assert (status.code, status.message) == (9, "no room")
    assert detail(error, details.ErrorInfo) == [
        details.ErrorInfo(reason="SOLD_OUT", domain="test.domain", metadata={"free": "0"})
    ]


def test_every_violation_is_in_one_bad_request() -> None:
    error = invalid([Violation("name", "is missing"), Violation("days[1].date", "is no date")])
    (bad_request,) = detail(error, details.BadRequest)
    fields = [(each.field, each.description) for each in bad_request.field_violations]  # type: ignore[attr-defined]  # no types
    assert fields == [("name", "is missing"), ("days[1].date", "is no date")]
    assert error.message == "name: is missing; days[1].date: is no date"


def test_not_found_names_the_resource() -> None:
    (info,) = detail(not_found("package", "p-1"), details.ResourceInfo)
    assert (info.resource_type, info.resource_name) == ("package", "p-1")  # type: ignore[attr-defined]  # no types


def test_a_delay_becomes_retry_info() -> None:
    (info,) = detail(ApiError(OVERLOADED, "busy", retry_after_s=0.25), details.RetryInfo)
    assert info.retry_delay.ToMilliseconds() == 250  # type: ignore[attr-defined]  # no types


def test_a_failed_precondition_names_its_subject() -> None:
    error = ApiError(SOLD_OUT, "no room", resource=("package", "p-1"))
    (failure,) = detail(error, details.PreconditionFailure)
    (violation,) = failure.violations  # type: ignore[attr-defined]  # no types
    assert (violation.type, violation.subject) == ("SOLD_OUT", "p-1")
    assert detail(not_found("package", "p-1"), details.PreconditionFailure) == []


def test_shared_reasons_are_distinct_and_described() -> None:
    assert len({spec.reason for spec in SHARED_SPECS}) == len(SHARED_SPECS)
    assert all(spec.summary.endswith(".") for spec in SHARED_SPECS)
