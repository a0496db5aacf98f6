"""What a session did: every event once, in a visit that the funnel counts as one actor."""

from __future__ import annotations

import pytest

from metrics_service.state.fold import State
from metrics_service.state.funnel.funnel import FunnelFold
from metrics_service.state.journeys import journeys
from metrics_service.state.journeys.changes import SessionChange
from metrics_service.state.journeys.journeys import NAMES, Journeys
from metrics_service.state.journeys.visit import MAX_KEPT_EVENTS, decode, encode
from metrics_service.state.truncate import MAX_ID_BYTES
from tests.metrics.state.log import HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log


def changes(state: State) -> list[SessionChange]:
    return list(state.journeys.changes)


def names(change: SessionChange) -> list[str]:
    return [NAMES[event.name] for event in decode(change.part)]


def test_a_journey_has_steps_refusals_and_failures_of_its_session() -> None:
    log = Log()
    refused = log.refused(NOW + 2 * SECOND, "SOLD_OUT")
    refused.session_id = "s"
    failed = log.payment_failed(NOW + 4 * SECOND)
    failed.session_id = "s"
    log.append(
        log.view(NOW),
        log.fact(Fact.STARTED, NOW + SECOND),
        refused,
        log.fact(Fact.COMPLETED, NOW + 3 * SECOND),
        failed,
        log.flow(Flow.ERROR, NOW + 5 * SECOND, reason="CARD"),
        log.fact(Fact.EXPIRED, NOW + 6 * SECOND),
    )
    (change,) = changes(log.state)
    assert names(change) == [
        "view",
        "start",
        "error",
        "complete",
        "payment_failed",
        "error",
        "expire",
    ]
    reasons = [event.reason for event in decode(change.part)]
    assert reasons == ["", "", "SOLD_OUT", "", "PAYMENT_FAILED", "CARD", ""]
    assert (change.steps, change.start_us, change.abandoned) == (3, NOW, True)
    assert (change.key, change.booking_ids, change.package_id) == ("s", ("b",), "p")
    assert (change.events, change.last_us) == (7, NOW + 6 * SECOND)


def test_a_step_that_a_fact_has_reported_is_there_once() -> None:
    log = Log()
    log.append(
        log.view(NOW),
        log.fact(Fact.STARTED, NOW + SECOND),
        log.flow(Flow.START, NOW + SECOND, booking="b"),
    )
    (change,) = changes(log.state)
    assert names(change) == ["view", "start"]


def test_a_session_that_comes_back_is_another_visit_as_it_is_another_actor() -> None:
    log = Log()
    log.append(log.view(NOW))
    log.tick(NOW + HOUR)
    log.append(log.view(log.now_us))
    assert [change.number for change in changes(log.state)] == [1, 2]
    assert log.state.funnel().entered == 2


def test_what_comes_without_an_actor_is_kept_and_counts_nowhere() -> None:
    log = Log()
    log.append(log.fact(Fact.CANCELLED, NOW), log.fact(Fact.CANCELLED, NOW + SECOND))
    (change,) = changes(log.state)
    assert names(change) == ["cancel", "cancel"]
    assert change.steps is None
    assert log.state.funnel().entered == 0
    # A chain that begins now is of the same visit.
    log.append(log.view(NOW + 2 * SECOND))
    (change,) = changes(log.state)
    assert (names(change), change.steps) == (["cancel", "cancel", "view"], 1)


def test_nothing_is_kept_of_a_failure_without_session_and_user() -> None:
    log = Log()
    log.append(log.refused(NOW), log.payment_failed(NOW), log.flow(Flow.ERROR, NOW, session=""))
    assert changes(log.state) == []
    log.append(log.view(NOW, session=""), log.view(NOW, session=""))
    assert [change.key for change in changes(log.state)] == ["\x011", "\x012"]


