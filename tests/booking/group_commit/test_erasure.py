"""Erasures beside bookings, the only change of the audit trail, and the lane of facts after."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from booking_service.delivery.fact_lane import FactLane
from booking_service.domain.booking import Booking, PaymentKind
from booking_service.group_commit import erasure, stored_answers
from booking_service.group_commit.erasure import Eraser, Progress
from metrics_service.client.stream.source import ForkError
from protos.tracking.v1 import event_pb2
from tests.booking.delivery.outbox_lane import leading, seal_all
from tests.booking.group_commit.harness import Harness, patient, record

USER = "ana"
ROUNDS = 12


@asynccontextmanager
async def connected(harness: Harness) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(harness.dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def many_holds(harness: Harness) -> AsyncIterator[None]:
    """A user may hold as much as it likes."""
    former, harness.bus = harness.bus, patient(harness.database)
    harness.bus.start()
    try:
        yield
    finally:
        await harness.bus.stop()
        harness.bus = former


async def finished(eraser: Eraser, progress: Progress) -> Progress:
    while not progress.done:
        progress = await eraser.go_on(progress.id, 0.0)
    return progress


def users_of(payload: bytes) -> list[tuple[str, str]]:
    """(booking, user) of the facts of an EventList."""
    events = event_pb2.EventList.FromString(payload).events
    bodies = [each.booking if each.HasField("booking") else each.payment for each in events]
    return [(body.booking_id, body.user_id) for body in bodies]


async def traces(connection: asyncpg.Connection) -> dict[str, set[tuple[str, str]]]:
    """(booking, user) as each table has it."""
    found: dict[str, set[tuple[str, str]]] = {
        "bookings": {
            (str(row["id"]), row["user_id"])
            for row in await connection.fetch("SELECT id, user_id FROM bookings")
        }
    }
    for table in ("booking_events", "payment_events"):
        stored = await connection.fetch(f"SELECT fact FROM {table} WHERE fact <> ''")
        events = [event_pb2.Event.FromString(row["fact"]) for row in stored]
        found[table] = set(users_of(event_pb2.EventList(events=events).SerializeToString()))
    outbox = await connection.fetch("SELECT events FROM outbox")
    found["outbox"] = {each for row in outbox for each in users_of(row["events"])}
    answers = await connection.fetch("SELECT answer FROM idempotency_keys")
    decoded = [stored_answers.decode(row["answer"]) for row in answers]
    found["answers"] = {(str(b.id), b.user_id) for b in decoded if isinstance(b, Booking)}
    return found


async def test_each_booking_is_erased_as_a_whole_or_not_at_all_while_the_user_goes_on(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in {"MAX_BOOKINGS": 3, "MAX_ANSWERS": 4, "MAX_OUTBOX_ROWS": 2}.items():
        monkeypatch.setattr(erasure, name, limit)
    async with many_holds(harness), connected(harness) as connection:
        packages = [await harness.package(1_000) for _ in range(3)]

        async def book(number: int) -> Booking:
            package_id = packages[number % len(packages)]
            return await harness.start(
                package_id, user_id=USER, request_id=uuid4(), fingerprint=b"x"
            )

        async def pay(booking: Booking) -> None:
            captured = record(booking, PaymentKind.CAPTURED, booking.price_minor)
            await harness.submit(captured, request_id=uuid4(), fingerprint=b"y")

        former = [await book(number) for number in range(ROUNDS)]
        ended = asyncio.Event()

        async def go_on() -> None:
            for number, booking in enumerate(former):
                if ended.is_set():
                    break
                await asyncio.gather(pay(booking), book(number))

        going_on = asyncio.create_task(go_on())
        eraser, second = Eraser(harness.database), Eraser(harness.database)
        progress = await eraser.erase(USER, "test", 0.0)
        # As two processes would.
        done = await asyncio.gather(finished(eraser, progress), finished(second, progress))
        ended.set()
        await going_on
        assert all(each.done for each in done)
        found = await traces(connection)
        pseudonym = await connection.fetchval("SELECT pseudonym FROM erasures")
    users = dict(found["bookings"])
    assert {users[str(booking.id)] for booking in former} == {pseudonym}
    assert set(users.values()) <= {pseudonym, USER}
    whole(found)
    assert all(found.values())


def whole(found: dict[str, set[tuple[str, str]]]) -> None:
    """Every table has the user of each booking as the booking has it."""
    for table, pairs in found.items():
        assert pairs <= found["bookings"], table


async def test_a_command_that_has_loaded_a_booking_is_waited_for(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "LOCK_TIMEOUT_S", 0.05)
    waits = (
        "SELECT FROM pg_locks WHERE relation = 'package_days'::regclass AND NOT granted"
        " AND waitstart < clock_timestamp() - interval '200 ms'"
    )
    eraser = Eraser(harness.database)
    async with many_holds(harness), connected(harness) as connection:
        booking = await harness.start(await harness.package(10), user_id=USER)
        async with connection.transaction():
            await connection.execute("LOCK TABLE package_days IN SHARE MODE")
            captured = record(booking, PaymentKind.CAPTURED, booking.price_minor)
            paying = asyncio.create_task(
                harness.submit(captured, request_id=uuid4(), fingerprint=b"y")
            )
            # It has tried once, without waiting for long, and now does.
            while not await connection.fetch(waits):
                assert not paying.done()
                await asyncio.sleep(0.01)
            progress = await eraser.erase(USER, "test", 0.0)
            assert (progress.done, progress.bookings) == (False, 0)
        await paying
        assert (await finished(eraser, progress)).bookings == 1
        found = await traces(connection)
    whole(found)
    assert {user for _, user in found["payment_events"]} == {user for _, user in found["bookings"]}


@pytest.mark.parametrize("steps", range(1, 5))
async def test_a_booking_that_is_made_between_two_steps_is_erased_with_the_others(
    harness: Harness, steps: int
) -> None:
    eraser = Eraser(harness.database)
    async with many_holds(harness), connected(harness) as connection:
        package_id = await harness.package(10)
        await harness.start(package_id, user_id=USER, request_id=uuid4(), fingerprint=b"x")
        progress = await eraser.erase(USER, "test", 0.0)
        for _ in range(steps - 1):
            progress = await eraser.go_on(progress.id, 0.0)
        assert not progress.done
        await harness.start(package_id, user_id=USER, request_id=uuid4(), fingerprint=b"x")
        assert (await finished(eraser, progress)).bookings == 2
        found = await traces(connection)
    whole(found)
    assert len({user for _, user in found["bookings"]} | {USER}) == 2


async def test_an_erasure_that_is_ending_is_not_the_one_of_a_later_request(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "LOCK_TIMEOUT_S", 60.0)
    eraser = Eraser(harness.database)
    async with connected(harness) as connection, connected(harness) as looking:
        former = await eraser.erase(USER, "test", 0.0)
        async with connection.transaction():
            # The last step has looked for bookings, and is about to say so.
            await connection.execute("SELECT FROM erasures FOR UPDATE")
            booking = await harness.start(await harness.package(10), user_id=USER)
            erasing = asyncio.create_task(eraser.erase(USER, "test", 0.0))
            while not await looking.fetch("SELECT FROM pg_locks WHERE NOT granted"):
                assert not erasing.done()
            await connection.execute(
                "UPDATE erasures SET part = 'done', user_id = NULL, end_time = now()"
            )
        done = await finished(eraser, await erasing)
        assert done.id != former.id
        assert done.bookings == 1
        user = await connection.fetchval("SELECT user_id FROM bookings WHERE id = $1", booking.id)
        assert user != USER


async def test_a_step_is_bounded_and_waits_for_no_lock_for_long(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "MAX_BOOKINGS", 2)
    monkeypatch.setattr(erasure, "LOCK_TIMEOUT_S", 0.05)
    async with many_holds(harness), connected(harness) as connection:
        package_id = await harness.package(10)
        for _ in range(5):
            await harness.start(package_id, user_id=USER)
        eraser = Eraser(harness.database)
        async with connection.transaction():
            await connection.execute("SELECT FROM packages FOR NO KEY UPDATE")
            progress = await eraser.erase(USER, "test", 60.0)
            assert not progress.done
        steps = []
        while not progress.done:
            progress = await eraser.go_on(progress.id, 0.0)
            steps.append(progress.bookings)
        assert steps[:4] == [2, 4, 5, 5]
        assert progress.bookings == 5


async def test_the_audit_trail_takes_no_other_change(harness: Harness) -> None:
    package_id = await harness.package(10)
    own = await harness.start(package_id, user_id=USER)
    other = await harness.start(package_id, user_id="ben")
    async with connected(harness) as connection:

        async def refused(sql: str, *args: object, named: UUID | None = None) -> None:
            name = "" if named is None else str(named)
            await connection.execute("SELECT set_config('booking.erasure', $1, false)", name)
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(sql, *args)

        blank = "UPDATE booking_events SET fact = '' WHERE booking_id = $1"
        await refused(blank, own.id)
        under_way = await insert_erasure(connection, "erased-1", user_id=USER)
        await refused(blank, own.id, named=under_way)
        await connection.execute("UPDATE bookings SET user_id = 'erased-1' WHERE id = $1", own.id)
        await refused(blank, other.id, named=under_way)
        await refused(blank, own.id)
        for column in ("transition", "to_state", "caller", "reason"):
            change = f"UPDATE booking_events SET {column} = 'X' WHERE booking_id = $1"
            await refused(change, own.id, named=under_way)
        await refused(
            "UPDATE booking_events SET fact = NULL WHERE booking_id = $1", own.id, named=under_way
        )
        await refused("DELETE FROM booking_events", named=under_way)
        await refused("DELETE FROM erasures")
        await connection.execute(
            "UPDATE erasures SET part = 'done', user_id = NULL, end_time = begin_time"
        )
        await refused(blank, own.id, named=under_way)


async def insert_erasure(connection: asyncpg.Connection, pseudonym: str, *, user_id: str) -> UUID:
    made = uuid4()
    await connection.execute(
        "INSERT INTO erasures (id, user_id, pseudonym, caller, begin_time, part, after)"
        " VALUES ($1, $2, $3, 'ops', now(), 'bookings', '{}')",
        *(made, user_id, pseudonym),
    )
    return made


async def test_a_sink_that_has_the_batch_as_it_was_is_no_fork(harness: Harness) -> None:
    package_id = await harness.package(10)
    await harness.start(package_id, user_id=USER)
    async with leading(harness.database) as segments:
        await seal_all(segments)
        [before] = await segments.read(0, 10)
        eraser = Eraser(harness.database)
        await finished(eraser, await eraser.erase(USER, "test", 0.0))
        await harness.start(package_id, user_id=USER)
        await finished(eraser, await eraser.erase(USER, "test", 0.0))
        [now] = await segments.read(0, 10)
        assert users_of(now.payload) != users_of(before.payload)
        assert now.count == before.count
        relay = await harness.query("SELECT kept_bytes, unacked_bytes FROM relay")
        assert tuple(relay) == (len(now.payload), len(now.payload))
        lane = FactLane(segments, await segments.raise_epoch())
        for payload in (before.payload, now.payload):
            await lane.open(1, hashlib.sha256(payload).digest())
        with pytest.raises(ForkError):
            await lane.open(1, hashlib.sha256(b"another").digest())
