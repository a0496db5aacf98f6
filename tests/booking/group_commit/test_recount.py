"""Capacity and counters stay true while others work on the same days."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    ReconcileInventory,
    RescheduleBooking,
    SetCapacity,
)
from booking_service.domain.refusal import Refused
from booking_service.domain.world import Reconciliation
from tests.booking.group_commit.harness import DAY, Harness, copy_of, drift, reasons

NIGHT = timedelta(1)


async def test_capacity_is_never_cut_below_what_is_taken_at_the_same_time(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=10, nights=1)
    async with copy_of(harness) as copy:
        cut = SetCapacity(package_id, (CapacityRange(DAY, DAY + timedelta(1), 5),))
        outcomes = await reasons([*(harness.start(package_id) for _ in range(8)), copy.submit(cut)])
    row = await harness.query("SELECT capacity, held FROM package_days")
    assert row["held"] == outcomes[:-1].count("OK")
    assert row["held"] <= row["capacity"]
    if outcomes[-1] == "CAPACITY_BELOW_TAKEN":
        assert row["capacity"] == 10
    with pytest.raises(Refused) as caught:
        await harness.submit(
            SetCapacity(package_id, (CapacityRange(DAY, DAY + timedelta(1), row["held"] - 2),))
        )
    assert caught.value.refusal.metadata["days"] == "2026-05-01=2"


async def test_a_recount_of_a_live_package_finds_no_drift(harness: Harness) -> None:
    package_id = await harness.package(capacity=30, nights=8)
    stays = [await harness.paid(package_id) for _ in range(6)]

    def ask(bus: Harness, n: int) -> list[object]:
        first = DAY + timedelta(n % 7)
        return [
            bus.start(package_id, start_date=DAY + timedelta(n % 5), end_date=DAY + timedelta(6)),
            bus.submit(RescheduleBooking(stays[n % 3].id, first, first + NIGHT, None, uuid4())),
            bus.submit(ReconcileInventory(package_id, repair=True)),
            bus.submit(CancelBooking(stays[3 + n % 3].id, "", uuid4())),
        ]

    async with copy_of(harness) as copy:
        asked = [each for n in range(16) for each in ask((harness, copy)[n % 2], n)]
        answers = await asyncio.gather(*asked)  # type: ignore[call-overload] # awaitables
    recounts = [answer for answer in answers if isinstance(answer, Reconciliation)]
    assert [(each.drifts, each.repaired, each.days) for each in recounts] == [((), False, 8)] * 16
    assert await drift(harness.dsn) == 0


async def test_a_planted_drift_is_found_and_repaired(harness: Harness) -> None:
    package_id = await harness.package(capacity=3, nights=3)
    await harness.start(package_id, end_date=DAY + timedelta(2))
    await harness.paid(package_id)
    await plant(harness, package_id, "held = held + 1, confirmed = 0")
    found = await harness.submit(ReconcileInventory(package_id, repair=False))
    assert isinstance(found, Reconciliation)
    assert [(each.day, each.stored.held, each.recounted.held) for each in found.drifts] == [
        (DAY, 2, 1),
        (DAY + timedelta(1), 2, 1),
        (DAY + timedelta(2), 1, 0),
    ]
    assert (found.repaired, await drift(harness.dsn)) == (False, 3)
    repaired = await harness.submit(ReconcileInventory(package_id, repair=True))
    assert isinstance(repaired, Reconciliation)
    assert repaired.drifts == found.drifts
    assert await drift(harness.dsn) == 0
    again = await harness.submit(ReconcileInventory(package_id, repair=True))
    assert isinstance(again, Reconciliation)
    assert (again.drifts, again.repaired) == ((), False)


async def plant(harness: Harness, package_id: UUID, change: str) -> None:
    connection = await harness.database.connect("test")
    await connection.execute(f"UPDATE package_days SET {change} WHERE package_id = $1", package_id)
    await connection.close()
