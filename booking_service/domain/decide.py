"""What each command comes to: the one place where a change is decided."""

from dataclasses import fields, replace
from datetime import datetime
from typing import assert_never

from booking_service.domain import holds, payments
from booking_service.domain.catalog import Package, PackageDraft, Vendor
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    Command,
    CompleteBooking,
    ConfirmBooking,
    CreatePackage,
    CreateVendor,
    ExpireHolds,
    FulfilStays,
    RecordPayment,
    SetCapacity,
    StartBooking,
)
from booking_service.domain.holds import Limits
from booking_service.domain.inventory import days_of
from booking_service.domain.refusal import Reason, Refusal, already_exists, not_found
from booking_service.domain.world import Decision, Draft, World


def decide(command: Command, world: World, now: datetime, limits: Limits) -> Decision:
    """The outcome of a command in a world at a time, and the changes it makes.

    Pure: the same arguments give the same Decision, and the world is left as it is.
    """
    draft = Draft(world, now)
    match command:
        case StartBooking():
            return holds.start(draft, command, limits)
        case CompleteBooking():
            return holds.complete(draft, command)
        case ConfirmBooking():
            return payments.confirm(draft, command)
        case AbandonBooking():
            return holds.abandon(draft, command)
        case CancelBooking():
            return payments.cancel(draft, command)
        case RecordPayment():
            return payments.record(draft, command)
        case ExpireHolds():
            return holds.expire_all(draft, command)
        case FulfilStays():
            return holds.fulfil_all(draft, command)
        case SetCapacity():
            return _set_capacity(draft, command)
        case CreatePackage():
            return _create_package(draft, command)
        case CreateVendor():
            return _create_vendor(draft, command)
        case _:
            assert_never(command)


def _create_vendor(draft: Draft, command: CreateVendor) -> Decision:
    if draft.vendor(command.vendor_id) is not None:
        return draft.decided(already_exists("vendor", command.vendor_id))
    vendor = Vendor(command.vendor_id, command.name, 1, draft.now, draft.now)
    draft.changes.vendors[vendor.id] = vendor
    return draft.decided(vendor)


def _create_package(draft: Draft, command: CreatePackage) -> Decision:
    given = command.package
    if draft.vendor(given.vendor_id) is None:
        return draft.decided(not_found("vendor", given.vendor_id))
    if draft.package(given.id) is not None:
        return draft.decided(already_exists("package", given.id))
    values = {field.name: getattr(given, field.name) for field in fields(PackageDraft)}
    package = Package(**values, version=1, create_time=draft.now, update_time=draft.now)
    draft.changes.packages[package.id] = package
    return draft.decided(package)


def _set_capacity(draft: Draft, command: SetCapacity) -> Decision:
    if draft.package(command.package_id) is None:
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
        draft.changes.days[command.package_id, day] = replace(stored[day], capacity=capacity)
    return draft.decided(len(wanted))
