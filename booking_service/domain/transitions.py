"""Transitions of a hold that several commands make on their way."""

from __future__ import annotations

from dataclasses import replace

from booking_service.domain.booking import Booking, State, Transition
from booking_service.domain.world import Draft

HOLD_EXPIRED = "HOLD_EXPIRED"


def complete_form(draft: Draft, booking: Booking) -> Booking:
    """The hold after its form was completed."""
    pending = replace(booking, state=State.PENDING_PAYMENT, complete_time=draft.now)
    return draft.put(pending, Transition.COMPLETED, before=booking)


def expire(draft: Draft, hold: Booking) -> Booking:
    """The hold after its time ran out; its seats are free."""
    return draft.end(hold, State.EXPIRED, Transition.EXPIRED, HOLD_EXPIRED)
