"""What a group of commands writes, each in one statement for the whole group, sorted by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from booking_service.domain.booking import Booking, BookingEvent, PaymentSeen
from booking_service.domain.package import Package
from booking_service.domain.world import Changes, World
from booking_service.storage import rows
from booking_service.storage.database import Connection
from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery

T = TypeVar("T")

_packages = QueryGroup("packages")
_bookings = QueryGroup("bookings")
_inventory = QueryGroup("inventory")
_payments = QueryGroup("payments")
_refunds = QueryGroup("refunds")
_vendors = QueryGroup("vendors")
_reviews = QueryGroup("reviews")
_profiles = QueryGroup("profiles")
_outbox = QueryGroup("outbox")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who caused an event."""

    caller: str
    request_id: UUID | None


async def save(connection: Connection, changes: Changes, stored: World) -> None:
    """Writes changes over what is stored, sorted by key."""
    await write_all(connection, _vendors.create, sorted(changes.vendors.values(), key=_id), _plain)
    packages = sorted(changes.packages.values(), key=_id)
    new = [package for package in packages if package.id not in stored.packages]
    known = [package for package in packages if package.id in stored.packages]
    await write_all(connection, _packages.create, new, _plain)
    await write_all(connection, _packages.update, known, _package_columns)
    await _save_days(connection, changes, stored)
    bookings = sorted(changes.bookings.values(), key=_id)
    created = [booking for booking in bookings if booking.id not in stored.bookings]
    updated = [booking for booking in bookings if booking.id in stored.bookings]
    await write_all(connection, _bookings.create, created, _plain)
    await write_all(connection, _bookings.update, updated, _updated_columns)
    # By what is unique across packages: two copies that are told of the same payments must meet in
    # one order.
    payments = [payment for _, payment in sorted(changes.payments.items())]
    await write_all(connection, _payments.save, payments, _plain)
    seen = sorted(changes.payments_seen.values(), key=lambda value: _event_columns(value)[:4])
    await write_all(connection, _payments.create_events, seen, _event_columns)
    await write_all(connection, _refunds.save, sorted(changes.refunds.values(), key=_id), _plain)
    await write_all(connection, _reviews.create, sorted(changes.reviews.values(), key=_id), _plain)
    profiles = sorted(changes.profiles.values(), key=_id)
    await write_all(connection, _profiles.save, profiles, _plain)


async def save_events(
    connection: Connection, events: Sequence[tuple[BookingEvent, Origin]], now: datetime
) -> None:
    """Adds transitions to the audit trail."""

    def columns(item: tuple[BookingEvent, Origin]) -> tuple[object, ...]:
        event, origin = item
        booking = event.booking
        return (
            *(booking.id, booking.version, event.transition, event.from_state, booking.state),
            *(booking.end_reason, origin.caller, origin.request_id, now),
        )

    ordered = sorted(events, key=lambda item: (item[0].booking.id, item[0].booking.version))
    await write_all(connection, _bookings.create_events, ordered, columns)


async def append_outbox(connection: Connection, count: int, facts: bytes) -> None:
    """One outbox row for the whole transaction."""
    await connection.execute(_outbox.append, count, facts)


async def _save_days(connection: Connection, changes: Changes, stored: World) -> None:
    created = []
    changed = []
    for key, day in sorted(changes.days.items()):
        before = stored.days.get(key)
        if before is None:
            created.append((*key, day.capacity, day.held, day.confirmed))
        elif before != day:
            changed.append(
                (
                    *key,
                    day.capacity - before.capacity,
                    day.held - before.held,
                    day.confirmed - before.confirmed,
                )
            )
    await write_all(connection, _inventory.create, created, tuple)
    await write_all(connection, _inventory.change, changed, tuple)


async def write_all(
    connection: Connection,
    query: NamedQuery,
    values: Sequence[T],
    columns: Callable[[T], tuple[object, ...]],
) -> None:
    """Runs a statement over unnest()ed columns for all values at once, or not at all for none."""
    if values:
        await connection.execute(query, *zip(*map(columns, values), strict=True))


def _plain(value: Any) -> tuple[object, ...]:
    """A row of a value whose fields are the columns of its table, in their order."""
    return tuple(
        rows.policy_column(item) if field.name == "cancellation_policy" else item
        for field in fields(value)
        for item in (getattr(value, field.name),)
    )


def _updated_columns(booking: Booking) -> tuple[object, ...]:
    return (
        *(booking.id, booking.state, booking.start_date, booking.end_date, booking.price_minor),
        *(rows.policy_column(booking.cancellation_policy), booking.hold_expire_time),
        *(booking.complete_time, booking.confirm_time, booking.end_time, booking.end_reason),
        *(booking.refund_minor, booking.refunded_minor, booking.version, booking.update_time),
        *(booking.balance_due_minor, booking.extensions, booking.captured_minor),
    )


def _package_columns(package: Package) -> tuple[object, ...]:
    return (
        *(package.id, package.title, package.type, package.location, package.status),
        *(package.bookable_from, package.bookable_until, package.base_price_minor),
        *(package.min_party_size, package.max_party_size, package.cutoff_s, package.hold_ttl_s),
        *(rows.policy_column(package.cancellation_policy), package.version, package.update_time),
    )


def _event_columns(seen: PaymentSeen) -> tuple[Any, ...]:
    key = seen.key
    return (
        *(key.provider, key.payment_id, key.kind, key.refund_id, seen.booking_id),
        *(seen.amount.minor, seen.amount.currency, seen.event_time),
    )


def _id(value: Any) -> UUID:
    key: UUID = value.id
    return key
