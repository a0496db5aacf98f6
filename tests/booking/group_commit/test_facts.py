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
from metrics_service.ingest.streams import MAX_BATCH_BYTES
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


def test_the_facts_of_a_large_group_are_split_into_rows_that_can_be_sent() -> None:
    known: World = world()
    event = decide(START, known, NOW - timedelta(days=1), Limits()).changes.events[0]
    longest = replace(event.booking, user_id="x" * 256, session_id="x" * 256, end_reason="X" * 60)
    package = replace(PACKAGE, type="x" * 240, location="x" * 256)
    events = [BookingEvent(Transition.ABANDONED, State.HELD, longest)] * 25_600
    parts = list(facts.parts(events))
    assert sum(len(part) for part in parts) == len(events)
    largest = facts.encode(parts[0], {PACKAGE.id: package}, NOW)
    assert len(event_pb2.EventList.FromString(largest).events) == facts.MAX_FACTS
    assert len(largest) < MAX_BATCH_BYTES
    assert list(facts.parts(events[: facts.MAX_FACTS])) == [events[: facts.MAX_FACTS]]
