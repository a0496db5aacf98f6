"""Loads days of packages: those whose seats may be taken or freed, and those that are recounted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from booking_service.domain.booking import MAX_STAY_DAYS
from booking_service.domain.commands import (
    Command,
    CreateReview,
    OfBooking,
    ReconcileInventory,
    RefundPayment,
    RescheduleBooking,
    SetCapacity,
    StartBooking,
)
from booking_service.domain.inventory import Day
from booking_service.domain.recount import MAX_RECOUNTED_DAYS, Recount
from booking_service.domain.world import World
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

Span = tuple[UUID, date, date]
"""The days of a package in [first, until)."""

_INVENTORY: Final = QueryGroup("inventory")


async def load_days(
    connection: Connection,
    commands: Sequence[Command],
    starts: Sequence[StartBooking],
    world: World,
    now: datetime,
) -> None:
    """Put the days into a world that has the bookings; each day is read once.

    `now` is the time of the decisions: a hold that has lapsed by then may be ended for its seats.
    """
    moved = {
        command.booking_id
        for command in commands
        if isinstance(command, OfBooking) and not isinstance(command, CreateReview | RefundPayment)
    }
    spans = [
        (booking.package_id, booking.start_date, booking.end_date)
        for booking in world.bookings.values()
        if (booking.id in moved or booking.lapsed(now)) and booking.package_id in world.packages
    ]
    spans += [(command.package_id, command.start_date, command.end_date) for command in starts]
    spans += [
        (command.package_id, run.start_date, run.end_date)
        for command in commands
        if isinstance(command, SetCapacity)
        for run in command.ranges
    ]
    spans += [
        (world.bookings[command.booking_id].package_id, command.start_date, command.end_date)
        for command in commands
        if isinstance(command, RescheduleBooking) and command.booking_id in world.bookings
    ]
    if spans:
        found = await connection.fetch(_INVENTORY.load, *columns(_merged(spans), 3))
        for row in found:
            day = Day(row["capacity"], row["held"], row["confirmed"])
            world.days[row["package_id"], row["day"]] = day


async def load_recounts(connection: Connection, commands: Sequence[Command], world: World) -> None:
    """Put what ReconcileInventory compares into a world."""
    wanted = sorted(
        {
            (command.package_id, command.start_date)
            for command in commands
            if isinstance(command, ReconcileInventory) and command.package_id in world.packages
        }
    )
    if not wanted:
        return
    for key, first in zip(wanted, await _next_dates(connection, wanted), strict=True):
        start = first or key[1]
        until = start if first is None else start + timedelta(MAX_RECOUNTED_DAYS)
        world.recounts[key] = Recount(start, until)
    recounts = list(world.recounts.items())
    spans = [(package_id, each.first, each.until) for (package_id, _), each in recounts]
    rests = [(package_id, until) for package_id, _, until in spans]
    for (_, recount), rest in zip(recounts, await _next_dates(connection, rests), strict=True):
        recount.next_date = rest
    found = await connection.fetch(_INVENTORY.recount, *columns(spans, 3), MAX_STAY_DAYS)
    for row in found:
        recount = recounts[row["number"] - 1][1]
        stored = Day(row["capacity"], row["held"], row["confirmed"])
        recounted = Day(row["capacity"], row["recounted_held"], row["recounted_confirmed"])
        if row["stored"]:
            world.days[row["package_id"], row["day"]] = stored
        if row["stored"] or recounted.taken:
            recount.days[row["day"]] = recounted


def columns(values: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Return rows as columns."""
    return [[value[n] for value in values] for n in range(width)]


async def _next_dates(
    connection: Connection, wanted: Sequence[tuple[UUID, date]]
) -> list[date | None]:
    """Return the first day of each package on or after a date that is stored or taken."""
    found = await connection.fetch(_INVENTORY.next_dates, *columns(wanted, 2), MAX_STAY_DAYS)
    return [row["day"] for row in found]


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return spans of the same days that do not overlap."""
    merged: list[Span] = []
    for package_id, first, until in sorted(spans):
        if merged and merged[-1][0] == package_id and first <= merged[-1][2]:
            merged[-1] = package_id, merged[-1][1], max(merged[-1][2], until)
        else:
            merged.append((package_id, first, until))
    return merged
