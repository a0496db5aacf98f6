"""A fork is a state that both healths report, and it has a way out; its gap is exact."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from booking_service.delivery import fact_lane, fork
from booking_service.delivery.fork import Gap, NoForkError
from booking_service.storage.database import Database
from metrics_service.client.host import Status
from metrics_service.client.stream import lane_sender
from protos.metrics.v1 import metrics_pb2
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.postgres import PostgresServer
from tests.metrics.delivery_pair import until
from tests.metrics.raw_client import raw_client
from tests.pair.lane_pair import (
    LanePair,
    commit,
    criteria,
    delivered,
    execute,
    fired,
    forked,
    lane,
    quality,
    send,
)


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_sender, "FORK_RETRY_S", 0.2)


@pytest.fixture
def pair(postgres: PostgresServer, booking_dsn: str, metrics_dsn: str) -> Iterator[LanePair]:
    made = LanePair(postgres, booking_dsn, metrics_dsn)
    yield made
    made.close()


async def accept(dsn: str) -> Gap:
    return await fork.accept(Database(dsn))


async def succeed(dsn: str, producer_id: UUID) -> None:
    await fork.succeed(Database(dsn), producer_id)


def gaps(figures: metrics_pb2.QualityMetrics) -> tuple[int, int, int]:
    return figures.facts, figures.facts_lacking, figures.facts_beyond


async def test_a_restored_booking_database_is_reported_and_goes_on_when_it_is_accepted(
    pair: LanePair, booking_dsn: str
) -> None:
    async with pair.metrics() as metrics:
        async with pair.booking():
            await send(booking_dsn, "a b c")
        # Some facts wait in the backup and are delivered after it.
        await commit(booking_dsn, "d", "e")
        backup = pair.copy(booking_dsn)
        async with pair.booking():
            before = await send(booking_dsn, "f g h")
        async with pair.booking(backup) as booking:
            await commit(backup, "new")
            found = await forked(backup)
            health = await criteria(metrics, "forked")
            assert health.status == DatabaseHealth.UNHEALTHY
            assert booking.server.health.status is not Status.UNHEALTHY
            await lane(backup, lambda _: booking.server.health.status is Status.DEGRADED)
            await until(lambda: "facts_forked" in fired(metrics))
            assert (await quality(metrics)).facts == 8
            assert await accept(backup) == Gap(lacking=0, beyond=5, sent=3)
            after = await delivered(backup)
            await criteria(metrics, "")
            figures = await quality(metrics)
    assert before.producer_id == found.producer_id != after.producer_id
    assert after.sink_id == before.sink_id
    assert after.epoch > found.epoch
    # "d" and "e" were sent again, and have no second effect: three facts are beyond.
    assert (figures.duplicates, figures.facts_gaps) == (2, 1)
    assert gaps(figures) == (9, 0, 3)


async def test_lost_metrics_get_what_is_kept_and_a_gap_that_counts_the_rest(
    pair: LanePair, booking_dsn: str, metrics_template: str
) -> None:
    async with pair.booking():
        async with pair.metrics() as metrics:
            await send(booking_dsn, "a", "b", "c", "d")
            first = metrics.server.event_log.sink_id
        await execute(booking_dsn, "DELETE FROM segment WHERE seq <= 2")
        async with pair.metrics(pair.create(metrics_template)) as metrics:
            second = metrics.server.event_log.sink_id
            await commit(booking_dsn, "e")
            found = await forked(booking_dsn)
            assert found.fork is not None
            assert first in found.fork.reason
            assert second in found.fork.reason
            assert (await quality(metrics)).facts == 0
            assert await accept(booking_dsn) == Gap(lacking=2, beyond=0, sent=3)
            after = await delivered(booking_dsn)
            figures = await quality(metrics)
    assert str(after.sink_id) == second
    assert gaps(figures) == (3, 2, 0)


async def test_restored_metrics_within_the_kept_segments_are_no_fork(
    pair: LanePair, booking_dsn: str
) -> None:
    async with pair.booking():
        backup = await pair.backup_of_metrics("a", "b c")
        async with pair.metrics(backup) as metrics:
            found = await send(booking_dsn, "d")
            assert (await quality(metrics)).facts == 4
    assert found.fork is None


async def test_restored_metrics_beyond_the_kept_segments_lack_an_exact_number(
    pair: LanePair, booking_dsn: str
) -> None:
    async with pair.booking():
        backup = await pair.backup_of_metrics("a", "b", "c", "d")
        await execute(booking_dsn, "DELETE FROM segment WHERE seq <= 3")
        async with pair.metrics(backup):
            await forked(booking_dsn, "the sink lacks batch 2; kept from 4 on")
        # Restored again, from a newer copy: it goes on by itself.
        async with pair.metrics():
            await lane(booking_dsn, lambda found: found.fork is None)
            with pytest.raises(NoForkError):
                await accept(booking_dsn)
        async with pair.metrics(backup) as metrics:
            await forked(booking_dsn)
            assert await accept(booking_dsn) == Gap(lacking=2, beyond=0, sent=1)
            await delivered(booking_dsn)
            assert gaps(await quality(metrics)) == (2, 2, 0)


@pytest.fixture
async def other(pair: LanePair, booking_template: str) -> str:
    """Another booking database."""
    dsn = pair.create(booking_template)
    # Templates of the tests share one producer.
    await execute(dsn, "UPDATE relay SET producer_id = gen_random_uuid()")
    return dsn


async def test_facts_are_not_mixed_with_those_of_another_pair(
    pair: LanePair, booking_dsn: str, other: str
) -> None:
    async with pair.metrics() as metrics:
        async with pair.booking():
            await send(booking_dsn, "ours")
        async with pair.booking(other):
            await commit(other, "theirs")
            found = await forked(other, "another booking database")
            with pytest.raises(NoForkError, match="BOOKING_METRICS_TARGET"):
                await accept(other)
        async with pair.booking():
            await send(booking_dsn, "more")
        assert (await quality(metrics)).facts == 2
    assert found.sink_id is None


async def test_a_new_booking_database_takes_the_place_of_a_lost_one_whose_producer_it_names(
    pair: LanePair, booking_dsn: str, other: str
) -> None:
    async with pair.metrics() as metrics:
        async with pair.booking():
            lost = await send(booking_dsn, "a b", "c")
        async with pair.booking(other):
            await commit(other, "new", "newer")
            await forked(other, "another booking database")
            with pytest.raises(NoForkError, match="not those of producer"):
                await succeed(other, uuid4())
            await succeed(other, lost.producer_id)
            # Nothing is sent before a person has seen what is beyond this database.
            await forked(other, "the sink has 3 facts")
            assert (await quality(metrics)).facts == 3
            # To say it again changes nothing.
            await succeed(other, lost.producer_id)
            assert await accept(other) == Gap(lacking=0, beyond=3, sent=2)
            after = await send(other, "newest")
            await criteria(metrics, "")
            assert gaps(await quality(metrics)) == (6, 0, 3)
            with pytest.raises(NoForkError, match="knows this lane"):
                await succeed(other, uuid4())
        # It was not lost: it is told that another one has its place.
        async with pair.booking():
            await commit(booking_dsn, "late")
            await forked(booking_dsn, "another lane has taken the place")
    assert after.sink_id == lost.sink_id


async def test_a_lane_that_meets_no_sink_says_so_and_may_be_asked_again(
    pair: LanePair, booking_dsn: str, other: str
) -> None:
    async with pair.metrics(), pair.booking():
        lost = await send(booking_dsn, "a")
    for _ in range(2):
        with pytest.raises(NoForkError, match="has not answered within 0 s"):
            await fork.succeed(Database(other), lost.producer_id, answer_s=0.1)
    async with pair.metrics(), pair.booking(other):
        await succeed(other, lost.producer_id)
        assert await accept(other) == Gap(lacking=0, beyond=1, sent=0)
        await delivered(other)


async def test_a_forged_epoch_is_reported_as_fenced_and_overtaken(
    pair: LanePair, booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_lane, "FENCED_RETRY_S", 1.5)
    async with pair.metrics() as metrics, pair.booking() as booking:
        ours = str((await send(booking_dsn, "a")).producer_id)
        # A stream that says nothing for three heartbeats ends: Hello follows at once.
        epoch = (await lane(booking_dsn)).epoch
        async with raw_client(metrics.target) as forged:
            await forged.welcome(ours, epoch + 500, service="booking_service")
            await lane(booking_dsn, lambda found: found.epoch > epoch + 500)
            await delivered(booking_dsn)
            await send(booking_dsn, "b")
        epoch = (await lane(booking_dsn)).epoch
        async with raw_client(metrics.target) as forged:
            await forged.welcome(ours, epoch + 900, service="booking_service")
            await forked(booking_dsn, "the sink knows epoch")
            assert (await criteria(metrics, "fenced")).status == DatabaseHealth.UNHEALTHY
            await lane(booking_dsn, lambda _: booking.server.health.status is Status.DEGRADED)
            await send(booking_dsn, "c")
            await criteria(metrics, "")
        assert (await quality(metrics)).facts == 3
