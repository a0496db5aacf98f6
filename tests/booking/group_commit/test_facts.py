"""Which parts of a booking are sent to the metrics, and which are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_service.domain.booking import BookingEvent, PaymentEffect, State, Transition
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
    [encoded] = facts.encode([event], {PACKAGE.id: PACKAGE}, NOW)
    return event_pb2.Event.FromString(encoded)


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
    encoded = facts.encode(events, {PACKAGE.id: package}, NOW)
    rows = list(facts.outbox_rows(encoded))
    assert sum(count for count, _ in rows) == len(events)
    count, largest = rows[0]
    assert len(event_pb2.EventList.FromString(largest).events) == count == facts.MAX_FACTS
    assert len(largest) < MAX_BATCH_BYTES
    assert len(list(facts.outbox_rows(encoded[: facts.MAX_FACTS]))) == 1


@given(st.lists(st.binary(max_size=20_000), max_size=5))
def test_an_outbox_row_is_what_protobuf_writes(users: list[bytes]) -> None:
    events = [event_pb2.Event(event_id=user) for user in users]
    expected = event_pb2.EventList(events=events).SerializeToString()
    rows = list(facts.outbox_rows([event.SerializeToString() for event in events]))
    assert b"".join(row for _, row in rows) == expected


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=3)
STATEMENTS = st.one_of(
    st.tuples(
        st.just(facts.booking_fact_id),
        st.tuples(
            st.uuids(), st.integers(1, 20), st.sampled_from([str(each) for each in Transition])
        ),
    ),
    st.tuples(
        st.just(facts.payment_fact_id),
        st.tuples(TEXT, TEXT, st.sampled_from([str(each) for each in PaymentEffect]), TEXT),
    ),
)


@given(st.sets(STATEMENTS, max_size=50))
def test_no_two_statements_share_an_id_and_one_made_again_has_the_same(
    statements: set[tuple[Callable[..., bytes], tuple[object, ...]]],
) -> None:
    ids = {function(*parts) for function, parts in statements}
    assert len(ids) == len(statements)
    assert ids == {function(*parts) for function, parts in statements}
    assert {len(each) for each in ids} <= {16}


def test_an_id_is_the_same_in_every_version_of_the_code() -> None:
    booking_id = UUID("01234567-89ab-cdef-0123-456789abcdef")
    assert (
        facts.booking_fact_id(booking_id, 2, "CONFIRMED").hex()
        == "1c705f6739e13a71bcea3dd584a85620"
    )
    assert (
        facts.payment_fact_id("stripe", "pi_1", "REFUNDED", "re_1").hex()
        == "7bb8e2b6e16fb5795285585ac749dcdb"
    )
