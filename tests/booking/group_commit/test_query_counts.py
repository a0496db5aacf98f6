"""The queries of a group count once for each caller whose command was in it, and for no other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from uuid import uuid4

import asyncpg
import pytest

from metrics_service.client.queries.count import count_queries
from tests.booking.group_commit.harness import Harness
from tests.booking.seed import eventually
from tests.metrics.client.recording import Recording


@pytest.fixture
def recording(harness: Harness) -> Recording:
    recorded = Recording()
    harness.database.tracker.add_sink(recorded)
    return recorded


async def queries_of(*waiting: Awaitable[object]) -> int:
    """Count the queries of an RPC that waits for these, however they end."""
    count = count_queries()
    await asyncio.gather(*waiting, return_exceptions=True)
    return count.queries


async def each_alone(*waiting: Awaitable[object]) -> list[int]:
    """The queries of RPCs that run side by side."""
    return await asyncio.gather(*map(queries_of, waiting))


async def test_each_of_ten_starts_in_a_group_counts_the_queries_of_the_group(
    harness: Harness, recording: Recording
) -> None:
    package_id = await harness.package(capacity=20)
    recording.clear()
    one = await queries_of(harness.start(package_id))
    assert one == len(recording.user) > 0
    recording.clear()
    ten = await each_alone(*(harness.start(package_id) for _ in range(10)))
    assert ten == [len(recording.user)] * 10
    assert ten[0] == one


async def test_an_rpc_with_ten_starts_counts_their_group_once(
    harness: Harness, recording: Recording
) -> None:
    package_id = await harness.package(capacity=20)
    recording.clear()
    ten = await queries_of(*(harness.start(package_id) for _ in range(10)))
    assert ten == len(recording.user)


async def test_a_repeat_that_waits_for_the_first_counts_what_the_first_ran(
    harness: Harness, recording: Recording
) -> None:
    package_id = await harness.package(capacity=20)
    recording.clear()
    request_id, booking_id = uuid4(), uuid4()
    first, repeat = await each_alone(
        *(harness.start(package_id, booking_id=booking_id, request_id=request_id) for _ in range(2))
    )
    assert first == repeat == len(recording.user)


async def test_a_refused_command_counts_too(harness: Harness, recording: Recording) -> None:
    package_id = await harness.package(capacity=1)
    await harness.start(package_id)
    recording.clear()
    assert await queries_of(harness.start(package_id)) == len(recording.user) > 0


async def test_the_queries_of_one_group_are_not_those_of_the_next(
    harness: Harness, recording: Recording
) -> None:
    package_id = await harness.package(capacity=20)
    counts = [await queries_of(harness.start(package_id)) for _ in range(5)]
    assert counts == [counts[0]] * 5


async def test_commands_that_are_tried_one_by_one_count_their_own_and_the_group(
    harness: Harness, recording: Recording
) -> None:
    package_id = await harness.package(capacity=20)
    alone = await queries_of(harness.start(package_id))
    recording.clear()
    # Text that no column takes: the whole group fails with it, and is tried one by one.
    good = [harness.start(package_id) for _ in range(4)]
    *counts, _ = await each_alone(*good, harness.start(package_id, user_id="\x00"))
    (together,) = {count - alone for count in counts}
    assert 0 < together <= alone
    assert max(counts) < len(recording.user)


async def test_a_command_that_waits_for_its_package_counts_both_groups(
    harness: Harness, recording: Recording
) -> None:
    locked, free = await harness.package(capacity=20), await harness.package(capacity=20)
    alone = await queries_of(harness.start(free))
    side = await asyncpg.connect(harness.dsn)
    async with side.transaction():
        await side.execute("SELECT FROM packages WHERE id = $1 FOR UPDATE", locked)
        recording.clear()
        waiting = asyncio.ensure_future(queries_of(harness.start(locked)))

        async def was_left_out() -> bool:
            return bool(recording.user)

        await eventually(was_left_out)
        assert await queries_of(harness.start(free)) == alone
    await side.close()
    assert alone < await waiting <= 2 * alone
