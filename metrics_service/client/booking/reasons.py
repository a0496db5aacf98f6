"""Maps an error to a reason of the catalogue and its kind; any other text becomes UNKNOWN and is
not kept, since it may contain personal data.
"""

from __future__ import annotations

from typing import Final

from google.rpc import error_details_pb2, status_pb2

UNKNOWN: Final = "UNKNOWN"
KINDS: Final = ("booking", "payment", "availability")

_REASONS: Final = {
    "availability": "SOLD_OUT PACKAGE_CLOSED PAST_CUTOFF CAPACITY_BELOW_TAKEN",
    "payment": "PAYMENT_DECLINED AMOUNT_MISMATCH CURRENCY_MISMATCH PAYMENT_ID_REUSED OVER_REFUND",
    # To the visitor, mistakes of the caller and of the service are failures of the booking.
    "booking": "PRICE_CHANGED HOLD_LIMIT ALREADY_HELD HOLD_EXPIRED EXTEND_LIMIT INVALID_TRANSITION"
    " NOT_CANCELLABLE FEE_CHANGED NOT_ELIGIBLE PARTY_SIZE QUOTE_REQUIRED REQUEST_ID_REUSED"
    " PAGE_TOKEN_INVALID ETAG_MISMATCH ALREADY_EXISTS CONFLICT INVALID_ARGUMENT"
    " MALFORMED_REQUEST MESSAGE_TOO_LARGE NOT_FOUND DEADLINE_TOO_SHORT OVERLOADED STORAGE_FULL"
    " DATABASE_UNAVAILABLE DRAINING STARTING UNFINISHED_REQUEST TOO_MANY_RESETS TOO_MANY_STREAMS"
    " UNAUTHENTICATED PERMISSION_DENIED RATE_LIMITED"
    " INTERNAL",
}

KIND_BY_REASON: Final = {
    reason: kind for kind, reasons in _REASONS.items() for reason in reasons.split()
}

_DETAILS: Final = "grpc-status-details-bin"


def reason_of(error: object) -> tuple[str, str]:
    """Return (reason, kind) of an error: a reason of the catalogue, an ErrorInfo, or what an RPC
    raised; (UNKNOWN, "booking") for anything else.
    """
    text = _text_of(error)
    kind = KIND_BY_REASON.get(text)
    return (text, kind) if kind else (UNKNOWN, "booking")


def _text_of(error: object) -> str:
    if isinstance(error, str):
        return error
    if isinstance(error, error_details_pb2.ErrorInfo):
        return str(error.reason)
    trailing = getattr(error, "trailing_metadata", None)
    if not callable(trailing):
        return ""
    for key, value in trailing() or ():
        if key == _DETAILS and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return str(info.reason)
    return ""
