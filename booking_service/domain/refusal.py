"""The reasons for which a command is refused: stable names that callers act on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from booking_service.domain.booking import Booking
from booking_service.domain.etag import etag


class Reason(StrEnum):
    """Each is an entry of the error catalogue, which gives its status code and kind."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    OVERLOADED = "OVERLOADED"
    STORAGE_FULL = "STORAGE_FULL"
    SOLD_OUT = "SOLD_OUT"
    PACKAGE_CLOSED = "PACKAGE_CLOSED"
    PAST_CUTOFF = "PAST_CUTOFF"
    PARTY_SIZE = "PARTY_SIZE"
    PRICE_CHANGED = "PRICE_CHANGED"
    QUOTE_REQUIRED = "QUOTE_REQUIRED"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    HOLD_LIMIT = "HOLD_LIMIT"
    ALREADY_HELD = "ALREADY_HELD"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    AMOUNT_MISMATCH = "AMOUNT_MISMATCH"
    PAYMENT_ID_REUSED = "PAYMENT_ID_REUSED"
    OVER_REFUND = "OVER_REFUND"
    CAPACITY_BELOW_TAKEN = "CAPACITY_BELOW_TAKEN"
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    EXTEND_LIMIT = "EXTEND_LIMIT"
    FEE_CHANGED = "FEE_CHANGED"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as a value: the reason, one sentence for people, and facts for programs.

    `metadata` of NOT_FOUND, ALREADY_EXISTS and ETAG_MISMATCH has `resource_type` and
    `resource_name`; of INVALID_ARGUMENT `field`, the path of the field that contradicts what is
    stored; of INVALID_TRANSITION, HOLD_EXPIRED and NOT_CANCELLABLE `state`; of SOLD_OUT `days`, as
    "2026-03-01=2,2026-03-02=0" with the free units of each day that has too few; of
    CAPACITY_BELOW_TAKEN `days` likewise with the units overbooked; of ALREADY_HELD `booking_id`.
    """

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - named as the fact it states
    """A command was refused; the changes that it still made, if any, are committed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.reason}: {refusal.message}")
        self.refusal = refusal


def invalid(field_path: str, message: str) -> Refusal:
    """Refuse a field that is valid by itself but contradicts what is stored."""
    return Refusal(Reason.INVALID_ARGUMENT, f"{field_path}: {message}", {"field": field_path})


def not_found(resource_type: str, name: object) -> Refusal:
    return Refusal(
        Reason.NOT_FOUND,
        f"there is no {resource_type} {name}",
        {"resource_type": resource_type, "resource_name": str(name)},
    )


def already_exists(resource_type: str, name: object) -> Refusal:
    return Refusal(
        Reason.ALREADY_EXISTS,
        f"{resource_type} {name} exists",
        {"resource_type": resource_type, "resource_name": str(name)},
    )


def etag_mismatch(resource_type: str, name: object) -> Refusal:
    return Refusal(
        Reason.ETAG_MISMATCH,
        f"{resource_type} {name} changed since its etag was read",
        {"resource_type": resource_type, "resource_name": str(name)},
    )


def refuse_if_changed(booking: Booking, expected_etag: str) -> Refusal | None:
    """Refuse a change that expects another version of the booking; "" expects none."""
    if expected_etag in ("", etag(booking.version, booking.update_time)):
        return None
    return etag_mismatch("booking", booking.id)


def currency_mismatch(given: str, expected: str) -> Refusal:
    return Refusal(
        Reason.CURRENCY_MISMATCH,
        f"the currency is {expected}, not {given}",
        {"currency": expected},
    )


def invalid_transition(booking: Booking, verb: str) -> Refusal:
    return Refusal(
        Reason.INVALID_TRANSITION,
        f"booking {booking.id} is {booking.state} and cannot be {verb}",
        {"state": str(booking.state), "booking_id": str(booking.id)},
    )


def hold_expired(booking: Booking) -> Refusal:
    return Refusal(
        Reason.HOLD_EXPIRED,
        f"the hold of booking {booking.id} ended at {booking.hold_expire_time.isoformat()}",
        {"state": str(booking.state), "booking_id": str(booking.id)},
    )
