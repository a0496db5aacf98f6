"""What is left of facts and stored answers about a user who is erased: everything but the user and
texts of people.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from booking_service.domain.booking import Booking, Payment, Refund, State
from booking_service.domain.profile import UserProfile
from booking_service.domain.review import Review
from booking_service.group_commit import stored_answers
from protos.tracking.v1 import event_pb2

KEPT_REASONS: Final = frozenset(
    {"", "CANCELLED", "HOLD_EXPIRED", "REFUND_DUE", "REQUESTED", "RESCHEDULED"}
)
"""The reasons of this service; those of callers may be texts. Of a failure it is always a code."""

FAILURE_CODE: Final = r"^[A-Za-z0-9_.:-]*$"
"""A provider's code; anything else may be a text."""

_FAILED: Final = event_pb2.BookingFact.FAILED
_TEXT: Final = TypeAdapter(str)

_One = Booking | Payment | Refund | Review | UserProfile


def in_answer(user_id: str) -> bytes:
    """Return a user id as it stands in every stored answer with it."""
    return _TEXT.dump_json(user_id)


def fact(stored: bytes, user_id: str, pseudonym: str) -> bytes:
    """Return a serialised tracking.v1.Event without the user; one of another user as it is."""
    event = event_pb2.Event.FromString(stored)
    return event.SerializeToString() if _erase(event, user_id, pseudonym) else stored


def facts(stored: bytes, user_id: str, pseudonym: str) -> bytes:
    """Return a serialised tracking.v1.EventList without the user."""
    events = event_pb2.EventList.FromString(stored)
    changed = [_erase(event, user_id, pseudonym) for event in events.events]
    return events.SerializeToString() if any(changed) else stored


def texts_of(stored: bytes) -> frozenset[UUID]:
    """Return the bookings of payments and refunds in an answer that may have texts of people."""
    return frozenset(
        one.booking_id
        for one in _parts(stored)
        if isinstance(one, Payment | Refund) and _without_text(one) != one
    )


def answer(stored: bytes, user_id: str, pseudonym: str, booking_ids: Collection[UUID]) -> bytes:
    """Return a stored answer without the user, and without texts of payments and refunds of these
    bookings.
    """
    outcome = stored_answers.decode(stored)
    if isinstance(outcome, tuple):
        left: object = tuple(_erased(one, user_id, pseudonym, booking_ids) for one in outcome)
    else:
        left = _erased(outcome, user_id, pseudonym, booking_ids)
    return stored if left == outcome else stored_answers.encode(left)  # type: ignore[arg-type]


def _erase(event: event_pb2.Event, user_id: str, pseudonym: str) -> bool:
    body = event.booking if event.HasField("booking") else event.payment
    if body.user_id != user_id:
        return False
    body.user_id, event.session_id = pseudonym, ""
    if event.HasField("booking"):
        booking = event.booking
        if booking.transition != _FAILED and booking.reason not in KEPT_REASONS:
            booking.reason = ""
    elif not re.fullmatch(FAILURE_CODE, event.payment.failure_code):
        event.payment.failure_code = ""
    return True


def _parts(stored: bytes) -> tuple[object, ...]:
    outcome = stored_answers.decode(stored)
    return outcome if isinstance(outcome, tuple) else (outcome,)


def _erased(one: object, user_id: str, pseudonym: str, booking_ids: Collection[UUID]) -> object:
    match one:
        case Booking() | Review() | UserProfile() if one.user_id == user_id:
            return _without_text(replace(one, user_id=pseudonym))
        case Payment() | Refund() if one.booking_id in booking_ids:
            return _without_text(one)
    return one


def _without_text(one: _One) -> _One:
    match one:
        case Booking():
            kept = one.state is State.FAILED or one.end_reason in KEPT_REASONS
            return replace(one, session_id="", end_reason=one.end_reason if kept else "")
        case Payment():
            code = one.failure_code
            return replace(one, failure_code=code if re.fullmatch(FAILURE_CODE, code) else "")
        case Refund():
            return replace(one, reason=one.reason if one.reason in KEPT_REASONS else "")
        case Review():
            return replace(one, body="")
        case UserProfile():
            return replace(one, display_name="", email="", locale="")
