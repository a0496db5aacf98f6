"""The sweeper keeps the rating and the popularity of every package, and disturbs none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from booking_service.group_commit import scores
from booking_service.group_commit.bus import CommandBus
from booking_service.group_commit.sweeper import Sweeper
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from tests.booking.seed import NOW, add_booking, add_package

Rows = asyncpg.Connection
LONG_AGO = NOW - timedelta(days=30, microseconds=1)
LATELY = NOW - timedelta(days=30)


@pytest.fixture
async def sweeper(booking_dsn: str) -> AsyncIterator[Sweeper]:
    database = Database(booking_dsn, clock=SetClock(NOW), pool_size=3)
    await database.open()
    bus = CommandBus(database)
    bus.start()
    yield Sweeper(database, bus)
    await bus.stop()
    await database.close()


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


async def add_review(rows: Rows, package_id: UUID, rating: int) -> None:
    """By the guest of a stay of long ago."""
    stay = await add_booking(rows, package_id, state="FULFILLED", confirm_time=LONG_AGO)
    await rows.execute(
        "INSERT INTO reviews (id, booking_id, package_id, user_id, rating, body, version,"
        " create_time, update_time) VALUES ($1, $2, $3, 'user', $4, '', 1, $5, $5)",
        *(uuid4(), stay, package_id, rating, NOW),
    )


async def kept(rows: Rows, package_id: UUID) -> tuple[int, int, int]:
    """Number of reviews, rating in hundredths, popularity."""
    found = await rows.fetchrow(
        "SELECT review_count, rating_hundredths, popularity FROM packages WHERE id = $1", package_id
    )
    assert found is not None
    return found["review_count"], found["rating_hundredths"], found["popularity"]


async def test_ratings_are_averages_and_popularity_counts_a_month(
    sweeper: Sweeper, rows: Rows
) -> None:
    rated, popular, plain = [await add_package(rows) for _ in range(3)]
    for rating in (5, 4, 4):
        await add_review(rows, rated, rating)
    for state, confirmed in (
        ("CONFIRMED", LATELY),
        ("FULFILLED", NOW),
        ("CANCELLED", NOW),
        ("CONFIRMED", LONG_AGO),
        ("HELD", None),
    ):
        hold = NOW + timedelta(hours=1)
        await add_booking(
            rows,
            popular,
            state=state,
            confirm_time=confirmed,
            hold_expire_time=hold,
            end_date=NOW.date() + timedelta(days=99),
        )
    await sweeper.sweep()
    assert await kept(rows, rated) == (3, 433, 0)
    assert await kept(rows, popular) == (0, 0, 2)
    assert await kept(rows, plain) == (0, 0, 0)
    await add_review(rows, rated, 1)
    await sweeper.sweep()
    assert await kept(rows, rated) == (4, 350, 0)


async def test_only_packages_whose_figures_changed_are_written(
    sweeper: Sweeper, rows: Rows
) -> None:
    changing, plain = await add_package(rows), await add_package(rows)
    await add_review(rows, changing, 5)
    versions = "SELECT id, xmin::text, version, update_time FROM packages"
    before = {row["id"]: tuple(row) for row in await rows.fetch(versions)}
    await sweeper.sweep()
    after = {row["id"]: tuple(row) for row in await rows.fetch(versions)}
    assert after[plain] == before[plain]
    assert after[changing][1] != before[changing][1]
    # Neither is part of what an etag guards.
    assert after[changing][2:] == before[changing][2:]
    await sweeper.sweep()
    assert {row["id"]: tuple(row) for row in await rows.fetch(versions)} == after


async def test_every_package_has_its_turn(
    sweeper: Sweeper, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "MAX_SCORED", 2)
    packages = [await add_package(rows) for _ in range(5)]
    for package_id in packages:
        await add_review(rows, package_id, 3)
    done = []
    for _ in range(4):
        await sweeper.sweep()
        done.append(sum([(await kept(rows, each))[0] for each in packages]))
    assert done[:3] == [2, 4, 5]
    # The next turn has begun.
    await add_review(rows, min(packages), 3)
    for _ in range(3):
        await sweeper.sweep()
    assert (await kept(rows, min(packages)))[0] == 2


async def test_a_package_that_is_locked_waits_for_its_next_turn(
    sweeper: Sweeper, rows: Rows
) -> None:
    locked, free = await add_package(rows), await add_package(rows)
    for package_id in (locked, free):
        await add_review(rows, package_id, 4)
    async with rows.transaction():
        await rows.execute("SELECT FROM packages WHERE id = $1 FOR NO KEY UPDATE", locked)
        await sweeper.sweep()
        assert (await kept(rows, locked))[0] == 0
        assert (await kept(rows, free))[0] == 1
    await sweeper.sweep()
    assert (await kept(rows, locked))[0] == 1
