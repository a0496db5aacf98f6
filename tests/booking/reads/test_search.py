"""Search: which packages are found, with room on every day, in which order, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from booking_service.reads.keyset import Key
from booking_service.reads.packages import PackageFilter, PackageOrder, PackageQueries
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.seed import DAY, NOW, add_booking, add_days, add_package

LAPSED = NOW - timedelta(seconds=1)
NEXT = DAY + timedelta(1)

Rows = asyncpg.Connection


@pytest.fixture
async def packages(booking_dsn: str) -> AsyncIterator[PackageQueries]:
    database = Database(booking_dsn, clock=SetClock(NOW))
    await database.open()
    yield PackageQueries(database)
    await database.close()


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


async def search(packages: PackageQueries, **wanted: object) -> set[UUID]:
    page = await packages.search(
        PackageFilter(**wanted),  # type: ignore[arg-type] # shorthand
        PackageOrder.PRICE_ASC,
        after=None,
        limit=100,
    )
    return {package.id for package in page.items}


async def test_search_takes_only_packages_with_room_on_every_day(
    packages: PackageQueries, rows: Rows
) -> None:
    roomy, short, gap = [await add_package(rows) for _ in range(3)]
    await add_days(rows, roomy, 3, capacity=3, held=1)
    await add_days(rows, short, 2, capacity=3)
    await add_days(rows, short, 1, start=DAY + timedelta(2), capacity=3, confirmed=2)
    await add_days(rows, gap, 2, capacity=3)
    stay = {"start_date": DAY, "end_date": DAY + timedelta(3)}
    assert await search(packages, **stay) == {roomy, short}
    assert await search(packages, **stay, quantity=2) == {roomy}
    assert await search(packages, **stay, quantity=3) == set()
    assert await search(packages) == {roomy, short, gap}


async def test_search_counts_lapsed_holds_as_free(packages: PackageQueries, rows: Rows) -> None:
    package_id = await add_package(rows)
    await add_days(rows, package_id, 2, capacity=1, held=1)
    stay = {"start_date": DAY, "end_date": DAY + timedelta(2)}
    await add_booking(rows, package_id, hold_expire_time=LAPSED)
    assert await search(packages, **stay) == set()
    await add_booking(
        rows, package_id, hold_expire_time=LAPSED, start_date=NEXT, end_date=NEXT + timedelta(1)
    )
    assert await search(packages, **stay) == {package_id}


async def test_search_filters(packages: PackageQueries, rows: Rows) -> None:
    lisbon = await add_package(rows)
    porto = await add_package(rows, location="Porto", type="city_tour", base_price_minor=500)
    dollars = await add_package(rows, currency="USD", location="Faro")
    couples = await add_package(rows, location="Faro", min_party_size=2, max_party_size=2)
    await add_package(rows, status="CLOSED")
    assert await search(packages) == {lisbon, porto, dollars, couples}
    assert await search(packages, location="Porto") == {porto}
    assert await search(packages, type="city_tour") == {porto}
    assert await search(packages, location="Porto", type="hotel_room") == set()
    assert await search(packages, party_size=2) == {lisbon, porto, dollars, couples}
    assert await search(packages, party_size=1) == {lisbon, porto, dollars}
    assert await search(packages, currency="EUR", max_price_minor=500) == {porto}
    assert await search(packages, currency="EUR", min_price_minor=501) == {lisbon, couples}
    assert await search(packages, currency="USD", min_price_minor=0) == {dollars}


async def test_search_keeps_to_the_bookable_window(packages: PackageQueries, rows: Rows) -> None:
    package_id = await add_package(rows, bookable_from=DAY, bookable_until=DAY + timedelta(2))
    await add_days(rows, package_id, 5, start=DAY - timedelta(1))
    assert await search(packages, start_date=DAY, end_date=DAY + timedelta(2)) == {package_id}
    assert await search(packages, start_date=DAY, end_date=DAY + timedelta(3)) == set()
    assert await search(packages, start_date=DAY - timedelta(1), end_date=NEXT) == set()
    assert await search(packages) == {package_id}


@pytest.mark.parametrize("order", PackageOrder)
async def test_search_pages_give_each_package_once_in_order(
    packages: PackageQueries, rows: Rows, order: PackageOrder
) -> None:
    expected: list[tuple[Any, UUID]] = []
    for n in range(11):
        # Some prices and times are equal, the others distinct.
        price, created = (n * 7) % 5 * 100, NOW + timedelta(microseconds=(n * 3) % 4)
        rating, reviews, popularity = 400 + n % 3, n % 2, n % 4
        package_id = await add_package(
            rows,
            base_price_minor=price,
            create_time=created,
            rating_hundredths=rating,
            review_count=reviews,
            popularity=popularity,
        )
        key: object = {
            PackageOrder.PRICE_ASC: price,
            PackageOrder.PRICE_DESC: -price,
            PackageOrder.NEWEST: -(created - NOW).microseconds,
            PackageOrder.RATING: (-rating, -reviews),
            PackageOrder.POPULARITY: -popularity,
        }[order]
        expected.append((key, package_id))
    found: list[UUID] = []
    after: Key | None = None
    for _ in range(4):
        page = await packages.search(PackageFilter(), order, after=after, limit=3)
        found += [package.id for package in page.items]
        after = page.next
        assert (after is None) == (len(found) == 11)
    assert found == [package_id for _, package_id in sorted(expected)]
