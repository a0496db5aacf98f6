"""Reads the catalogue: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from booking_service.domain.inventory import Day, days_of
from booking_service.domain.package import Package, PackageStatus
from booking_service.domain.refusal import Reason
from booking_service.domain.sale import unavailable_reason
from booking_service.reads.keyset import AFTER_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.connection import Connection, Record
from booking_service.storage.database import Database, query_timeout_s
from booking_service.storage.sql import QueryGroup

_PACKAGES: Final = QueryGroup("packages")

_ALL_ZERO: Final = UUID(int=0)
_LEAST_SORT_KEY: Final = -(2**63)


class PackageOrder(StrEnum):
    PRICE_ASC = "PRICE_ASC"
    PRICE_DESC = "PRICE_DESC"
    NEWEST = "NEWEST"
    RATING = "RATING"
    POPULARITY = "POPULARITY"


@dataclass(frozen=True, slots=True)
class PackageFilter:
    """The packages to find; None means any.

    `start_date` and `end_date` (the first day after) come together, with `quantity` units on each
    day. `currency` comes with a price bound.
    """

    location: str | None = None
    type: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    quantity: int = 1
    party_size: int | None = None
    currency: str | None = None
    min_price_minor: int | None = None
    max_price_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """A package and its seats on each requested day at `now`; lapsed holds are not counted.

    `reason` is why the requested quantity cannot be booked on these days, None where it can.
    """

    package: Package
    now: datetime
    days: Sequence[tuple[date, Day]]
    reason: Reason | None


class PackageQueries:
    """Reads of packages and their days."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_details(self, package_id: UUID) -> Package | None:
        row = await self._database.fetchrow(_PACKAGES.get_details, package_id)
        return rows.package(row) if row else None

    async def get_many(self, package_ids: Sequence[UUID]) -> dict[UUID, Package]:
        """Return those that exist."""
        found = await self._database.fetch(_PACKAGES.read, package_ids)
        return {row["id"]: rows.package(row) for row in found}

    async def list_by_vendor(
        self,
        vendor_id: UUID,
        statuses: frozenset[PackageStatus],
        *,
        after: Key | None,
        limit: int,
    ) -> Page[Package]:
        """Newest first by (create_time, id), of these statuses; none means all."""
        wanted = sorted(map(str, statuses))
        found = await self._database.fetch(
            _PACKAGES.list_by_vendor, vendor_id, wanted, *position(after, AFTER_ALL), limit + 1
        )
        return page([rows.package(row) for row in found], limit, _created)

    async def search(
        self, wanted: PackageFilter, order: PackageOrder, *, after: Key | None, limit: int
    ) -> Page[Package]:
        """Find active packages; with dates, those with room on every day, inside their bookable
        window.

        A package may be past its cutoff: CheckAvailability and StartBooking decide that.
        """
        after = after or Key(_LEAST_SORT_KEY, _ALL_ZERO)
        async with self._database.connection() as connection:
            now = await self._database.clock.now(connection)
            # A statement without a name is planned for its filters each time: one generic plan for
            # all filters could use no index.
            search = await connection.prepare(_PACKAGES.search, name="", timeout=query_timeout_s())
            found = await search.fetch(
                wanted.location,
                wanted.type,
                wanted.start_date,
                wanted.end_date,
                wanted.quantity,
                wanted.party_size,
                wanted.currency,
                wanted.min_price_minor,
                wanted.max_price_minor,
                now,
                order,
                after.sort,
                after.id,
                limit + 1,
                timeout=query_timeout_s(),
            )
        items = [_without_sort_key(row) for row in found[:limit]]
        more = len(found) > limit
        return Page(items, Key(found[limit - 1]["sort_key"], items[-1].id) if more else None)

    async def check_availability(
        self, package_id: UUID, start_date: date, end_date: date, quantity: int = 1
    ) -> Availability | None:
        """Return every day of [start_date, end_date), None without such a package.

        All days are read at one instant; a day without capacity has 0.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                _PACKAGES.get_details, package_id, timeout=query_timeout_s()
            )
            if row is None:
                return None
            now = await self._database.clock.now(connection)
            known = await self._days(connection, package_id, start_date, end_date, now)
        days = [(day, known.get(day, Day())) for day in days_of(start_date, end_date)]
        package = rows.package(row)
        return Availability(package, now, days, unavailable_reason(package, days, quantity, now))

    async def _days(
        self, connection: Connection, package_id: UUID, start: date, end: date, now: datetime
    ) -> dict[date, Day]:
        found = await connection.fetch(
            _PACKAGES.check_availability, package_id, start, end, now, timeout=query_timeout_s()
        )
        return {row["day"]: Day(row["capacity"], row["held"], row["confirmed"]) for row in found}


def _created(package: Package) -> Position:
    return package.create_time, package.id


def _without_sort_key(row: Record) -> Package:
    return rows.package({name: value for name, value in row.items() if name != "sort_key"})
