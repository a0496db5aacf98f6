"""Loads the `World` that a group of commands is decided on, each table in one statement.

Everything is read under the locks that `locks.py` took, so it does not change before the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from booking_service.domain.booking import Booking, PaymentEventKey, PaymentKind, PaymentSeen
from booking_service.domain.commands import (
    ClaimPayments,
    ClaimRefunds,
    Command,
    ConfirmBooking,
    CreatePackage,
    CreateReview,
    CreateVendor,
    ExpireHolds,
    FulfilStays,
    OfBooking,
    RecordPayment,
    RescheduleBooking,
    StartBatch,
    StartBooking,
    UpdateProfile,
    UpdateVendor,
)
from booking_service.domain.holds import Limits
from booking_service.domain.money import Money
from booking_service.domain.package import Package
from booking_service.domain.world import Changes, World
from booking_service.group_commit.costs import BOOKING_COST
from booking_service.group_commit.load_days import Span, columns, load_days, load_recounts
from booking_service.storage import rows
from booking_service.storage.connection import Connection, Record
from booking_service.storage.sql import QueryGroup

MAX_SWEPT: Final = 200
"""Holds or stays that one ExpireHolds or FulfilStays ends at most."""

MAX_SWEPT_DAYS: Final = 1_000
"""Of all of them together."""

MAX_LAPSED_COST: Final = 10_000
"""In days, of the lapsed holds that a group may end to make room, shared by its packages."""

MIN_LAPSED_COST: Final = 400
"""Of one package."""

_PACKAGES: Final = QueryGroup("packages")
_BOOKINGS: Final = QueryGroup("bookings")
_PAYMENTS: Final = QueryGroup("payments")
_REFUNDS: Final = QueryGroup("refunds")
_VENDORS: Final = QueryGroup("vendors")
_REVIEWS: Final = QueryGroup("reviews")
_PROFILES: Final = QueryGroup("profiles")


async def read_packages(connection: Connection, package_ids: Iterable[UUID]) -> dict[UUID, Package]:
    """Return the packages that exist, without locking them."""
    found = await connection.fetch(_PACKAGES.read, sorted(package_ids))
    return {row["id"]: rows.package(row) for row in found}


async def load(
    connection: Connection,
    commands: Sequence[Command],
    packages: dict[UUID, Package],
    limits: Limits,
    now: datetime,
) -> World:
    """Return everything that these commands may need to know."""
    world = World()
    world.merge(Changes(packages=packages))
    starts = [start for command in commands for start in starts_of(command)]
    await _load_vendors(connection, commands, world)
    await _load_bookings(connection, commands, world)
    await _load_payments(connection, commands, world)
    if limits.of_users and starts:
        users = sorted({command.user_id for command in starts})
        await _merge_bookings(world, connection.fetch(_BOOKINGS.load_live_of_users, users, now))
    moves = [command for command in commands if isinstance(command, RescheduleBooking)]
    spans = _spans(starts, moves, world)
    if spans:
        await _load_lapsed(connection, spans, world, now)
    await _load_sweeps(connection, commands, world, now)
    await _load_reviews_and_profiles(connection, commands, world)
    await load_days(connection, commands, starts, world, monotonic_now(world, now))
    await load_recounts(connection, commands, world)
    return world


def starts_of(command: Command) -> tuple[StartBooking, ...]:
    """Return the starts that a command is or contains."""
    if isinstance(command, StartBatch):
        return command.starts
    return (command,) if isinstance(command, StartBooking) else ()


def monotonic_now(world: World, now: datetime) -> datetime:
    """Return a time not before `now` and after every time in a world.

    Times and versions then have one order, even when the clock was set back.
    """
    changed = [
        *(value.update_time for value in world.bookings.values()),
        *(value.update_time for value in world.packages.values()),
        *(value.update_time for value in world.payments.values()),
        # Two refunds of one payment at the same instant would have no order.
        *(value.update_time for value in world.refunds.values()),
        *(value.update_time for value in world.profiles.values()),
    ]
    newest = max(changed, default=now - timedelta(microseconds=1))
    return max(now, newest + timedelta(microseconds=1)).astimezone(UTC)


async def _load_vendors(connection: Connection, commands: Sequence[Command], world: World) -> None:
    vendor_ids = {
        command.vendor_id
        for command in commands
        if isinstance(command, CreateVendor | UpdateVendor)
    }
    vendor_ids |= {
        command.package.vendor_id for command in commands if isinstance(command, CreatePackage)
    }
    if vendor_ids:
        found = await connection.fetch(_VENDORS.load, sorted(vendor_ids))
        world.vendors |= {row["id"]: rows.vendor(row) for row in found}


def _bookings_of_claims(commands: Sequence[Command]) -> set[UUID]:
    found: set[UUID] = set()
    for command in commands:
        if isinstance(command, ClaimPayments):
            found |= {payment.booking_id for payment in command.payments}
        elif isinstance(command, ClaimRefunds):
            found |= {refund.booking_id for refund in command.refunds}
    return found


async def _load_bookings(connection: Connection, commands: Sequence[Command], world: World) -> None:
    booking_ids = {command.booking_id for command in commands if isinstance(command, OfBooking)}
    booking_ids |= _bookings_of_claims(commands)
    booking_ids |= {start.booking_id for command in commands for start in starts_of(command)}
    if booking_ids:
        await _merge_bookings(world, connection.fetch(_BOOKINGS.load, sorted(booking_ids)))


async def _load_payments(connection: Connection, commands: Sequence[Command], world: World) -> None:
    paying = [
        command for command in commands if isinstance(command, ConfirmBooking | RecordPayment)
    ]
    keys = sorted({(command.provider, command.payment_id) for command in paying})
    booking_ids = sorted(
        {
            command.booking_id
            for command in commands
            if isinstance(command, OfBooking) and command.booking_id in world.bookings
        }
        | _bookings_of_claims(commands)
    )
    if not booking_ids and not keys:
        return
    providers = [provider for provider, _ in keys]
    payment_ids = [payment_id for _, payment_id in keys]
    found = await connection.fetch(_PAYMENTS.load, booking_ids, providers, payment_ids)
    payments = [rows.payment(row) for row in found]
    world.payments |= {payment.key: payment for payment in payments}
    if payments:
        found = await connection.fetch(_REFUNDS.load, booking_ids)
        world.refunds |= {row["id"]: rows.refund(row) for row in found}
    recorded = [command for command in commands if isinstance(command, RecordPayment)]
    if recorded:
        found = await connection.fetch(_PAYMENTS.load_events, providers, payment_ids)
        for row in found:
            key = PaymentEventKey(
                row["provider"], row["payment_id"], PaymentKind(row["kind"]), row["refund_id"]
            )
            amount = Money(row["amount_minor"], row["currency"])
            world.payments_seen[key] = PaymentSeen(
                key, row["booking_id"], amount, row["event_time"]
            )


async def _load_lapsed(
    connection: Connection, spans: Sequence[Span], world: World, now: datetime
) -> None:
    """Load the lapsed holds that free the most days, as many as the packages may share."""
    cost = max(MIN_LAPSED_COST, MAX_LAPSED_COST // len(spans))
    found = await connection.fetch(
        _BOOKINGS.load_lapsed_overlapping, *columns(spans, 3), now, cost, BOOKING_COST
    )
    loaded = Counter(row["package_id"] for row in found)
    world.more_lapsed |= {
        row["package_id"] for row in found if row["lapsed"] > loaded[row["package_id"]]
    }
    bookings = [
        rows.booking({name: value for name, value in row.items() if name != "lapsed"})
        for row in found
    ]
    world.merge(Changes(bookings={booking.id: booking for booking in bookings}))


async def _load_sweeps(
    connection: Connection, commands: Sequence[Command], world: World, now: datetime
) -> None:
    lapsed = sorted(
        {command.package_id for command in commands if isinstance(command, ExpireHolds)}
    )
    if lapsed:
        _merge_swept(world, await connection.fetch(_BOOKINGS.load_lapsed, lapsed, now, MAX_SWEPT))
    ended = [
        (package_id, world.packages[package_id].today(now))
        for package_id in sorted(
            {command.package_id for command in commands if isinstance(command, FulfilStays)}
        )
        if package_id in world.packages
    ]
    if ended:
        found = await connection.fetch(_BOOKINGS.load_ended, *columns(ended, 2), MAX_SWEPT)
        _merge_swept(world, found)


async def _load_reviews_and_profiles(
    connection: Connection, commands: Sequence[Command], world: World
) -> None:
    reviewed = {command.booking_id for command in commands if isinstance(command, CreateReview)}
    if reviewed:
        found = await connection.fetch(_REVIEWS.load, sorted(reviewed))
        world.reviews |= {row["booking_id"]: rows.review(row) for row in found}
    users = {command.user_id for command in commands if isinstance(command, UpdateProfile)}
    if users:
        found = await connection.fetch(_PROFILES.load, sorted(users))
        world.profiles |= {row["user_id"]: rows.profile(row) for row in found}


def _spans(
    starts: Sequence[StartBooking], moves: Sequence[RescheduleBooking], world: World
) -> list[Span]:
    """Return the days whose capacity may be needed, one span per package.

    A payment after its hold expired needs capacity as a start does.
    """
    stays = [(start.package_id, start.start_date, start.end_date) for start in starts]
    stays += [(b.package_id, b.start_date, b.end_date) for b in world.bookings.values()]
    stays += [
        (world.bookings[move.booking_id].package_id, move.start_date, move.end_date)
        for move in moves
        if move.booking_id in world.bookings
    ]
    spans: dict[UUID, tuple[date, date]] = {}
    for package_id, start_date, end_date in stays:
        first, until = spans.get(package_id, (start_date, end_date))
        spans[package_id] = min(first, start_date), max(until, end_date)
    return [(package_id, first, until) for package_id, (first, until) in sorted(spans.items())]


async def _merge_bookings(world: World, fetched: Awaitable[list[Record]]) -> None:
    found = [rows.booking(row) for row in await fetched]
    world.merge(Changes(bookings={booking.id: booking for booking in found}))


def _merge_swept(world: World, found: Sequence[Record]) -> None:
    """Take as many of the bookings as have MAX_SWEPT_DAYS together, at least one."""
    taken: dict[UUID, Booking] = {}
    days = 0
    for booking in map(rows.booking, found):
        days += (booking.end_date - booking.start_date).days
        if taken and days > MAX_SWEPT_DAYS:
            break
        taken[booking.id] = booking
    world.merge(Changes(bookings=taken))
