"""The catalogue of errors that callers receive, and how a refusal of the domain becomes one.

Every reason of the domain has an entry. A caller's mistake, a sold-out day and a hold that the user
already has do not count as errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar
from uuid import UUID

from grpc import StatusCode

from booking_service.domain.refusal import Reason, Refusal
from servicekit.errors import (
    REQUEST_ID_REUSED,
    SHARED_SPECS,
    ApiError,
    ErrorSpec,
    Kind,
    Violation,
    not_found,
)

T = TypeVar("T")

DOMAIN: Final = "booking.farehold"
"""The domain of every ErrorInfo of this service."""

# gRPC refuses trailing metadata beyond 8 kB, and a message may occur in it four times.
MAX_MESSAGE_CHARS: Final = 200
MAX_DAYS: Final = 100

OVERLOAD_RETRY_S: Final = 0.25
"""When a caller should retry: a queue that is full now has been emptied by then."""

# Refusals that are about one field of the request.
_FIELDS: Final = {Reason.REQUEST_ID_REUSED: "request_id", Reason.QUOTE_REQUIRED: "quote"}

# Refusals whose metadata names a resource.
_OF_A_RESOURCE: Final = (Reason.NOT_FOUND, Reason.ALREADY_EXISTS, Reason.ETAG_MISMATCH)

_PRECONDITION: Final = StatusCode.FAILED_PRECONDITION
_UNCOUNTED: Final = ("SOLD_OUT", "ALREADY_HELD")


def _spec(
    reason: str, code: StatusCode, kind: Kind, summary: str, *, retryable: bool = False
) -> ErrorSpec:
    counts = kind != "caller" and reason not in _UNCOUNTED
    return ErrorSpec(reason, code, kind, counts, retryable, summary)


_SPECS: Final = (
    *SHARED_SPECS,
    _spec(
        "CONFLICT",
        StatusCode.ABORTED,
        "internal",
        "Each attempt failed because of concurrent changes; nothing was done.",
        retryable=True,
    ),
    _spec(
        "STORAGE_FULL",
        _PRECONDITION,
        "internal",
        "A bound on what is stored is reached, until its setting is raised; metadata limit.",
    ),
    _spec(
        "ALREADY_EXISTS",
        StatusCode.ALREADY_EXISTS,
        "caller",
        "The id chosen for a new resource is taken; ResourceInfo names it.",
    ),
    REQUEST_ID_REUSED,
    _spec(
        "PAGE_TOKEN_INVALID",
        StatusCode.INVALID_ARGUMENT,
        "caller",
        "The page_token is not from this list with these filters and this order.",
    ),
    _spec(
        "ETAG_MISMATCH",
        StatusCode.ABORTED,
        "caller",
        "The resource changed since the etag was read: read it again.",
    ),
    _spec(
        "SOLD_OUT",
        _PRECONDITION,
        "availability",
        "Some days have too few free units; metadata days lists them and their free units.",
    ),
    _spec(
        "PACKAGE_CLOSED",
        _PRECONDITION,
        "availability",
        "The package is not on sale, or not for these dates.",
    ),
    _spec("PAST_CUTOFF", _PRECONDITION, "availability", "It is too late to book the first day."),
    _spec(
        "CAPACITY_BELOW_TAKEN",
        _PRECONDITION,
        "availability",
        "Some days would be overbooked; metadata days lists them and by how much.",
    ),
    _spec(
        "PARTY_SIZE",
        _PRECONDITION,
        "caller",
        "The package does not accept a party of this size; metadata min and max.",
    ),
    _spec(
        "QUOTE_REQUIRED",
        _PRECONDITION,
        "caller",
        "The package is sold at quoted prices, and the request carries no quote.",
    ),
    _spec(
        "PRICE_CHANGED",
        _PRECONDITION,
        "booking",
        "The quoted price is not the current one; metadata price_minor and currency.",
    ),
    _spec(
        "HOLD_LIMIT",
        _PRECONDITION,
        "booking",
        "The user has the maximum number of live holds; metadata limit.",
    ),
    _spec(
        "ALREADY_HELD",
        StatusCode.ALREADY_EXISTS,
        "booking",
        "The user has a live hold of this package; ResourceInfo names the booking.",
    ),
    _spec(
        "HOLD_EXPIRED",
        _PRECONDITION,
        "booking",
        "The hold has expired; a payment that arrived too late is REFUND_DUE.",
    ),
    _spec(
        "EXTEND_LIMIT",
        _PRECONDITION,
        "booking",
        "The hold was extended the maximum number of times; metadata limit.",
    ),
    _spec(
        "INVALID_TRANSITION",
        _PRECONDITION,
        "booking",
        "The booking's state does not allow this; metadata state.",
    ),
    _spec("NOT_CANCELLABLE", _PRECONDITION, "booking", "The stay has begun or is over."),
    _spec(
        "FEE_CHANGED",
        StatusCode.ABORTED,
        "booking",
        "The refund is no longer the previewed one; metadata refund_minor and currency.",
    ),
    _spec(
        "NOT_ELIGIBLE",
        _PRECONDITION,
        "booking",
        "Only a confirmed or fulfilled stay can be reviewed, once.",
    ),
    _spec(
        "PAYMENT_DECLINED",
        _PRECONDITION,
        "payment",
        "The provider reported that this payment failed; RecordPayment takes its later capture.",
    ),
    _spec(
        "AMOUNT_MISMATCH",
        _PRECONDITION,
        "payment",
        "The amount is not the amount due; metadata price_minor and currency.",
    ),
    _spec(
        "CURRENCY_MISMATCH",
        _PRECONDITION,
        "payment",
        "The amount is not in the currency of the booking or package; metadata currency.",
    ),
    _spec(
        "PAYMENT_ID_REUSED",
        _PRECONDITION,
        "payment",
        "The provider's payment belongs to another booking.",
    ),
    _spec(
        "OVER_REFUND",
        _PRECONDITION,
        "payment",
        "The refund exceeds what was captured; metadata refundable_minor.",
    ),
)

CATALOGUE: Final[Mapping[str, ErrorSpec]] = MappingProxyType({s.reason: s for s in _SPECS})
"""Every error by its reason; docs/errors.md is this table."""


def to_api_error(refusal: Refusal) -> ApiError:
    """Return the error for a refusal.

    Its facts become metadata, its resource ResourceInfo, and its field BadRequest.
    """
    metadata = dict(refusal.metadata)
    resource = None
    if refusal.reason in _OF_A_RESOURCE:
        resource = metadata.pop("resource_type"), metadata.pop("resource_name")
    elif "booking_id" in metadata:
        resource = "booking", metadata["booking_id"]
    if "days" in metadata:
        metadata |= _first_days(metadata["days"])
    message = _clipped(refusal.message)
    field = metadata.pop("field", None) or _FIELDS.get(refusal.reason)
    return ApiError(
        CATALOGUE[refusal.reason],
        message,
        metadata=metadata,
        violations=[Violation(field, message)] if field else [],
        resource=resource,
        retry_after_s=OVERLOAD_RETRY_S if refusal.reason is Reason.OVERLOADED else None,
    )


def conflict() -> ApiError:
    """Return CONFLICT: each attempt of the transaction conflicted with others."""
    message = "conflicts with concurrent changes; try again"
    return ApiError(CATALOGUE["CONFLICT"], message, retry_after_s=OVERLOAD_RETRY_S)


def page_token_invalid() -> ApiError:
    """Return PAGE_TOKEN_INVALID, which names the field."""
    message = "is not from an answer to this list with the same filters and order"
    violation = Violation("page_token", message)
    return ApiError(
        CATALOGUE["PAGE_TOKEN_INVALID"], f"page_token {message}", violations=[violation]
    )


def found(value: T | None, resource_type: str, name: object) -> T:
    """Return `value`; raise NOT_FOUND with ResourceInfo if it is None."""
    if value is None:
        raise not_found(resource_type, str(name))
    return value


def all_found(known: Mapping[UUID, T], resource_type: str, names: Sequence[UUID]) -> list[T]:
    """Return the values of these names, in their order.

    Raises NOT_FOUND if any is missing, with the first in ResourceInfo and all in the metadata
    `missing`.
    """
    missing = [str(name) for name in names if name not in known]
    if missing:
        error = not_found(resource_type, missing[0])
        raise ApiError(
            error.spec,
            error.message if len(missing) == 1 else f"{len(missing)} of them do not exist",
            metadata={"missing": ",".join(missing)},
            resource=error.resource,
        )
    return [known[name] for name in names]


def table() -> str:
    """Return the catalogue as a Markdown table, in its order."""
    rows = [
        "| Reason | Code | Kind | Counts as an error | Retry unchanged | Meaning |",
        "|---|---|---|---|---|---|",
    ]
    for spec in CATALOGUE.values():
        counts, retry = ("yes" if each else "no" for each in (spec.counts_as_error, spec.retryable))
        rows.append(
            f"| {spec.reason} | {spec.code.name} | {spec.kind} | {counts} | {retry} "
            f"| {spec.summary} |"
        )
    return "\n".join(rows)


def _first_days(days: str) -> dict[str, str]:
    listed = days.split(",")
    if len(listed) <= MAX_DAYS:
        return {}
    return {"days": ",".join(listed[:MAX_DAYS]), "days_omitted": str(len(listed) - MAX_DAYS)}


def _clipped(message: str) -> str:
    return (
        message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 3] + "..."
    )
