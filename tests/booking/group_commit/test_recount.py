"""Capacity and counters stay true while others work on the same days."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest

from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    ReconcileInventory,
    RescheduleBooking,
    SetCapacity,
)
from booking_service.domain.holds import Limits
from booking_service.domain.recount import Reconciliation
from booking_service.domain.refusal import Refused
from booking_service.group_commit.group import GroupCommit
from booking_service.group_commit.submission import Submission
from tests.booking.group_commit.harness import DAY, Harness, copy_of, drift, reasons, start

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


async def test_a_package_of_many_days_is_recounted_in_steps(harness: Harness) -> None:
    package_id = await harness.package(capacity=3, nights=450)
    # Beside the days that are stored, and over the end of a step.
    await harness.start(
        package_id, start_date=DAY + timedelta(150), end_date=DAY + timedelta(160), quantity=2
    )
    await harness.paid(package_id, start_date=DAY + timedelta(195), end_date=DAY + timedelta(230))
    await plant(harness, package_id, "held = held + 1")
    steps = await all_steps(harness, package_id, repair=False)
    assert [step.next_date for step in steps] == [
        DAY + timedelta(200),
        DAY + timedelta(400),
        None,
    ]
    assert [step.days for step in steps] == [200, 200, 50]
    drifts = [each for step in steps for each in step.drifts]
    assert [each.day for each in drifts] == [DAY + timedelta(n) for n in range(450)]
    assert all(each.stored.held == each.recounted.held + 1 for each in drifts)
    await all_steps(harness, package_id, repair=True)
    assert await drift(harness.dsn) == 0


async def test_days_that_are_far_apart_or_only_taken_are_found(harness: Harness) -> None:
    package_id = await harness.package(capacity=3, nights=1)
    far = DAY + timedelta(5000)
    range_ = CapacityRange(far, far + timedelta(40), 3)
    assert await harness.submit(SetCapacity(package_id, (range_,))) == 40
    await harness.start(package_id, start_date=far, end_date=far + timedelta(40))
    connection = await harness.database.connect("test")
    await connection.execute("DELETE FROM package_days WHERE day >= $1", far + NIGHT)
    await connection.close()
    steps = await all_steps(harness, package_id, repair=True)
    assert [(step.days, len(step.drifts)) for step in steps] == [(1, 0), (40, 39)]
    assert await drift(harness.dsn) == 0
    nothing = await harness.submit(ReconcileInventory(package_id, False, far + timedelta(40)))
    assert nothing == Reconciliation(0, (), False)


async def test_a_group_recounts_the_days_that_it_changes(harness: Harness) -> None:
    package_id = await harness.package(capacity=9, nights=300)
    stay = (DAY + timedelta(190), DAY + timedelta(220))
    requests = [
        Submission(command, "test", None, b"")
        for command in (
            start(package_id, start_date=stay[0], end_date=stay[1]),
            ReconcileInventory(package_id, True),
            ReconcileInventory(package_id, True, DAY + timedelta(200)),
            start(package_id, start_date=stay[0], end_date=stay[1]),
            ReconcileInventory(package_id, True, DAY + timedelta(195)),
        )
    ]
    done = await GroupCommit(harness.database, Limits()).run(requests, lock_timeout_s=60.0)
    found = [each for each in done.outcomes.values() if isinstance(each, Reconciliation)]
    assert [(each.days, each.drifts) for each in found] == [(200, ()), (100, ()), (105, ())]
    assert await drift(harness.dsn) == 0


async def all_steps(harness: Harness, package_id: UUID, *, repair: bool) -> list[Reconciliation]:
    steps: list[Reconciliation] = []
    next_date: date | None = date.min
    while next_date is not None:
        step = await harness.submit(ReconcileInventory(package_id, repair, next_date))
        assert isinstance(step, Reconciliation)
        steps.append(step)
        next_date = step.next_date
    return steps
