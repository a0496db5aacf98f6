"""What one transaction carries out is bounded by the days that it touches, and what is heavy waits
apart from what is light.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from booking_service.domain.booking import Booking, PaymentKind, State
from booking_service.domain.commands import (
    CancelBooking,
    CapacityRange,
    CompleteBooking,
    ReconcileInventory,
    SetCapacity,
    StartBatch,
)
from booking_service.domain.refusal import Reason
from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.command_queue import CommandQueue, turns
from booking_service.group_commit.costs import (
    MAX_LIGHT_COST,
    MAX_QUEUED_COST,
    MAX_TURN_COST,
    cost_of,
)
from booking_service.group_commit.group import GroupCommit, Result
from booking_service.group_commit.submission import PendingSubmission, Submission
from booking_service.group_commit.sweeper import Sweeper
from tests.booking.group_commit.harness import DAY, Harness, drift, record, refused, start

YEAR = timedelta(366)

Runs = list[Sequence[Submission]]


def nothing(_: object) -> None:
    """Drop nothing."""


def pending(days: int, *, batch_cost: int = 0) -> PendingSubmission:
    command = start(UUID(int=1), end_date=DAY + timedelta(days))
    made = PendingSubmission(Submission(command, "c", None, b""), 0.0, batch_cost=batch_cost)
    made.waiters = 1
    return made


def costs(turn: Sequence[PendingSubmission]) -> list[int]:
    return [each.cost for each in turn]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The submissions of each transaction."""
    made: Runs = []
    run = GroupCommit.run

    async def recorded(
        self: GroupCommit,
        submissions: Sequence[Submission],
        *,
        lock_timeout_s: float,
        skip_locked: bool = False,
    ) -> Result:
        made.append(submissions)
        return await run(self, submissions, lock_timeout_s=lock_timeout_s, skip_locked=skip_locked)

    monkeypatch.setattr(GroupCommit, "run", recorded)
    return made


def check_bounded(runs: Runs) -> None:
    for run in runs:
        assert len(run) == 1 or sum(each.cost for each in run) <= MAX_TURN_COST
    runs.clear()


async def test_a_turn_has_a_bounded_cost_and_number() -> None:
    queue = CommandQueue(4, nothing)
    for days in (366, 366, 366, 3660, 1, 1, 1, 1, 1):
        queue.append(pending(days))
    taken = []
    while turn := queue.take():
        assert all(each.started for each in turn)
        taken.append(costs(turn))
    assert taken == [[366, 366], [366], [3660], [1, 1, 1, 1], [1]]
    assert [costs(turn) for turn in turns([pending(400) for _ in range(3)])] == [[400, 400], [400]]
    assert list(turns([])) == []


async def test_a_queue_has_room_for_a_bounded_cost() -> None:
    dropped: list[PendingSubmission] = []
    queue = CommandQueue(4, dropped.append)
    assert queue.has_room(MAX_QUEUED_COST + 1)
    unwanted = pending(MAX_QUEUED_COST - 1)
    unwanted.waiters = 0
    queue.append(unwanted)
    assert queue.has_room(1)
    assert not queue.has_room(2)
    assert queue.take() == []
    assert dropped == [unwanted]
    assert queue.has_room(MAX_QUEUED_COST)


@pytest.mark.parametrize(
    ("days", "batch_cost", "heavy"),
    [
        (MAX_LIGHT_COST, 0, False),
        (MAX_LIGHT_COST + 1, 0, True),
        (1, MAX_LIGHT_COST, False),
        (1, MAX_LIGHT_COST + 1, True),
    ],
)
async def test_a_request_is_heavy_as_a_whole(days: int, batch_cost: int, heavy: bool) -> None:
    assert pending(days, batch_cost=batch_cost).is_heavy is heavy


