"""A group that fails at any step is carried out as a whole and once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from booking_service.domain.booking import Booking, PaymentKind, State
from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    ClaimRefunds,
    Command,
    CompleteBooking,
    CreateReview,
    ExpireHolds,
    ExtendHold,
    ReconcileInventory,
    RefundPayment,
    RefundToClaim,
    RescheduleBooking,
    SetCapacity,
    UpdatePackage,
    UpdateProfile,
    UpdateVendor,
)
from booking_service.domain.holds import Limits
from booking_service.domain.money import Money
from booking_service.group_commit.group import GroupCommit
from booking_service.group_commit.idempotency import RequestKey
from booking_service.group_commit.queues import MAX_ATTEMPTS
from booking_service.group_commit.submission import Submission
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import Conflict, ConnectionLost
from tests.booking.group_commit.harness import (
    DAY,
    PRICE,
    Harness,
    confirm,
    copy_of,
    drift,
    patient,
    reasons,
    record,
    start,
)
from tests.booking.seed import eventually

WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM packages%'
"""
AUDITED = ("booking_events", "catalog_events", "payment_events", "refunds")
STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


class Failing(Database):
    """A database that fails once, right after statement number `at`; the commit is the last."""

    at = 0
    error: Callable[[], Exception] = RuntimeError

    def step(self) -> None:
        self.at -= 1
        if self.at == 0:
            raise self.error()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().transaction() as connection:
            yield Steps(connection, self)
        self.step()


class Steps:
    """A connection that reports each statement that was carried out."""

    def __init__(self, connection: Any, database: Failing) -> None:
        self._connection = connection
        self._database = database

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name not in STATEMENTS:
            return method

        async def carried_out(*args: object, **keywords: object) -> object:
            result = await method(*args, **keywords)
            self._database.step()
            return result

        return carried_out


@asynccontextmanager
async def failing(harness: Harness) -> AsyncIterator[Failing]:
    database = Failing(harness.dsn, clock=harness.clock)
    await database.open()
    yield database
    await database.close()


