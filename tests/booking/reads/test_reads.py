"""Reads of packages, their free seats and bookings: what is found, in which order, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from booking_service.domain.booking import State
from booking_service.domain.inventory import Day
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.reads.bookings import BookingFilter, BookingQueries
from booking_service.reads.keyset import Key
from booking_service.reads.packages import Availability, PackageQueries
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.seed import DAY, NOW, add_booking, add_days, add_package

LAPSED = NOW - timedelta(seconds=1)
NEXT = DAY + timedelta(1)

Rows = asyncpg.Connection


@pytest.fixture
async def database(booking_dsn: str) -> AsyncIterator[Database]:
    database = Database(booking_dsn, clock=SetClock(NOW))
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def packages(database: Database) -> PackageQueries:
    return PackageQueries(database)


@pytest.fixture
def bookings(database: Database) -> BookingQueries:
    return BookingQueries(database)


async def listed(bookings: BookingQueries, **wanted: object) -> set[UUID]:
    page = await bookings.list(
        BookingFilter(**wanted),  # type: ignore[arg-type] # shorthand
        after=None,
        limit=100,
    )
    return {booking.id for booking in page.items}


async def days(packages: PackageQueries, package_id: UUID, end: date) -> list[Day]:
    found = await packages.check_availability(package_id, DAY, end)
    assert isinstance(found, Availability)
    return [day for _, day in found.days]


async def test_package_comes_back_as_it_was_stored(packages: PackageQueries, rows: Rows) -> None:
    package_id = await add_package(rows, title="Suite", cutoff_s=3600, bookable_from=DAY)
    package = await packages.get_details(package_id)
    assert package is not None
    assert (package.id, package.title, package.cutoff_s) == (package_id, "Suite", 3600)
    assert (package.bookable_from, package.bookable_until) == (DAY, None)
    assert package.cancellation_policy == CancellationPolicy((Tier(86400, 10000), Tier(0, 5000)))
    assert package.create_time == NOW


async def test_unknown_ids_are_none(packages: PackageQueries, bookings: BookingQueries) -> None:
    assert await packages.get_details(uuid4()) is None
    assert await packages.check_availability(uuid4(), DAY, NEXT) is None
    assert await bookings.get(uuid4()) is None


async def test_availability_names_every_day_and_its_instant(
    packages: PackageQueries, rows: Rows
) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 2, capacity=5, held=1, confirmed=2)
    found = await packages.check_availability(package_id, DAY, DAY + timedelta(3))
    assert found is not None
    assert found.now == NOW
    assert found.package.id == package_id
    assert list(found.days) == [
        (DAY, Day(5, 1, 2)),
        (NEXT, Day(5, 1, 2)),
        (DAY + timedelta(2), Day(0, 0, 0)),
    ]


async def test_lapsed_holds_are_not_held_on_the_days_they_take(
    packages: PackageQueries, rows: Rows
) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 3, capacity=5, held=4)
    # Two units over two nights, and one that is not over yet; another package's hold.
    await add_booking(
        rows, package_id, hold_expire_time=LAPSED, quantity=2, end_date=DAY + timedelta(2)
    )
    await add_booking(rows, package_id, hold_expire_time=NOW + timedelta(microseconds=1))
    await add_booking(rows, await add_package(rows), hold_expire_time=LAPSED)
    held = [day.held for day in await days(packages, package_id, DAY + timedelta(3))]
    assert held == [2, 2, 4]


async def test_hold_lapses_at_its_very_instant(packages: PackageQueries, rows: Rows) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 1, capacity=1, held=1)
    await add_booking(rows, package_id, hold_expire_time=NOW, state="PENDING_PAYMENT")
    assert [day.free for day in await days(packages, package_id, NEXT)] == [1]


async def test_booking_comes_back_as_it_was_stored(bookings: BookingQueries, rows: Rows) -> None:
    package_id = await add_package(rows)
    created = NOW + timedelta(microseconds=123_456)
    booking_id = await add_booking(
        rows,
        package_id,
        create_time=created,
        state="CANCELLED",
        refund_minor=7,
        confirm_time=NOW,
        cancellation_policy="[[0, 10000]]",
    )
    booking = await bookings.get(booking_id)
    assert booking is not None
    assert (booking.id, booking.package_id) == (booking_id, package_id)
    assert (booking.state, booking.refund_minor) == (State.CANCELLED, 7)
    assert (booking.create_time, booking.confirm_time) == (created, NOW)
    assert booking.complete_time is None
    assert booking.cancellation_policy == CancellationPolicy((Tier(0, 10000),))


async def test_list_filters_alone_and_together(bookings: BookingQueries, rows: Rows) -> None:
    here, there = await add_package(rows), await add_package(rows)
    ann_here = await add_booking(rows, here, user_id="ann")
    ann_there = await add_booking(rows, there, user_id="ann", state="CONFIRMED")
    bob_here = await add_booking(rows, here, user_id="bob", state="EXPIRED")
    everyone = {ann_here, ann_there, bob_here}
    assert await listed(bookings) == everyone
    assert await listed(bookings, user_id="ann") == {ann_here, ann_there}
    assert await listed(bookings, package_id=here) == {ann_here, bob_here}
    assert await listed(bookings, user_id="ann", package_id=here) == {ann_here}
    live = frozenset({State.HELD, State.CONFIRMED})
    assert await listed(bookings, states=live) == {ann_here, ann_there}
    assert await listed(bookings, package_id=here, states=live) == {ann_here}
    assert await listed(bookings, start_date=DAY, states=frozenset({State.EXPIRED})) == {bob_here}
    assert await listed(bookings, user_id="nobody") == set()


@pytest.mark.parametrize("found_by", ["nothing else", "user", "package", "user and package"])
async def test_list_by_dates_takes_stays_that_overlap(
    bookings: BookingQueries, rows: Rows, found_by: str
) -> None:
    package_id = await add_package(rows)

    async def stay(first: int, nights: int) -> UUID:
        start = DAY + timedelta(first)
        end = start + timedelta(nights)
        return await add_booking(rows, package_id, start_date=start, end_date=end)

    before, touching = await stay(-3, 3), await stay(10, 2)
    into, inside, out_of, around = (
        await stay(-1, 2),
        await stay(3, 1),
        await stay(9, 5),
        await stay(-5, 30),
    )
    longest = await stay(-365, 366)
    named: dict[str, object] = {}
    if "user" in found_by:
        named["user_id"] = "user"
    if "package" in found_by:
        named["package_id"] = package_id
    overlapping = {into, inside, out_of, around, longest}
    end = DAY + timedelta(10)
    assert await listed(bookings, start_date=DAY, end_date=end, **named) == overlapping
    assert await listed(bookings, start_date=DAY, **named) == overlapping | {touching}
    assert await listed(bookings, end_date=end, **named) == overlapping | {before}


async def test_pages_give_each_booking_once_though_created_at_one_instant_and_growing(
    bookings: BookingQueries, rows: Rows
) -> None:
    package_id = await add_package(rows)
    old = {await add_booking(rows, package_id) for _ in range(25)}
    found: list[UUID] = []
    after: Key | None = None
    for _ in range(3):
        page = await bookings.list(BookingFilter(user_id="user"), after=after, limit=10)
        found += [booking.id for booking in page.items]
        after = page.next
        await add_booking(rows, package_id, create_time=NOW + timedelta(seconds=1))
    assert after is None
    assert len(found) == 25
    assert set(found) == old


async def test_list_is_newest_first_to_the_microsecond(
    bookings: BookingQueries, rows: Rows
) -> None:
    package_id = await add_package(rows)
    ids = [
        await add_booking(rows, package_id, create_time=NOW + timedelta(microseconds=n))
        for n in range(4)
    ]
    found: list[UUID] = []
    after: Key | None = None
    for _ in ids:
        page = await bookings.list(BookingFilter(), after=after, limit=1)
        found += [booking.id for booking in page.items]
        after = page.next
    assert found == ids[::-1]
    assert after is None


async def test_reads_do_not_wait_for_writers(
    packages: PackageQueries, bookings: BookingQueries, rows: Rows
) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 1)
    booking_id = await add_booking(rows, package_id)
    async with rows.transaction():
        await rows.execute("SELECT id FROM packages FOR UPDATE")
        await rows.execute("UPDATE package_days SET held = 1")
        # The server would end a read that waits.
        assert [day.held for day in await days(packages, package_id, NEXT)] == [0]
        assert await bookings.get(booking_id) is not None