async def test_light_commands_do_not_wait_for_heavy_ones(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy, light = await harness.package(capacity=5), await harness.package(capacity=5)
    begun, may_go_on = asyncio.Event(), asyncio.Event()
    run: Callable[..., object] = GroupCommit._decide_and_write

    async def held_up(self: GroupCommit, *args: object) -> object:
        submissions = args[1]
        assert isinstance(submissions, list)
        if submissions[0].cost > MAX_LIGHT_COST:
            begun.set()
            await may_go_on.wait()
        return await run(self, *args)  # type: ignore[misc] # awaitable

    monkeypatch.setattr(GroupCommit, "_decide_and_write", held_up)
    days = CapacityRange(DAY, DAY + timedelta(3660), 9)
    setting = asyncio.create_task(harness.submit(SetCapacity(heavy, (days,))))
    await begun.wait()
    for _ in range(3):
        booking = await harness.start(light)
        await harness.submit(CompleteBooking(booking.id))
    # One of the package that is being changed waits, and for no longer than its change.
    same = asyncio.create_task(harness.start(heavy))
    await harness.start(light)
    assert not setting.done()
    assert not same.done()
    may_go_on.set()
    assert await setting == 3660
    assert (await same).state is State.HELD


async def test_a_flood_of_heavy_commands_leaves_room_for_light_ones(harness: Harness) -> None:
    bus = CommandBus(harness.database, max_queued=300, max_wait_s=60.0)
    package_id = await harness.package(capacity=300)
    year = start(package_id, end_date=DAY + YEAR)
    waiting = [
        asyncio.create_task(bus.submit(year, caller="c", rpc="r"))
        for _ in range(MAX_QUEUED_COST // cost_of(year))
    ]
    await asyncio.sleep(0)
    assert await refused(bus.submit(year, caller="c", rpc="r")) is Reason.OVERLOADED
    light = asyncio.create_task(bus.submit(start(package_id), caller="c", rpc="r"))
    await asyncio.sleep(0)
    bus.start()
    assert isinstance(await light, Booking)
    for each in waiting:
        assert await refused(each) is Reason.SOLD_OUT
    await bus.stop()


async def test_heavy_commands_are_carried_out_in_bounded_turns(
    harness: Harness, runs: Runs
) -> None:
    package_id = await harness.package(capacity=100, nights=400)
    runs.clear()
    stays = [start(package_id, end_date=DAY + YEAR) for _ in range(10)]
    await asyncio.gather(*(harness.submit(each) for each in stays))
    assert len(runs) >= len(stays) // 2
    check_bounded(runs)
    # As many days at once are only for what must be all or nothing.
    batch = StartBatch(tuple(start(package_id, end_date=DAY + YEAR) for _ in range(10)))
    await harness.submit(batch)
    assert [len(run) for run in runs] == [1]
    assert await drift(harness.dsn) == 0


async def test_commands_of_long_stays_are_heavy_although_they_only_name_them(
    harness: Harness, runs: Runs
) -> None:
    package_id = await harness.package(capacity=100, nights=400)
    long = [await harness.paid(package_id, end_date=DAY + YEAR) for _ in range(6)]
    weeks = [await harness.paid(package_id, end_date=DAY + timedelta(21)) for _ in range(60)]
    runs.clear()
    cancels = [CancelBooking(each.id, "", uuid4()) for each in (*long, *weeks)]
    await asyncio.gather(*(harness.submit(each) for each in cancels))
    assert sum(len(run) for run in runs) >= len(cancels)
    check_bounded(runs)
    assert await harness.counters(package_id) == (0, 0)
    assert await drift(harness.dsn) == 0


async def test_a_start_ends_a_bounded_number_of_lapsed_holds(harness: Harness) -> None:
    package_id = await harness.package(capacity=60, nights=366)
    for _ in range(60):
        await harness.start(package_id, end_date=DAY + YEAR)
    harness.clock.advance(timedelta(minutes=16))
    # So many of a year cost 10,000 days.
    await harness.start(package_id)
    row = await harness.query("SELECT count(*) FROM bookings WHERE state = 'EXPIRED'")
    assert row[0] == 26
    # To have room for 59, 59 must end: it is not known to be sold out.
    assert await refused(harness.start(package_id, quantity=59)) is Reason.OVERLOADED
    await Sweeper(harness.database, harness.bus).sweep()
    await harness.start(package_id, quantity=59)
    assert await refused(harness.start(package_id)) is Reason.SOLD_OUT
    assert await drift(harness.dsn) == 0


async def test_a_late_payment_is_not_refunded_where_lapsed_holds_are_unknown(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=60, nights=366)
    late = await harness.start(package_id, end_date=DAY + YEAR, quantity=30)
    harness.clock.advance(timedelta(minutes=16))
    # The seats of the late payer, and all others, go to holds that lapse as well.
    for _ in range(60):
        await harness.start(package_id, end_date=DAY + YEAR)
    assert (await harness.booking(late.id)).state is State.EXPIRED
    harness.clock.advance(timedelta(minutes=16))
    capture = record(late, PaymentKind.CAPTURED, late.price_minor)
    assert await refused(harness.submit(capture)) is Reason.OVERLOADED
    assert (await harness.query("SELECT count(*) FROM payments"))[0] == 0
    await Sweeper(harness.database, harness.bus).sweep()
    await harness.submit(capture)
    assert (await harness.booking(late.id)).state is State.CONFIRMED
    assert await drift(harness.dsn) == 0


async def test_recounts_of_many_callers_share_no_turn(harness: Harness, runs: Runs) -> None:
    packages = [await harness.package(capacity=1, nights=200) for _ in range(3)]
    runs.clear()
    await asyncio.gather(*(harness.submit(ReconcileInventory(each, False)) for each in packages))
    assert [len(run) for run in runs] == [1, 1, 1]
