"""What a command costs, in days of packages that it may load and change, known before it runs.

A day costs about 20 us of CPU in this process, and about as much in PostgreSQL.
"""

from __future__ import annotations

from typing import Final

from booking_service.domain.commands import (
    ClaimPayments,
    Command,
    ExpireHolds,
    FulfilStays,
    ReconcileInventory,
    RescheduleBooking,
    SetCapacity,
    StartBatch,
    StartBooking,
)

MAX_TURN_COST: Final = 1_000
"""Of the commands of one transaction; one that costs more, since it is all or nothing, is alone."""

MAX_LIGHT_COST: Final = 31
"""Of a request whose commands are light."""

BOOKING_COST: Final = 20
"""Of a booking, beside its days."""

MAX_QUEUED_COST: Final = 40_000
"""Of the commands that wait in one queue."""


def cost_of(command: Command) -> int:
    """Return the days of a command, at least 1.

    Those of a booking that it only names come on top; see BookingPackages.
    """
    match command:
        case StartBooking() | RescheduleBooking():
            return (command.end_date - command.start_date).days
        case StartBatch():
            return sum(map(cost_of, command.starts))
        case SetCapacity():
            return sum((run.end_date - run.start_date).days for run in command.ranges)
        case ClaimPayments():
            return max(1, len(command.payments))
        case ReconcileInventory() | ExpireHolds() | FulfilStays():
            # They take as many days as one turn may have.
            return MAX_TURN_COST
        case _:
            return 1
