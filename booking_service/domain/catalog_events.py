"""What the audit trail of the catalogue says of each change: the values before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from booking_service.domain.package import Package, Vendor
from booking_service.domain.policy import CancellationPolicy

MAX_RUNS: Final = 100
"""Runs of days that one event lists, some 5 kB; of the days beyond them only the number is kept."""

_NOT_AUDITED: Final = frozenset(
    {"id", "version", "create_time", "update_time", "review_count", "rating_hundredths"}
    | {"popularity"}
)


class CatalogChange(StrEnum):
    VENDOR_CREATED = "VENDOR_CREATED"
    VENDOR_UPDATED = "VENDOR_UPDATED"
    PACKAGE_CREATED = "PACKAGE_CREATED"
    PACKAGE_UPDATED = "PACKAGE_UPDATED"
    CAPACITY_SET = "CAPACITY_SET"
    INVENTORY_REPAIRED = "INVENTORY_REPAIRED"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a vendor or package as text; empty where it has no value."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CounterRun:
    """A counter of days (capacity, held or confirmed) on each of [start_date, end_date)."""

    counter: str
    start_date: date
    end_date: date
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """One change of a vendor or package; `package_id` is None for one of the vendor itself.

    `days_left_out` counts the changed days of each counter beyond MAX_RUNS runs.
    """

    change: CatalogChange
    vendor_id: UUID
    package_id: UUID | None
    fields: tuple[FieldChange, ...] = ()
    runs: tuple[CounterRun, ...] = ()
    days_left_out: int = 0


def vendor_event(before: Vendor | None, after: Vendor) -> CatalogEvent:
    """Return the event of a vendor that was created (`before` is None) or changed."""
    change = CatalogChange.VENDOR_UPDATED if before else CatalogChange.VENDOR_CREATED
    return CatalogEvent(change, after.id, None, _changed_fields(before, after))


def package_event(before: Package | None, after: Package) -> CatalogEvent:
    """Return the event of a package that was created (`before` is None) or changed."""
    change = CatalogChange.PACKAGE_UPDATED if before else CatalogChange.PACKAGE_CREATED
    return CatalogEvent(change, after.vendor_id, after.id, _changed_fields(before, after))


def counters_event(
    change: CatalogChange,
    package: Package,
    counters: Mapping[str, Mapping[date, tuple[int, int]]],
) -> CatalogEvent | None:
    """Return the event of the counters of days that changed, None where none did.

    `counters` has the number before and after of each day, by the name of the counter.
    """
    runs = [run for name, days in counters.items() for run in _runs(name, days)]
    if not runs:
        return None
    left_out = sum((run.end_date - run.start_date).days for run in runs[MAX_RUNS:])
    kept = tuple(runs[:MAX_RUNS])
    return CatalogEvent(change, package.vendor_id, package.id, (), kept, left_out)


def _runs(counter: str, days: Mapping[date, tuple[int, int]]) -> list[CounterRun]:
    runs: list[CounterRun] = []
    for day, (before, after) in sorted(days.items()):
        if before == after:
            continue
        start, until = day, day + timedelta(days=1)
        if runs and (runs[-1].end_date, runs[-1].before, runs[-1].after) == (day, before, after):
            start = runs.pop().start_date
        runs.append(CounterRun(counter, start, until, before, after))
    return runs


def _changed_fields(
    before: Vendor | Package | None, after: Vendor | Package
) -> tuple[FieldChange, ...]:
    changed = []
    for field in fields(after):
        if field.name in _NOT_AUDITED:
            continue
        old = "" if before is None else _text(getattr(before, field.name))
        new = _text(getattr(after, field.name))
        if old != new:
            changed.append(FieldChange(field.name, old, new))
    return tuple(changed)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, CancellationPolicy):
        return ", ".join(f"{tier.before_s}={tier.refund_basis_points}" for tier in value.tiers)
    return str(value)
