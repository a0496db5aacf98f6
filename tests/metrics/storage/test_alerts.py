"""Alerts, their events and silences in PostgreSQL: one writer, once each, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from metrics_service.alerts.listing import parse_silence, silence_token
from metrics_service.storage import alerts, silences
from metrics_service.storage.alerts import AlertStore, Place
from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.silences import RequestReusedError, SilenceLimitError, SilenceStore
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert, AlertEvent, Silence, SilenceMatch

START_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
FIRST = Place(4_000_000_000_000_000, "0" * 32)


class Lead:
    """The writer's epoch, which the test sets."""

    def __init__(self, dsn: str) -> None:
        self.epoch = 0
        self._dsn = dsn

    async def take(self) -> int:
        """Become the writer of the log, as a process that has the lock."""
        connection = await asyncpg.connect(self._dsn)
        self.epoch = await connection.fetchval(
            "UPDATE event_log_head SET writer_epoch = writer_epoch + 1 RETURNING writer_epoch"
        )
        await connection.close()
        return self.epoch

    def __call__(self) -> int:
        return self.epoch


@pytest.fixture
async def lead(metrics_dsn: str) -> Lead:
    lead = Lead(metrics_dsn)
    await lead.take()
    return lead


@pytest.fixture
async def store(metrics_dsn: str, lead: Lead) -> AsyncIterator[AlertStore]:
    store = AlertStore(metrics_dsn, lead)
    await store.take(10)
    yield store
    await store.close()


def alert(number: int, state: str = "FIRING", **labels: str) -> Alert:
    made = Alert(
        id=f"{number:032x}",
        rule="high_error_rate",
        severity=alert_pb2.ALERT_SEVERITY_CRITICAL,
        state=alert_pb2.AlertState.Value(f"ALERT_STATE_{state}"),
        labels=labels,
        summary="11 errors in 5 min, line 10",
        value=11,
    )
    made.start_time.FromMicroseconds(START_US)
    made.fire_time.FromMicroseconds(START_US)
    if state == "RESOLVED":
        made.resolve_time.FromMicroseconds(START_US + number * SECOND_US)
    return made


def event(number: int, of: Alert, change: str = "fired", time_us: int = START_US) -> AlertEvent:
    made = AlertEvent(
        number=number,
        alert_id=of.id,
        rule=of.rule,
        state=of.state,
        change=change,
        summary=of.summary,
    )
    made.time.FromMicroseconds(time_us)
    return made


async def save(store: AlertStore, *changed: Alert, first: int = 1, machine: bytes = b"m") -> None:
    """Store one event for each alert."""
    events = [event(number, each) for number, each in enumerate(changed, start=first)]
    await store.save(events, changed, machine, next_number=first + len(changed), time_us=START_US)


