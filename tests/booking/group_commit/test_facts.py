"""Which parts of a booking are sent to the metrics, and which are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from booking_service.domain.booking import BookingEvent, State, Transition
from booking_service.domain.commands import StartBooking
from booking_service.domain.decide import decide
from booking_service.domain.holds import Limits
from booking_service.domain.world import World
from booking_service.group_commit import facts
from protos.tracking.v1 import event_pb2
from tests.booking.domain.test_rules import NOW, PACKAGE, START, world


def fact_of(reason: str) -> event_pb2.Event:
    known: World = world()
    assert isinstance(START, StartBooking)
    started = decide(START, known, NOW - timedelta(days=1), Limits()).changes.events[0]
    ended = replace(started.booking, state=State.ABANDONED, end_reason=reason)
    event = BookingEvent(Transition.ABANDONED, State.HELD, ended)
    encoded = facts.encode([event], {PACKAGE.id: PACKAGE}, NOW)
    return event_pb2.EventList.FromString(encoded).events[0]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("HOLD_EXPIRED", "HOLD_EXPIRED"),
        ("PAYMENT_TIMEOUT_2", "PAYMENT_TIMEOUT_2"),
        ("my plans changed", ""),
        # In capitals, and with a card number.
        ("CARD 4111 1111 1111 1111", ""),
        ("ÄRGER", ""),
        ("", ""),
    ],
)
def test_a_fact_carries_codes_and_no_text_of_people(reason: str, code: str) -> None:
    assert fact_of(reason).booking.reason == code
