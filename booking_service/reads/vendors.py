"""Reads vendors: each method is one operation, named as in its timings, and returns what was
committed when it ran.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from booking_service.domain.package import Vendor
from booking_service.reads.keyset import AFTER_ALL, Key, Page, Position, page, position
from booking_service.storage import rows
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

_VENDORS: Final = QueryGroup("vendors")


class VendorQueries:
    """Reads of vendors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, vendor_id: UUID) -> Vendor | None:
        row = await self._database.fetchrow(_VENDORS.get, vendor_id)
        return rows.vendor(row) if row else None

    async def list(self, *, after: Key | None, limit: int) -> Page[Vendor]:
        """Newest first by (create_time, id)."""
        found = await self._database.fetch(_VENDORS.list, *position(after, AFTER_ALL), limit + 1)
        return page([rows.vendor(row) for row in found], limit, _created)


def _created(vendor: Vendor) -> Position:
    return vendor.create_time, vendor.id