async def rows(dsn: str, table: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()


async def test_the_next_writer_goes_on_from_exactly_what_was_stored(
    metrics_dsn: str, lead: Lead, store: AlertStore
) -> None:
    firing, over = alert(1, operation="bookings.list"), alert(2, "RESOLVED")
    await save(store, firing, over, machine=b"after two")
    await lead.take()
    second = AlertStore(metrics_dsn, lead)
    stored = await second.take(10)
    assert (stored.machine, stored.saved_us, stored.next_number) == (b"after two", START_US, 3)
    assert stored.alerts == [firing]
    assert stored.events == [event(1, firing), event(2, over)]
    assert await second.list_resolved(FIRST, 10) == [over]
    assert await second.get(firing.id) == firing
    assert await second.get("f" * 32) is None
    await second.close()


async def test_a_process_that_has_lost_the_lead_writes_nothing(
    metrics_dsn: str, lead: Lead, store: AlertStore
) -> None:
    frozen = lead.epoch
    await lead.take()
    second = AlertStore(metrics_dsn, lead)
    lead.epoch = frozen
    # Another one is the writer of the log, whether it has taken over the alerts or not.
    with pytest.raises(LogUnavailableError):
        await save(store, alert(1))
    lead.epoch = frozen + 1
    await second.take(10)
    await save(second, alert(2))
    # Nor once it leads again: another one has written meanwhile.
    for epoch in (frozen, await lead.take()):
        lead.epoch = epoch
        with pytest.raises(LogUnavailableError):
            await save(store, alert(3), first=2)
        with pytest.raises(LogUnavailableError):
            await SilenceStore(store).create(silence(), "")
        with pytest.raises(LogUnavailableError):
            await store.forget(START_US + 1_000 * DAY_US)
    assert (await rows(metrics_dsn, "alert_event"), await rows(metrics_dsn, "silence")) == (1, 0)
    await second.close()


async def test_a_writer_that_takes_its_lead_again_goes_on(
    metrics_dsn: str, lead: Lead, store: AlertStore
) -> None:
    await save(store, alert(1))
    await lead.take()
    await save(store, alert(2), first=2)
    assert await rows(metrics_dsn, "alert_event") == 2


async def test_an_event_whose_commit_was_not_answered_is_stored_once(
    metrics_dsn: str, store: AlertStore
) -> None:
    first, second = alert(1), alert(2)
    await save(store, first)
    await save(store, first, second)
    assert await rows(metrics_dsn, "alert_event") == 2
    assert await store.history(first.id) == [event(1, first)]


async def test_events_cannot_be_changed_or_deleted(metrics_dsn: str, store: AlertStore) -> None:
    await save(store, alert(1))
    connection = await asyncpg.connect(metrics_dsn)
    for change in (
        "UPDATE alert_event SET summary = ''",
        "DELETE FROM alert_event",
        "TRUNCATE alert_event",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(change)
    await connection.close()


async def test_what_is_over_is_listed_newest_first_page_by_page(store: AlertStore) -> None:
    over = [alert(number, "RESOLVED") for number in range(1, 8)]
    for each in over[:2]:
        each.resolve_time.FromMicroseconds(START_US)
    await save(store, *over, alert(99))
    found: list[Alert] = []
    place = FIRST
    while page := await store.list_resolved(place, 3):
        found += page
        place = Place(page[-1].resolve_time.ToMicroseconds(), page[-1].id)
    assert found == [*reversed(over[2:]), *over[:2]]


async def test_old_ones_and_those_beyond_the_bound_are_forgotten(
    metrics_dsn: str, store: AlertStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = [alert(number, "RESOLVED") for number in range(1, 11)]
    await save(store, *over, alert(99))
    monkeypatch.setattr(alerts, "MAX_KEPT_ALERTS", 6)
    monkeypatch.setattr(alerts, "MAX_KEPT_EVENTS", 5)
    assert not await store.forget(START_US + DAY_US)
    assert [each.id for each in await store.list_resolved(FIRST, 20)] == [
        each.id for each in reversed(over[-6:])
    ]
    stored = [each.number for each in (await store.take(20)).events]
    assert stored == [7, 8, 9, 10, 11]
    monkeypatch.setattr(alerts, "MAX_FORGOTTEN", 4)
    assert await store.forget(START_US + 401 * DAY_US)
    assert not await store.forget(START_US + 401 * DAY_US)
    assert await store.list_resolved(FIRST, 20) == []
    assert await rows(metrics_dsn, "alert_event") == 0
    # What fires is kept however long it does, and numbers go on.
    assert [each.id for each in await store.list_open()] == [alert(99).id]
    assert (await store.take(20)).next_number == 12


def silence(at_us: int = START_US, *, comment: str = "deploy", rule: str = "a") -> Silence:
    made = Silence(
        id=uuid4().hex,
        match=SilenceMatch(rule=rule, labels={"operation": "b"}),
        comment=comment,
        created_by="ops-1",
        active=True,
    )
    made.create_time.FromMicroseconds(at_us)
    made.end_time.FromMicroseconds(at_us + 60 * SECOND_US)
    return made


async def listed(kept: SilenceStore, now_us: int) -> list[Silence]:
    """All silences, two at a time."""
    found: list[Silence] = []
    spot = silences.FIRST
    while page := await kept.list(now_us, include_ended=True, limit=2, after=spot):
        found += page
        last = parse_silence(silence_token(page[-1]))
        assert last is not None
        spot = last
    return found


async def test_pages_of_silences_have_each_once_and_in_order(store: AlertStore) -> None:
    kept = SilenceStore(store)
    made = [await kept.create(silence(START_US + number // 2), "") for number in range(7)]
    ended = [await kept.expire(each.id, START_US + 5) for each in made[:4]]
    found = await listed(kept, START_US + 6)
    assert {each.id for each in found[:3]} == {each.id for each in made[4:]}
    assert {each.id for each in found[3:]} == {each.id for each in ended if each}
    assert len(found) == 7


async def test_a_silence_ends_by_itself_or_is_expired(store: AlertStore) -> None:
    kept = SilenceStore(store)
    first, second = silence(), silence(START_US + SECOND_US)
    assert await kept.create(first, "") == first
    await kept.create(second, "")
    assert await kept.list_active(START_US + 2 * SECOND_US) == [second, first]
    expired = await kept.expire(first.id, START_US + 2 * SECOND_US)
    assert expired is not None
    assert not expired.active
    assert expired.end_time.ToMicroseconds() == START_US + 2 * SECOND_US
    assert await kept.expire(first.id, START_US + 9 * SECOND_US) == expired
    assert await kept.expire("f" * 32, START_US) is None
    assert await kept.list_active(START_US + 3 * SECOND_US) == [second]
    assert await listed(kept, START_US + 3 * SECOND_US) == [second, expired]
    assert await kept.list_active(START_US + 61 * SECOND_US) == []


async def test_a_request_makes_one_silence(metrics_dsn: str, store: AlertStore) -> None:
    kept = SilenceStore(store)
    made = await asyncio.gather(*(kept.create(silence(), "request-1") for _ in range(5)))
    assert len({each.id for each in made}) == 1
    with pytest.raises(RequestReusedError):
        await kept.create(silence(comment="other"), "request-1")
    other = silence()
    other.created_by = "ops-2"
    await kept.create(other, "request-1")
    assert await rows(metrics_dsn, "silence") == 2


async def test_active_silences_are_bounded_and_ended_ones_forgotten(
    metrics_dsn: str, store: AlertStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = SilenceStore(store)
    monkeypatch.setattr(silences, "MAX_ACTIVE", 3)
    monkeypatch.setattr(silences, "MAX_KEPT", 2)
    for _ in range(3):
        await kept.create(silence(), "")
    with pytest.raises(SilenceLimitError):
        await kept.create(silence(), "")
    later_us = START_US + 61 * SECOND_US
    newest = await kept.create(silence(later_us), "")
    await kept.forget(later_us)
    assert await rows(metrics_dsn, "silence") == 3
    await kept.forget(later_us + 500 * DAY_US)
    assert await listed(kept, later_us) == []
    assert newest.active
