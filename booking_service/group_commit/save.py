"""Writes the changes of a group of commands, each table in one statement, sorted by key.

The order is the same in every process, so two groups touch rows in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from booking_service.domain.booking import (
    Booking,
    BookingEvent,
    PaymentEvent,
    PaymentEventKey,
    PaymentSeen,
)
from booking_service.domain.catalog_events import CatalogEvent
from booking_service.domain.package import Package, Vendor
from booking_service.domain.world import Changes, World
from booking_service.storage import rows
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup
from metrics_service.client import NamedQuery

T = TypeVar("T")

_PACKAGES: Final = QueryGroup("packages")
_BOOKINGS: Final = QueryGroup("bookings")
_INVENTORY: Final = QueryGroup("inventory")
_PAYMENTS: Final = QueryGroup("payments")
_REFUNDS: Final = QueryGroup("refunds")
_VENDORS: Final = QueryGroup("vendors")
_REVIEWS: Final = QueryGroup("reviews")
_PROFILES: Final = QueryGroup("profiles")
_OUTBOX: Final = QueryGroup("outbox")
_CATALOG_EVENTS: Final = QueryGroup("catalog_events")


@dataclass(frozen=True, slots=True)
class Origin:
    """The caller and the request that caused an event."""

    caller: str
    request_id: UUID | None


@dataclass(slots=True)
class Origins:
    """The origin of everything in a group's changes that is audited: of each event, in their order,
    and of each payment event and refund by its key.
    """

    events: list[Origin] = field(default_factory=list)
    catalog_events: list[Origin] = field(default_factory=list)
    payments_seen: dict[PaymentEventKey, Origin] = field(default_factory=dict)
    refunds: dict[UUID, Origin] = field(default_factory=dict)

    def add(self, origin: Origin, changes: Changes) -> None:
        """Note who caused these changes, which come after those added before."""
        self.events += [origin] * len(changes.events)
        self.catalog_events += [origin] * len(changes.catalog_events)
        for key in changes.payments_seen:
            self.payments_seen[key] = origin
        for refund_id in changes.refunds:
            # The first one has requested it.
            self.refunds.setdefault(refund_id, origin)


async def save(
    connection: Connection,
    changes: Changes,
    stored: World,
    origins: Origins,
    facts: Sequence[bytes],
) -> None:
    """Write changes; `stored` holds the rows that exist, `facts` the fact of each of the events."""
    vendors = sorted(changes.vendors.values(), key=_id)
    new_vendors = [vendor for vendor in vendors if vendor.id not in stored.vendors]
    known_vendors = [vendor for vendor in vendors if vendor.id in stored.vendors]
    await write_all(connection, _VENDORS.create, new_vendors, _plain)
    await write_all(connection, _VENDORS.update, known_vendors, _vendor_columns)
    packages = sorted(changes.packages.values(), key=_id)
    new = [package for package in packages if package.id not in stored.packages]
    known = [package for package in packages if package.id in stored.packages]
    await write_all(connection, _PACKAGES.create, new, _plain)
    await write_all(connection, _PACKAGES.update, known, _package_columns)
    await _save_days(connection, changes, stored)
    bookings = sorted(changes.bookings.values(), key=_id)
    created = [booking for booking in bookings if booking.id not in stored.bookings]
    updated = [booking for booking in bookings if booking.id in stored.bookings]
    await write_all(connection, _BOOKINGS.create, created, _plain)
    await write_all(connection, _BOOKINGS.update, updated, _updated_columns)
    # By the key that is unique across packages: two processes that record the same payments must
    # touch them in one order.
    payments = [payment for _, payment in sorted(changes.payments.items())]
    await write_all(connection, _PAYMENTS.save, payments, _plain)
    made = {
        event.key: fact
        for event, fact in zip(changes.events, facts, strict=True)
        if isinstance(event, PaymentEvent)
    }
    # An event that had no effect is kept with an empty fact.
    seen = sorted(
        _event_columns(each, made.get(key, b""), origins.payments_seen[key])
        for key, each in changes.payments_seen.items()
    )
    await write_all(connection, _PAYMENTS.create_events, seen, tuple)
    refunds = [
        (*_plain(refund), origin.caller, origin.request_id)
        for refund in sorted(changes.refunds.values(), key=_id)
        for origin in (origins.refunds[refund.id],)
    ]
    await write_all(connection, _REFUNDS.save, refunds, tuple)
    await write_all(connection, _REVIEWS.create, sorted(changes.reviews.values(), key=_id), _plain)
    profiles = sorted(changes.profiles.values(), key=_id)
    await write_all(connection, _PROFILES.save, profiles, _plain)


async def save_events(
    connection: Connection,
    changes: Changes,
    origins: Origins,
    facts: Sequence[bytes],
    now: datetime,
) -> None:
    """Add the events to the audit trails, each with its origin: the transitions of bookings with
    their facts, and the changes of the catalogue in their order.
    """
    ordered = sorted(
        (
            *(event.booking.id, event.booking.version, event.transition, event.from_state),
            *(event.booking.state, event.booking.end_reason, origin.caller, origin.request_id),
            *(now, fact),
        )
        for event, origin, fact in zip(changes.events, origins.events, facts, strict=True)
        if isinstance(event, BookingEvent)
    )
    await write_all(connection, _BOOKINGS.create_events, ordered, tuple)
    catalog = [
        _catalog_columns(event, origin, now)
        for event, origin in zip(changes.catalog_events, origins.catalog_events, strict=True)
    ]
    await write_all(connection, _CATALOG_EVENTS.create, catalog, tuple)


async def append_outbox(
    connection: Connection, count: int, facts: bytes, event_time: datetime
) -> None:
    """Add one outbox row, with facts of one time that become part of one batch."""
    await connection.execute(_OUTBOX.append, count, facts, event_time)


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
    await write_all(connection, _INVENTORY.create, created, tuple)
    await write_all(connection, _INVENTORY.change, changed, tuple)


async def write_all(
    connection: Connection,
    query: NamedQuery,
    values: Sequence[T],
    columns: Callable[[T], tuple[object, ...]],
) -> None:
    """Run a statement over unnest()ed columns for all values at once, or not at all for none."""
    if values:
        await connection.execute(query, *zip(*map(columns, values), strict=True))


def _plain(value: Any) -> tuple[object, ...]:
    """Return the row of a value whose fields are the columns of its table, in their order."""
    return tuple(
        rows.policy_column(item) if each.name == "cancellation_policy" else item
        for each in fields(value)
        for item in (getattr(value, each.name),)
    )


def _updated_columns(booking: Booking) -> tuple[object, ...]:
    return (
        *(booking.id, booking.state, booking.start_date, booking.end_date, booking.price_minor),
        *(rows.policy_column(booking.cancellation_policy), booking.hold_expire_time),
        *(booking.complete_time, booking.confirm_time, booking.end_time, booking.end_reason),
        *(booking.refund_minor, booking.refunded_minor, booking.version, booking.update_time),
        *(booking.balance_due_minor, booking.extensions, booking.refund_requested_minor),
        booking.captured_minor,
    )


def _vendor_columns(vendor: Vendor) -> tuple[object, ...]:
    return vendor.id, vendor.name, vendor.version, vendor.update_time


def _package_columns(package: Package) -> tuple[object, ...]:
    return (
        *(package.id, package.title, package.type, package.location, package.status),
        *(package.bookable_from, package.bookable_until, package.base_price_minor),
        *(package.min_party_size, package.max_party_size, package.max_party_per_unit),
        *(package.cutoff_s, package.hold_ttl_s),
        *(rows.policy_column(package.cancellation_policy), package.version, package.update_time),
    )


def _event_columns(seen: PaymentSeen, fact: bytes, origin: Origin) -> tuple[Any, ...]:
    key = seen.key
    return (
        *(key.provider, key.payment_id, key.kind, key.refund_id, seen.booking_id),
        *(seen.amount.minor, seen.amount.currency, seen.event_time, fact),
        *(origin.caller, origin.request_id),
    )


def _catalog_columns(event: CatalogEvent, origin: Origin, now: datetime) -> tuple[Any, ...]:
    return (
        *(event.vendor_id, event.package_id, event.change),
        rows.field_changes_column(event.fields),
        rows.counter_runs_column(event.runs),
        *(event.days_left_out, origin.caller, origin.request_id, now),
    )


def _id(value: Any) -> UUID:
    key: UUID = value.id
    return key
