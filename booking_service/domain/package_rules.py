"""The rules of the catalogue: vendors, packages, and the capacity of their days."""

from __future__ import annotations

from dataclasses import fields, replace

from booking_service.domain.catalog_events import (
    CatalogChange,
    counters_event,
    package_event,
    vendor_event,
)
from booking_service.domain.commands import (
    CreatePackage,
    CreateVendor,
    ReconcileInventory,
    SetCapacity,
    UpdatePackage,
    UpdateVendor,
)
from booking_service.domain.etag import etag
from booking_service.domain.inventory import Day, days_of
from booking_service.domain.package import Package, PackageDraft, Vendor
from booking_service.domain.recount import Drift, Reconciliation
from booking_service.domain.refusal import (
    Reason,
    Refusal,
    already_exists,
    currency_mismatch,
    etag_mismatch,
    invalid,
    not_found,
)
from booking_service.domain.world import Decision, Draft


def create_vendor(draft: Draft, command: CreateVendor) -> Decision:
    if draft.vendor(command.vendor_id) is not None:
        return draft.decided(already_exists("vendor", command.vendor_id))
    vendor = Vendor(command.vendor_id, command.name, 1, draft.now, draft.now)
    draft.changes.vendors[vendor.id] = vendor
    draft.changes.catalog_events.append(vendor_event(None, vendor))
    return draft.decided(vendor)


def update_vendor(draft: Draft, command: UpdateVendor) -> Decision:
    vendor = draft.vendor(command.vendor_id)
    if vendor is None:
        return draft.decided(not_found("vendor", command.vendor_id))
    if command.etag not in ("", etag(vendor.version, vendor.update_time)):
        return draft.decided(etag_mismatch("vendor", vendor.id))
    if command.name == vendor.name:
        return draft.decided(vendor)
    # Vendors are in many groups that do not change them, so their times do not order these.
    update_time = max(draft.now, vendor.update_time)
    changed = replace(
        vendor, name=command.name, version=vendor.version + 1, update_time=update_time
    )
    draft.changes.vendors[vendor.id] = changed
    draft.changes.catalog_events.append(vendor_event(vendor, changed))
    return draft.decided(changed)


def create_package(draft: Draft, command: CreatePackage) -> Decision:
    given = command.package
    if draft.vendor(given.vendor_id) is None:
        return draft.decided(not_found("vendor", given.vendor_id))
    if draft.package(given.id) is not None:
        return draft.decided(already_exists("package", given.id))
    values = {field.name: getattr(given, field.name) for field in fields(PackageDraft)}
    package = Package(**values, version=1, create_time=draft.now, update_time=draft.now)
    draft.changes.packages[package.id] = package
    draft.changes.catalog_events.append(package_event(None, package))
    return draft.decided(package)


def set_capacity(draft: Draft, command: SetCapacity) -> Decision:
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    wanted = {
        day: run.capacity for run in command.ranges for day in days_of(run.start_date, run.end_date)
    }
    stored = {day: draft.day(command.package_id, day) for day in wanted}
    overbooked = [
        f"{day}={stored[day].taken - capacity}"
        for day, capacity in wanted.items()
        if stored[day].taken > capacity
    ]
    if overbooked:
        listed = ",".join(overbooked)
        return draft.decided(
            Refusal(
                Reason.CAPACITY_BELOW_TAKEN, f"days would be overbooked: {listed}", {"days": listed}
            )
        )
    for day, capacity in wanted.items():
        draft.changes.days[command.package_id, day] = Day(
            capacity, stored[day].held, stored[day].confirmed
        )
    capacities = {day: (stored[day].capacity, capacity) for day, capacity in wanted.items()}
    event = counters_event(CatalogChange.CAPACITY_SET, package, {"capacity": capacities})
    if event is not None:
        draft.changes.catalog_events.append(event)
    return draft.decided(len(wanted))


def update_package(draft: Draft, command: UpdatePackage) -> Decision:
    """Change what is sold from now on; existing bookings keep their terms."""
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    if command.etag not in ("", etag(package.version, package.update_time)):
        return draft.decided(etag_mismatch("package", package.id))
    changed = replace(package, **command.changes)  # type: ignore[arg-type] # fields of PackageDraft
    refusal = _refuse_inconsistent(package, changed)
    if refusal is not None:
        return draft.decided(refusal)
    if changed == package:
        return draft.decided(package)
    changed = replace(changed, version=package.version + 1, update_time=draft.now)
    draft.changes.packages[package.id] = changed
    draft.changes.catalog_events.append(package_event(package, changed))
    return draft.decided(changed)


def reconcile(draft: Draft, command: ReconcileInventory) -> Decision:
    """Compare counters of a package with a recount of its bookings, and repair them if asked."""
    package = draft.package(command.package_id)
    if package is None:
        return draft.decided(not_found("package", command.package_id))
    recount = draft.recount(command.package_id, command.start_date)
    drifts = []
    for day, recounted in sorted(recount.days.items()):
        stored = draft.day(command.package_id, day)
        if (stored.held, stored.confirmed) == (recounted.held, recounted.confirmed):
            continue
        drifts.append(Drift(day, stored, recounted))
        if command.repair:
            # Repair keeps every booking, so the capacity must cover them.
            capacity = max(stored.capacity, recounted.taken)
            draft.changes.days[command.package_id, day] = Day(
                capacity, recounted.held, recounted.confirmed
            )
    repaired = command.repair and bool(drifts)
    if repaired:
        event = counters_event(
            CatalogChange.INVENTORY_REPAIRED,
            package,
            {
                name: {
                    drift.day: (
                        getattr(drift.stored, name),
                        getattr(draft.day(package.id, drift.day), name),
                    )
                    for drift in drifts
                }
                for name in ("capacity", "held", "confirmed")
            },
        )
        if event is not None:
            draft.changes.catalog_events.append(event)
    return draft.decided(
        Reconciliation(len(recount.days), tuple(drifts), repaired, recount.next_date)
    )


def _refuse_inconsistent(package: Package, changed: Package) -> Refusal | None:
    """Refuse changes that contradict fields that the package keeps."""
    if changed.currency != package.currency:
        return currency_mismatch(changed.currency, package.currency)
    from_, until = changed.bookable_from, changed.bookable_until
    if from_ is not None and until is not None and until <= from_:
        return invalid("package.bookable_until", f"{until} is not after bookable_from {from_}")
    low, high = changed.min_party_size, changed.max_party_size
    if high < low:
        return invalid("package.max_party_size", f"{high} is below min_party_size {low}")
    return None
