"""Commands of a package that another process has locked wait, and no others do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from booking_service.domain.booking import State
from booking_service.domain.refusal import Reason
from booking_service.group_commit.booking_packages import BookingPackages
from booking_service.storage import database
from tests.booking.group_commit.harness import Harness, patient, refused


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a statement wait for a lock for as long as a slow machine needs."""
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_S", 60.0)
    monkeypatch.setattr(database, "COMMAND_TIMEOUT_S", 61.0)


async def test_a_locked_package_delays_no_other_package(harness: Harness) -> None:
    await _wait_for_locks(harness, 60.0)
    locked, free = await harness.package(capacity=5), await harness.package(capacity=5)
    async with _locked(harness, locked):
        stuck = asyncio.create_task(harness.start(locked))
        for _ in range(5):
            await harness.start(free)
        assert not stuck.done()
    assert (await stuck).state is State.HELD


async def test_a_locked_package_delays_no_other_locked_package(harness: Harness) -> None:
    await _wait_for_locks(harness, 60.0)
    long, short = await harness.package(capacity=5), await harness.package(capacity=5)
    async with _locked(harness, long):
        async with _locked(harness, short):
            first = asyncio.create_task(harness.start(long))
            second = asyncio.create_task(harness.start(short))
            await _blocked(harness, 2)
        assert (await second).state is State.HELD
        assert not first.done()
    assert (await first).state is State.HELD


async def test_a_package_that_stays_locked_is_refused_as_overloaded(harness: Harness) -> None:
    await _wait_for_locks(harness, 0.1)
    package_id = await harness.package(capacity=5)
    async with _locked(harness, package_id):
        assert await refused(harness.start(package_id)) is Reason.OVERLOADED
    await harness.start(package_id)


async def test_a_command_that_waits_for_a_lock_is_not_answered_with_the_failure_of_others(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _wait_for_locks(harness, 60.0)
    locked, free = await harness.package(capacity=5), await harness.package(capacity=5)
    async with _locked(harness, locked):
        first = asyncio.create_task(harness.start(locked))
        await _blocked(harness, 1)

        def fail(*_: object) -> None:
            monkeypatch.undo()
            raise RuntimeError("planted")

        monkeypatch.setattr(BookingPackages, "remember", fail)
        # In one group, of which the second command moves to the queue of its package.
        other = asyncio.create_task(harness.start(free))
        second = asyncio.create_task(harness.start(locked))
        assert (await other).state is State.HELD
        assert not second.done()
    assert [(await each).state for each in (first, second)] == [State.HELD] * 2
    assert await harness.counters(locked) == (2, 0)


async def _wait_for_locks(harness: Harness, lock_timeout_s: float) -> None:
    """Replace the bus by one with this lock timeout."""
    await harness.bus.stop()
    harness.bus = patient(harness.database, lock_timeout_s=lock_timeout_s)
    harness.bus.start()


@asynccontextmanager
async def _locked(harness: Harness, package_id: UUID) -> AsyncIterator[None]:
    """A package locked by another session."""
    connection = await asyncpg.connect(harness.dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM packages WHERE id = $1 FOR UPDATE", package_id)
            yield
    finally:
        await connection.close()


async def _blocked(harness: Harness, sessions: int) -> None:
    """Return once so many sessions wait for a lock."""
    async with asyncio.timeout(30):
        while True:
            row = await harness.query(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if row[0] == sessions:
                return
