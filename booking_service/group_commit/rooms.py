"""Room in the tables that callers can fill without booking anything: what is beyond it is refused.

The sweeper measures what is used; between two measurements each process counts what it admits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from booking_service.domain.commands import Command, CreatePackage, CreateVendor, RecordPayment
from booking_service.domain.refusal import Reason, Refusal
from booking_service.group_commit.idempotency import SLOT_S, SLOTS, idempotency_slot
from booking_service.group_commit.submission import overloaded
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup
from servicekit.budget import Budget

COUNT_S: Final = 60.0
"""How often the rows of large tables are counted."""

GROWING: Final = (CreateVendor, CreatePackage)
"""Commands that need room, whatever else is full."""

ROW_BYTES: Final = 100
"""Of an early payment event, beside its strings."""

_ROOMS: Final = QueryGroup("rooms")
_SWEEPER: Final = QueryGroup("sweeper")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most rows of vendors and packages, and bytes of early payment events and of answers."""

    vendors: int = 100_000
    packages: int = 100_000
    early_bytes: int = 64 * 10**6
    answers_bytes: int = 8_192 * 10**6


class Room:
    """What is left of one bound; all of it until it was measured."""

    def __init__(self, name: str, most: int, limit: str) -> None:
        self.budget = Budget(name, "refused")
        self.limit = limit
        self._most = most
        self._left = most
        self._taken = self._taken_before = 0

    def begin(self) -> None:
        """Note that a measurement begins."""
        self._taken, self._taken_before = 0, self._taken

    def measured(self, used: int) -> None:
        """Note how much was used. What was taken since the measurement before began may not have
        been committed when this one did.
        """
        self._left = self._most - used - self._taken - self._taken_before

    def take(self, amount: int = 1) -> bool:
        """Return whether there is room for so much more, and take it; else count a refusal."""
        if amount > self._left:
            self.budget.exceeded(1, self.limit)
            return False
        self._left -= amount
        self._taken += amount
        return True


class Rooms:
    """The rooms of one database, as far as this process knows."""

    def __init__(
        self, bounds: Bounds | None = None, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        bounds = bounds or Bounds()
        self._bounds = bounds
        self._vendors = Room("vendors", bounds.vendors, f"{bounds.vendors}")
        self._packages = Room("packages", bounds.packages, f"{bounds.packages}")
        self._early = Room(
            "payment events of unknown bookings",
            bounds.early_bytes,
            f"{bounds.early_bytes / 1e6:g} MB",
        )
        self._dropped = Budget("hours of stored answers", "dropped")
        self._refused = Budget("commands whose answer cannot be stored", "refused")
        self._answers_limit = f"{bounds.answers_bytes / 1e6:g} MB"
        self.answers_full = False
        """Whether no answer can be stored."""
        self._monotonic_s = monotonic_s
        self._counted_s: float | None = None

    @property
    def lines(self) -> list[str]:
        """What was refused or dropped within the last minute, for health."""
        rooms = (self._vendors.budget, self._packages.budget, self._early.budget)
        return [each.line for each in (*rooms, self._dropped, self._refused) if each.line]

    def refuse_answer(self) -> Refusal:
        """Refuse a command whose answer would be stored, since `answers_full`."""
        self._refused.exceeded(1, self._answers_limit)
        return overloaded("no room is left for the answers to requests")

    def refuse(self, command: Command) -> Refusal | None:
        """Take the room that one of the GROWING commands needs, or return a refusal."""
        room = None
        if isinstance(command, CreateVendor):
            room = self._vendors
        elif isinstance(command, CreatePackage):
            room = self._packages
        if room is None or room.take():
            return None
        message = f"no more than {room.limit} are kept"
        return Refusal(Reason.STORAGE_FULL, message, {"limit": room.limit})

    def refuse_early(self, command: RecordPayment) -> Refusal | None:
        """Take the room of a payment event whose booking does not exist; a refused one is to be
        delivered again.
        """
        texts = (command.provider, command.payment_id, command.refund_id, command.failure_code)
        if self._early.take(ROW_BYTES + sum(len(text.encode()) for text in texts)):
            return None
        return overloaded("too many payment events wait for their bookings; deliver it again")

    async def measure(self, connection: Connection, now: datetime) -> None:
        """Measure what is used; drop the oldest answers beyond their bound."""
        self._early.begin()
        self._early.measured(await connection.fetchval(_ROOMS.early_bytes))
        if self._counted_s is None or self._monotonic_s() - self._counted_s >= COUNT_S:
            self._counted_s = self._monotonic_s()
            self._vendors.begin()
            self._packages.begin()
            [row] = await connection.fetch(_ROOMS.count)
            self._vendors.measured(row["vendors"])
            self._packages.measured(row["packages"])
        await self._keep_answers(connection, now)

    async def _keep_answers(self, connection: Connection, now: datetime) -> None:
        """Drop whole slots, the oldest first, but for that of now and the one before it."""
        sizes = {row["slot"]: row["bytes"] for row in await connection.fetch(_ROOMS.answer_bytes)}
        used, current = sum(sizes.values()), idempotency_slot(now)
        for age in range(SLOTS - 1, 1, -1):
            slot = (current - age) % SLOTS
            if used > self._bounds.answers_bytes and await connection.fetchval(
                _SWEEPER.slot_in_use, slot
            ):
                await connection.execute(_SWEEPER.empty_slot, slot)
                self._dropped.exceeded(SLOT_S // 3600, self._answers_limit)
                used -= sizes[slot]
        self.answers_full = used > self._bounds.answers_bytes
