"""The package of each booking, which a command needs to know before it can lock anything.

A booking never changes its package, so what was read once stays true. How many days it takes is
remembered too, for the cost of its commands; a change of dates makes that inexact, but bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from booking_service.domain.commands import ConfirmBooking, OfBooking, RecordPayment
from booking_service.domain.payments import as_capture
from booking_service.domain.refusal import Refusal, not_found
from booking_service.group_commit import early_payments
from booking_service.group_commit.costs import cost_of
from booking_service.group_commit.early_payments import EarlyPayment
from booking_service.group_commit.rooms import Rooms
from booking_service.group_commit.submission import Submission
from booking_service.storage.database import Database
from booking_service.storage.sql import QueryGroup

MAX_REMEMBERED: Final = 65_536
"""Bookings whose package is remembered, the latest ones."""

_BOOKINGS: Final = QueryGroup("bookings")


class Place(NamedTuple):
    """The package of a booking, and how many of its days the booking takes."""

    package_id: UUID
    days: int


class BookingPackages:
    """Finds the packages of bookings, and remembers those of `max_remembered` bookings."""

    def __init__(
        self, database: Database, rooms: Rooms, *, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._max_remembered = max_remembered
        self._packages: OrderedDict[UUID, Place] = OrderedDict()

    async def resolve(self, submissions: Sequence[Submission]) -> dict[Submission, Refusal]:
        """Set the package and the cost of each submission that names only a booking.

        Returns NOT_FOUND for those whose booking does not exist. A payment event of such a booking
        is kept, since it may arrive before the booking does, or OVERLOADED where there is no room.
        """
        of_bookings = [
            (submission, submission.command)
            for submission in submissions
            if isinstance(submission.command, OfBooking)
        ]
        unknown = {
            command.booking_id
            for _, command in of_bookings
            if command.booking_id not in self._packages
        }
        if unknown:
            self.remember(await self._read(sorted(unknown)))
        refusals: dict[Submission, Refusal] = {}
        early = []
        for submission, command in of_bookings:
            if command.booking_id in self._packages:
                continue
            event = as_capture(command) if isinstance(command, ConfirmBooking) else command
            if isinstance(event, RecordPayment):
                if refusal := self._rooms.refuse_early(event):
                    refusals[submission] = refusal
                else:
                    early.append(EarlyPayment(event, submission.caller))
        if early:
            await early_payments.keep(self._database, early)
        for submission, command in of_bookings:
            place = self._packages.get(command.booking_id)
            if place is None:
                refusals.setdefault(submission, not_found("booking", command.booking_id))
            else:
                submission.package_ids = frozenset({place.package_id})
                submission.cost = cost_of(command) + place.days
        return refusals

    def remember(self, packages: Mapping[UUID, Place]) -> None:
        """Remember packages by booking id, and forget the oldest beyond the bound."""
        self._packages |= packages
        while len(self._packages) > self._max_remembered:
            self._packages.popitem(last=False)

    async def _read(self, booking_ids: Sequence[UUID]) -> dict[UUID, Place]:
        async with self._database.connection() as connection:
            found = await connection.fetch(_BOOKINGS.packages_of, booking_ids)
        return {row["id"]: Place(row["package_id"], row["days"]) for row in found}