def test_events_beyond_the_most_are_counted() -> None:
    log = Log()
    log.append(*(log.view(NOW + number) for number in range(MAX_KEPT_EVENTS + 3)))
    (change,) = changes(log.state)
    kept = list(decode(change.part))
    assert (len(kept), change.events) == (MAX_KEPT_EVENTS, MAX_KEPT_EVENTS + 3)
    assert kept[-1].time_us == NOW + MAX_KEPT_EVENTS - 1
    log.state.journeys.saved()
    log.append(log.view(NOW + SECOND))
    (change,) = changes(log.state)
    assert (change.first, change.part, change.events) == (500, "", MAX_KEPT_EVENTS + 4)


def test_the_next_part_begins_where_the_saved_one_ended() -> None:
    log = Log()
    log.append(log.view(NOW), log.fact(Fact.STARTED, NOW + 1))
    log.state.journeys.saved()
    assert changes(log.state) == []
    log.append(log.fact(Fact.COMPLETED, NOW + 2))
    (change,) = changes(log.state)
    assert (change.first, change.is_new, names(change)) == (2, False, ["complete"])


def test_unsaved_changes_are_part_of_the_whole_state() -> None:
    log = Log()
    log.append(*(log.view(NOW, session=f"s{number}") for number in range(1_200)))
    log.append(log.fact(Fact.STARTED, NOW + 1, "s7", booking="b\u00e9"))
    log.append(log.fact(Fact.CANCELLED, NOW + 1, "alone"))
    journeys_ = log.state.journeys
    loaded = State.load([*log.state.dump(), *journeys_.unsaved()])
    assert list(loaded.journeys.unsaved()) == list(journeys_.unsaved())
    assert loaded.journeys.changes.anew
    # Without them, the table has everything.
    loaded = State.load(log.state.dump())
    assert changes(loaded) == []
    assert not loaded.journeys.changes.anew
    assert loaded.journeys.changes.saved_number == 1_201


def test_an_actor_without_room_is_abandoned_as_the_funnel_counts_it() -> None:
    funnel = FunnelFold(max_actors=1)
    fold = Journeys(funnel)
    for key in "ab":
        fold.step(key, 0, NOW, "p", "", funnel.step(key, 0, NOW))
    first, second = fold.changes
    assert (first.abandoned, second.abandoned) == (True, False)
    assert funnel.window(None).abandoned == 1


def test_changes_and_loose_visits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journeys, "MAX_CHANGES", 2)
    monkeypatch.setattr(journeys, "CHANGES_DUE", 2)
    monkeypatch.setattr(journeys, "MAX_LOOSE_VISITS", 2)
    log = Log()
    log.append(log.fact(Fact.CANCELLED, NOW, "s0"))
    assert not log.state.journeys.due
    log.append(*(log.fact(Fact.CANCELLED, NOW, f"s{number}") for number in range(1, 3)))
    assert log.state.journeys.due
    assert [change.key for change in changes(log.state)] == ["s1", "s2"]
    assert log.state.metrics().quality.evicted["sessions"] == 1
    log.append(log.fact(Fact.CANCELLED, NOW, "s0"))
    assert log.state.journeys.last_number == 4


@pytest.mark.parametrize("text", ["", "p", "a b", "\u20ac" * 85])
def test_an_event_is_read_back_as_it_was(text: str) -> None:
    assert len(text.encode()) <= MAX_ID_BYTES
    events = [(NOW, 3, text, text, text[:60]), (0, 8, "", "", "R" * 200), (-1, 0, "p", "b", "")]
    assert list(decode("".join(encode(*event) for event in events))) == events


def test_what_cannot_be_printed_is_left_out() -> None:
    (event,) = decode(encode(NOW, 0, "a\tb\n", "\x00c\u2028d", "\r"))
    assert event == (NOW, 0, "ab", "cd", "")


def test_a_view_that_begins_a_new_chain_leaves_the_longest_one() -> None:
    log = Log()
    log.append(log.view(NOW), log.fact(Fact.STARTED, NOW + 1), log.view(NOW + MINUTE))
    (change,) = changes(log.state)
    assert (change.start_us, change.steps) == (NOW, 2)
