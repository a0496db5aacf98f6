"""Defines the errors that cross the wire and converts them to rich gRPC statuses.

Only an `ApiError` shows its text to a caller; its reason is one of a catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc import StatusCode

Kind = Literal["booking", "payment", "availability", "caller", "internal"]


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One line of the catalogue.

    `reason` is UPPER_SNAKE and stable. `counts_as_error` says whether it counts in the error
    metrics. `retryable` says whether the same request may succeed later, unchanged.
    """

    reason: str
    code: StatusCode
    kind: Kind
    counts_as_error: bool
    retryable: bool
    summary: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, by its path such as `ranges[2].start_date`, and its error."""

    field: str
    description: str


INVALID_ARGUMENT: Final = ErrorSpec(
    "INVALID_ARGUMENT",
    StatusCode.INVALID_ARGUMENT,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="Fields of the request are missing, malformed or out of range; all are named.",
)
REQUEST_ID_REUSED: Final = ErrorSpec(
    "REQUEST_ID_REUSED",
    StatusCode.INVALID_ARGUMENT,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="The request_id was used before with other content.",
)
MALFORMED: Final = ErrorSpec(
    "MALFORMED_REQUEST",
    StatusCode.INVALID_ARGUMENT,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="The bytes of a request are no message of its type; a stream ends with it.",
)
TOO_LARGE: Final = ErrorSpec(
    "MESSAGE_TOO_LARGE",
    StatusCode.INVALID_ARGUMENT,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="A message has more bytes than its RPC takes; a stream ends with it.",
)
UNFINISHED: Final = ErrorSpec(
    "UNFINISHED_REQUEST",
    StatusCode.DEADLINE_EXCEEDED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="The message of a call did not arrive in time; nothing was done.",
)
TOO_MANY_RESETS: Final = ErrorSpec(
    "TOO_MANY_RESETS",
    StatusCode.RESOURCE_EXHAUSTED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="The connection has begun and reset too many calls; nothing was done.",
)
TOO_MANY_STREAMS: Final = ErrorSpec(
    "TOO_MANY_STREAMS",
    StatusCode.RESOURCE_EXHAUSTED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="As many streams of this RPC as allowed are open.",
)
NOT_FOUND: Final = ErrorSpec(
    "NOT_FOUND",
    StatusCode.NOT_FOUND,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="The resource that the request names does not exist.",
)
DEADLINE_TOO_SHORT: Final = ErrorSpec(
    "DEADLINE_TOO_SHORT",
    StatusCode.DEADLINE_EXCEEDED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="Too little time was left when the request arrived; nothing was done.",
)
OVERLOADED: Final = ErrorSpec(
    "OVERLOADED",
    StatusCode.RESOURCE_EXHAUSTED,
    kind="internal",
    counts_as_error=True,
    retryable=True,
    summary="The service has more work than it can do in time; try again after the given delay.",
)
UNAVAILABLE: Final = ErrorSpec(
    "DATABASE_UNAVAILABLE",
    StatusCode.UNAVAILABLE,
    kind="internal",
    counts_as_error=True,
    retryable=True,
    summary="The database cannot be reached, or is read-only.",
)
INTERNAL: Final = ErrorSpec(
    "INTERNAL",
    StatusCode.INTERNAL,
    kind="internal",
    counts_as_error=True,
    retryable=False,
    summary="A fault of the service; the correlation id finds its text in the log.",
)
DRAINING: Final = ErrorSpec(
    "DRAINING",
    StatusCode.UNAVAILABLE,
    kind="internal",
    counts_as_error=False,
    retryable=True,
    summary="This process is ending and takes no new RPC.",
)
STARTING: Final = ErrorSpec(
    "STARTING",
    StatusCode.UNAVAILABLE,
    kind="internal",
    counts_as_error=False,
    retryable=True,
    summary="This process still starts, or stands by for another one.",
)
UNAUTHENTICATED: Final = ErrorSpec(
    "UNAUTHENTICATED",
    StatusCode.UNAUTHENTICATED,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="The caller has no certificate or token that this service knows.",
)
PERMISSION_DENIED: Final = ErrorSpec(
    "PERMISSION_DENIED",
    StatusCode.PERMISSION_DENIED,
    kind="caller",
    counts_as_error=False,
    retryable=False,
    summary="None of the caller's roles may do this.",
)
RATE_LIMITED: Final = ErrorSpec(
    "RATE_LIMITED",
    StatusCode.RESOURCE_EXHAUSTED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="The caller has more calls at a time, or a second, than it is allowed.",
)
SHARED_SPECS: Final = (
    INVALID_ARGUMENT,
    MALFORMED,
    TOO_LARGE,
    UNFINISHED,
    TOO_MANY_RESETS,
    TOO_MANY_STREAMS,
    UNAUTHENTICATED,
    PERMISSION_DENIED,
    RATE_LIMITED,
    NOT_FOUND,
    DEADLINE_TOO_SHORT,
    OVERLOADED,
    UNAVAILABLE,
    DRAINING,
    STARTING,
    INTERNAL,
)


class ApiError(Exception):
    """A refusal whose text and details the caller sees.

    `resource` is the (type, name) that the error refers to. `retry_after_s` becomes RetryInfo.
    """

    def __init__(
        self,
        spec: ErrorSpec,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        resource: tuple[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.spec = spec
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.resource = resource
        self.retry_after_s = retry_after_s

    def to_status(self, domain: str) -> status_pb2.Status:
        """Build the google.rpc.Status: always with ErrorInfo, with other details where they apply
        (AIP-193).
        """
        info = details.ErrorInfo(reason=self.spec.reason, domain=domain, metadata=self.metadata)
        parts: list[Message] = [info]
        if self.violations:
            parts.append(self._bad_request())
        if self.retry_after_s is not None:
            retry = details.RetryInfo()
            retry.retry_delay.FromNanoseconds(round(self.retry_after_s * 1e9))
            parts.append(retry)
        if self.spec.code is StatusCode.FAILED_PRECONDITION:
            parts.append(self._precondition())
        if self.resource is not None:
            kind, name = self.resource
            parts.append(
                details.ResourceInfo(
                    resource_type=kind, resource_name=name, description=self.message
                )
            )
        status = status_pb2.Status(code=self.spec.code.value[0], message=self.message)
        for part in parts:
            packed = any_pb2.Any()
            packed.Pack(part)
            status.details.append(packed)
        return status

    def _bad_request(self) -> details.BadRequest:
        return details.BadRequest(
            field_violations=[
                details.BadRequest.FieldViolation(field=each.field, description=each.description)
                for each in self.violations
            ]
        )

    def _precondition(self) -> details.PreconditionFailure:
        subject = self.resource[1] if self.resource else ""
        violation = details.PreconditionFailure.Violation(
            type=self.spec.reason, subject=subject, description=self.message
        )
        return details.PreconditionFailure(violations=[violation])


def invalid(violations: Sequence[Violation]) -> ApiError:
    """Make an INVALID_ARGUMENT that names every bad field; `violations` is not empty."""
    named = "; ".join(f"{each.field}: {each.description}" for each in violations)
    return ApiError(INVALID_ARGUMENT, named, violations=violations)


def not_found(resource_type: str, name: str) -> ApiError:
    """Make a NOT_FOUND for a resource such as `("booking", id)`."""
    message = f"{resource_type} {name} does not exist"
    return ApiError(NOT_FOUND, message, resource=(resource_type, name))
