"""A jump of the database's clock ends no hold and no stay and forgets nothing, unless it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from booking_service.config import BookingSettings
from booking_service.delivery.segments import Segments
from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.sweeper import Sweeper
from booking_service.server import serve
from booking_service.storage.clock import DatabaseClock
from booking_service.storage.database import Database
from servicekit.clock import BELIEVED_AFTER_S, MAX_SKEW_US, wall_us
from tests.booking.group_commit.test_sweeper import Rows, states
from tests.booking.seed import add_booking, add_days, add_package
from tests.jumping_clock import JumpingClock, jumping_clock

BOUND_S = 20.0
FAR = timedelta(days=400)
MINUTE = timedelta(minutes=1)


class Monotonic:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
async def jumps(booking_dsn: str) -> AsyncIterator[JumpingClock]:
    async with jumping_clock(booking_dsn) as clock:
        yield clock


@pytest.fixture
async def rows(jumps: JumpingClock, booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def monotonic() -> Monotonic:
    return Monotonic()


@pytest.fixture
async def database(
    jumps: JumpingClock, booking_dsn: str, monotonic: Monotonic
) -> AsyncIterator[Database]:
    database = Database(booking_dsn, clock=DatabaseClock(monotonic_s=monotonic), pool_size=3)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def sweeper(database: Database) -> AsyncIterator[Sweeper]:
    bus = CommandBus(database)
    bus.start()
    yield Sweeper(database, bus)
    await bus.stop()


async def read(database: Database) -> datetime:
    async with database.connection() as connection:
        return await database.clock.now(connection)


async def hold_and_stay(rows: Rows) -> tuple[UUID, UUID]:
    """A hold and a confirmed stay that end tomorrow."""
    package_id = await add_package(rows)
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).date()
    await add_days(rows, package_id, 2, start=now.date(), held=1, confirmed=1)
    stay = {"start_date": now.date(), "end_date": tomorrow + timedelta(days=1)}
    hold = await add_booking(rows, package_id, hold_expire_time=now + timedelta(days=1), **stay)
    kept = await add_booking(
        rows, package_id, state="CONFIRMED", confirm_time=now, version=3, **stay
    )
    return hold, kept


async def add_forgettable(rows: Rows) -> None:
    """What is kept for some hours or days: answers, an early payment event, a sent segment."""
    now = datetime.now(UTC)
    await rows.execute(
        "INSERT INTO idempotency_keys"
        " SELECT slot, 'c', 'r', gen_random_uuid(), '', '', $1 FROM generate_series(0, 7) AS slot",
        now,
    )
    await rows.execute(
        "INSERT INTO early_payment_events (booking_id, provider, payment_id, kind, refund_id,"
        " amount_minor, currency, failure_code, caller, receive_time)"
        " VALUES (gen_random_uuid(), 'p', 'i', 'AUTHORISED', '', 1, 'EUR', '', 'c', $1)",
        now,
    )


async def kept_rows(rows: Rows) -> tuple[int, int]:
    answers = await rows.fetchval("SELECT count(*) FROM idempotency_keys")
    return answers, await rows.fetchval("SELECT count(*) FROM early_payment_events")


@pytest.mark.parametrize("days", [400, -400])
async def test_a_jump_ends_nothing_and_leaves_the_time_as_it_is(
    jumps: JumpingClock,
    rows: Rows,
    database: Database,
    sweeper: Sweeper,
    monotonic: Monotonic,
    days: int,
) -> None:
    hold, stay = await hold_and_stay(rows)
    await add_forgettable(rows)
    before = await read(database)
    kept = await kept_rows(rows)
    await jumps.jump(timedelta(days=days))
    for _ in range(3):
        assert await sweeper.sweep() == 0
        monotonic.s += 1
    assert abs(await read(database) - before) < MINUTE
    await jumps.jump(timedelta())
    assert await sweeper.sweep() == 0
    assert await states(rows) == {hold: "HELD", stay: "CONFIRMED"}
    answers, early = await kept_rows(rows)
    # The slot that is used next is emptied at any time.
    assert kept[0] - 1 <= answers
    assert early == kept[1]


async def test_a_jump_that_stands_for_a_minute_is_followed(
    jumps: JumpingClock, rows: Rows, database: Database, sweeper: Sweeper, monotonic: Monotonic
) -> None:
    hold, stay = await hold_and_stay(rows)
    before = await read(database)
    await jumps.jump(FAR)
    assert await sweeper.sweep() == 0
    # A minute passes on both.
    monotonic.s += BELIEVED_AFTER_S
    await jumps.jump(FAR + timedelta(seconds=BELIEVED_AFTER_S))
    assert await sweeper.sweep() == 2
    assert await states(rows) == {hold: "EXPIRED", stay: "FULFILLED"}
    assert await read(database) - before >= FAR


async def test_the_relay_drops_nothing_for_a_jump(
    jumps: JumpingClock, rows: Rows, database: Database
) -> None:
    async with Segments.connected(database) as segments:
        assert await segments.try_lead()
        await segments.raise_epoch()
        await rows.execute(
            "INSERT INTO segment (seq, epoch, count, batch, batch_hash, seal_time, ack_time)"
            " SELECT seq, 1, 1, '', '', clock_timestamp(), clock_timestamp()"
            " FROM generate_series(1, 3) AS seq"
        )
        await rows.execute("UPDATE relay SET acked_seq = 3")
        await segments.drop_acknowledged(timedelta(hours=24), 10**9)
        await jumps.jump(FAR)
        await segments.drop_acknowledged(timedelta(hours=24), 10**9)
    assert await rows.fetchval("SELECT count(*) FROM segment") == 3


async def test_a_start_waits_while_its_own_clock_is_another(
    jumps: JumpingClock, database: Database, monotonic: Monotonic
) -> None:
    reads = 0

    def own_us() -> int:
        """Time passes, and after three readings the database's clock is right again."""
        nonlocal reads
        reads += 1
        monotonic.s += 1
        return wall_us() + (10 * MAX_SKEW_US if reads <= 3 else 0)

    clock = DatabaseClock(own_us=own_us, monotonic_s=monotonic)
    async with database.connection() as connection:
        await clock.settle(connection, pause_s=0)
        assert reads == 4
        # One that stays is believed after a minute.
        clock = DatabaseClock(own_us=lambda: own_us() + 10 * MAX_SKEW_US, monotonic_s=monotonic)
        began_s = monotonic.s
        await clock.settle(connection, pause_s=0)
    assert BELIEVED_AFTER_S <= monotonic.s - began_s <= BELIEVED_AFTER_S + 2


async def test_a_start_that_waits_for_the_clock_ends_when_it_is_told_to(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = DatabaseClock.__init__.__kwdefaults__
    assert defaults is not None
    waits = asyncio.Event()

    def own_us() -> int:
        waits.set()
        return wall_us() + 10 * MAX_SKEW_US

    monkeypatch.setitem(defaults, "own_us", own_us)
    settings = {"BOOKING_DATABASE_URL": booking_dsn, "BOOKING_PORT": "0"}
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(BookingSettings.load(settings), stop))
    async with asyncio.timeout(BOUND_S):
        await waits.wait()
        stop.set()
        await serving
