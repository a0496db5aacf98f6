"""The transitions of a hold that several commands make."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from booking_service.domain.booking import Booking, State, Transition
from booking_service.domain.world import Draft

HOLD_EXPIRED: Final = "HOLD_EXPIRED"


def complete_form(draft: Draft, booking: Booking) -> Booking:
    """Return the hold with its form completed."""
    pending = replace(booking, state=State.PENDING_PAYMENT, complete_time=draft.now)
    return draft.put(pending, Transition.COMPLETED, before=booking)


def expire(draft: Draft, hold: Booking) -> Booking:
    """End a hold that has run out and free its seats."""
    return draft.end(hold, State.EXPIRED, Transition.EXPIRED, HOLD_EXPIRED)
