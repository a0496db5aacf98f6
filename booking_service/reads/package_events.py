"""Reads the audit trail of the catalogue: each method is one operation, named as in its timings,
and returns what was committed when it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from booking_service.domain.catalog_events import CatalogChange, CatalogEvent
from booking_service.reads.keyset import Key, Page, within
from booking_service.storage import rows
from booking_service.storage.connection import Record
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

MAX_PAGE_BYTES: Final = 200_000
"""Of the rows of one page: its answer is smaller, and takes some 20 ms of CPU."""

_ROW_BYTES: Final = 600
"""Of a row without its texts of jsonb."""

_AFTER_ALL: Final = 2**63 - 1
_NO_ID: Final = UUID(int=0)

_CATALOG_EVENTS: Final = QueryGroup("catalog_events")
_VENDORS: Final = QueryGroup("vendors")
_PACKAGES: Final = QueryGroup("packages")


Owner = Literal["vendor", "package"]
"""Whose changes: those of a vendor and of all its packages, or those of one package."""


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """A recorded change of the catalogue, who requested it, and when."""

    event: CatalogEvent
    caller: str
    request_id: UUID | None
    time: datetime


class PackageEventQueries:
    """Reads of the changes of vendors and packages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, owner: Owner, owner_id: UUID, *, after: Key | None, limit: int
    ) -> Page[RecordedChange] | None:
        """Newest first; the sort of the key is the row's id. None without such an owner."""
        of_vendor = owner == "vendor"
        query = _CATALOG_EVENTS.list_by_vendor if of_vendor else _CATALOG_EVENTS.list_by_package
        last_id = after.sort if after else _AFTER_ALL
        found = await self._database.fetch(query, owner_id, last_id, limit + 1)
        if not found:
            # One of before the trail has no event.
            of = _VENDORS.get if of_vendor else _PACKAGES.get_details
            return Page([], None) if await self._database.fetch(of, owner_id) else None
        fitting = within(found, limit, _bytes, most_bytes=MAX_PAGE_BYTES)
        kept = found[:fitting]
        more = len(found) > fitting
        return Page([_recorded(row) for row in kept], Key(kept[-1]["id"], _NO_ID) if more else None)


def _bytes(row: Record) -> int:
    return _ROW_BYTES + len(row["fields"].encode()) + len(row["runs"])


def _recorded(row: Record) -> RecordedChange:
    event = CatalogEvent(
        CatalogChange(row["change"]),
        row["vendor_id"],
        row["package_id"],
        rows.field_changes(row["fields"]),
        rows.counter_runs(row["runs"]),
        row["days_left_out"],
    )
    return RecordedChange(event, row["caller"], row["request_id"], row["event_time"])