async def contents(dsn: str) -> dict[str, str]:
    """A digest of each table."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch("SELECT relname FROM pg_stat_user_tables ORDER BY relname")
        return {
            name: await connection.fetchval(
                f"SELECT md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM {name} t"
            )
            for (name,) in names
        }
    finally:
        await connection.close()


async def test_a_group_that_fails_after_any_step_leaves_nothing(harness: Harness) -> None:
    package_id = await harness.package(capacity=20)
    held = await harness.start(package_id)
    lapsing = await harness.start(package_id)
    paid, moving, cancelled = [await harness.paid(package_id) for _ in range(3)]
    harness.clock.advance(timedelta(minutes=16))
    fresh = await harness.start(package_id)
    payment = await harness.query("SELECT id FROM payments WHERE booking_id = $1", paid.id)
    vendor = await harness.query("SELECT vendor_id AS id FROM packages WHERE id = $1", package_id)
    back = RefundPayment(paid.id, payment["id"], Money(1, "EUR"), "", uuid4())
    await harness.submit(back)
    owed = RefundToClaim(back.refund_row_id, paid.id, package_id)
    days = CapacityRange(DAY + timedelta(29), DAY + timedelta(32), 7)
    commands: list[Command] = [
        start(package_id, quantity=2),
        CompleteBooking(held.id),
        ExtendHold(fresh.id),
        record(fresh, PaymentKind.CAPTURED, PRICE),
        CancelBooking(cancelled.id, "", uuid4()),
        RescheduleBooking(moving.id, DAY + timedelta(3), DAY + timedelta(5), None, uuid4()),
        RefundPayment(paid.id, payment["id"], Money(1, "EUR"), "", uuid4()),
        ClaimRefunds((owed,), 60),
        CreateReview(uuid4(), paid.id, 5, ""),
        SetCapacity(package_id, (days,)),
        UpdatePackage(package_id, {"title": "Suite"}, ""),
        UpdateProfile(uuid4(), "ada", {"display_name": "Ada"}, True, ""),
        UpdateVendor(vendor["id"], "Sol", ""),
        ExpireHolds(package_id),
        ReconcileInventory(package_id, True),
    ]
    request_ids = [uuid4() for _ in commands]
    requests = [
        Submission(command, "test", RequestKey("test", "rpc", key), b"", frozenset({package_id}))
        for command, key in zip(commands, request_ids, strict=True)
    ]
    before = await contents(harness.dsn)
    async with failing(harness) as database:
        group = GroupCommit(database, Limits())
        for step in range(1, 100):
            database.at = step
            try:
                await group.run(requests, lock_timeout_s=1.0)
            except RuntimeError:
                after = await contents(harness.dsn)
                if after != before:
                    # The last step is the commit itself: all of it happened.
                    break
    assert step > 25
    for name in (*AUDITED, "bookings", "package_days", "payments", "outbox"):
        assert before[name] != after[name], name
    database.at = 0
    # A repeat gets the answer that no caller received, and the work is not done twice.
    again = await reasons(
        harness.bus.submit(command, caller="test", rpc="rpc", request_id=request_id)
        for command, request_id in zip(commands, request_ids, strict=True)
    )
    assert again == ["OK", "HOLD_EXPIRED", *["OK"] * 13]
    assert await contents(harness.dsn) == after
    assert (await harness.booking(lapsing.id)).state is State.EXPIRED
    await check_whole(harness)


async def check_whole(harness: Harness) -> None:
    """No booking without its seats, no seats without a booking, no change without its events."""
    assert await drift(harness.dsn) == 0
    row = await harness.query(
        "SELECT count(*) FROM bookings AS b WHERE b.version <>"
        " (SELECT count(*) FROM booking_events AS e WHERE e.booking_id = b.id)"
    )
    assert row[0] == 0
    facts = await harness.facts()
    transitions = await harness.query("SELECT count(*) FROM booking_events")
    assert sum(fact.HasField("booking") for fact in facts) == transitions[0]


async def test_a_connection_lost_at_any_step_is_tried_again_and_takes_effect_once(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=99)
    async with failing(harness) as database:
        database.error = lambda: ConnectionLost("lost")
        bus = patient(database)
        bus.start()
        for step in range(1, 100):
            database.at = step
            booking = await bus.submit(
                start(package_id), caller="test", rpc="Start", request_id=uuid4()
            )
            assert isinstance(booking, Booking)
            if database.at > 0:
                # Beyond the commit of the second attempt.
                break
        await bus.stop()
    assert step > 8
    assert await harness.counters(package_id) == (step, 0)
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == step
    await check_whole(harness)


async def test_a_caller_who_ran_out_of_time_gets_the_booking_that_was_made(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=5)
    command, request_id = start(package_id), uuid4()
    connection = await asyncpg.connect(harness.dsn)

    async def under_way() -> bool:
        # Before that it would be dropped with its caller.
        return bool((await harness.query(WAITS))[0])

    async with connection.transaction():
        await connection.execute("SELECT FROM packages WHERE id = $1 FOR UPDATE", package_id)
        asking = asyncio.create_task(harness.submit(command, request_id=request_id))
        await eventually(under_way)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    async def made() -> bool:
        count: int = await connection.fetchval("SELECT count(*) FROM bookings")
        return count == 1

    # Nobody waits for it any more, and it is carried out all the same.
    await eventually(made)
    await connection.close()
    booking = await harness.submit(command, request_id=request_id)
    assert isinstance(booking, Booking)
    assert booking.id == command.booking_id
    async with copy_of(harness) as copy:
        assert await copy.submit(command, request_id=request_id) == booking
    assert (await harness.query("SELECT count(*) FROM bookings"))[0] == 1


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_serialisation_failures_and_deadlocks_are_retried_inside(
    harness: Harness, sqlstate: str
) -> None:
    package_id = await harness.package(capacity=9)
    await _plant_conflicts(harness, sqlstate, MAX_ATTEMPTS - 1)
    booking = await harness.start(package_id)
    await harness.submit(CompleteBooking(booking.id))
    assert (await harness.query("SELECT last_value FROM tries"))[0] == MAX_ATTEMPTS + 1
    assert await harness.counters(package_id) == (1, 0)
    await check_whole(harness)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_conflict_without_end_is_given_up(harness: Harness, sqlstate: str) -> None:
    package_id = await harness.package(capacity=9)
    await _plant_conflicts(harness, sqlstate, 1_000)
    with pytest.raises(Conflict):
        await harness.start(package_id)
    assert (await harness.query("SELECT last_value FROM tries"))[0] == MAX_ATTEMPTS
    assert await harness.counters(package_id) == (0, 0)
    await check_whole(harness)


async def _plant_conflicts(harness: Harness, sqlstate: str, failures: int) -> None:
    """Let the first transactions that write to the outbox fail."""
    connection = await asyncpg.connect(harness.dsn)
    # A sequence counts also in transactions that are rolled back.
    await connection.execute(
        f"""
        CREATE SEQUENCE tries;
        CREATE FUNCTION fail_first() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') <= {failures} THEN
                RAISE EXCEPTION 'planted' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NEW;
        END
        $$;
        CREATE TRIGGER planted BEFORE INSERT ON outbox
        FOR EACH ROW EXECUTE FUNCTION fail_first();
        """
    )
    await connection.close()


async def test_copies_at_work_on_different_packages_never_fail_each_other(
    harness: Harness,
) -> None:
    packages = [await harness.package(capacity=9, nights=1) for _ in range(4)]
    before = await harness.query(
        "SELECT deadlocks, conflicts FROM pg_stat_database WHERE datname = current_database()"
    )
    async with copy_of(harness) as copy:

        async def buy(bus: Harness, number: int) -> None:
            booking = await bus.start(packages[number % 4])
            await bus.submit(CompleteBooking(booking.id))
            await bus.submit(confirm(booking))

        bought = [buy((harness, copy)[n // 4 % 2], n) for n in range(32)]
        assert await reasons(bought) == ["OK"] * 32
    after = await harness.query(
        "SELECT deadlocks, conflicts FROM pg_stat_database WHERE datname = current_database()"
    )
    assert after == before
    assert [await harness.counters(package) for package in packages] == [(0, 8)] * 4
