"""Encodes answers and refusals as bytes, so that a repeated request gets its first answer again."""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from booking_service.domain.booking import Booking, Payment, Refund
from booking_service.domain.package import Package, Vendor
from booking_service.domain.profile import UserProfile
from booking_service.domain.recount import Reconciliation
from booking_service.domain.refusal import Refusal
from booking_service.domain.review import Review
from booking_service.domain.world import Answer

# The first byte is the type of the JSON that follows; a tag is never reused for another type.
_TAGS: Final[dict[bytes, Any]] = {
    b"V": Vendor,
    b"P": Package,
    b"B": Booking,
    b"Y": Payment,
    b"N": int,
    b"R": Refusal,
    b"F": Refund,
    b"W": Review,
    b"U": UserProfile,
    b"C": Reconciliation,
    b"b": tuple[Booking, ...],
    b"y": tuple[Payment, ...],
    b"f": tuple[Refund, ...],
}
_ADAPTERS: Final[dict[bytes, TypeAdapter[Any]]] = {
    tag: TypeAdapter(kind) for tag, kind in _TAGS.items()
}
_TAG_OF: Final = {kind: tag for tag, kind in _TAGS.items() if isinstance(kind, type)}

_TAG_OF_TUPLE: Final = {Booking: b"b", Payment: b"y", Refund: b"f"}


def encode(outcome: Answer | Refusal) -> bytes:
    if isinstance(outcome, tuple):
        tag = _TAG_OF_TUPLE[type(outcome[0])] if outcome else b"b"
    else:
        tag = _TAG_OF[type(outcome)]
    return tag + _ADAPTERS[tag].dump_json(outcome)


def decode(stored: bytes) -> Answer | Refusal:
    outcome: Answer | Refusal = _ADAPTERS[stored[:1]].validate_json(stored[1:])
    return outcome
