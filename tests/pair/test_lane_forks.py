"""A fork is a state that both healths report, and it has a way out; its gap is exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from booking_service.delivery import fact_lane, fork
from booking_service.delivery.fork import Gap, NoForkError
from booking_service.storage.database import Database
from metrics_service.alerts import notify
from metrics_service.client.host import Status
from metrics_service.client.stream import lane_sender
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
    forked,
    lane,
    quality,
)


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_sender, "FORK_RETRY_S", 0.2)


@pytest.fixture
def pair(postgres: PostgresServer) -> Iterator[LanePair]:
    made = LanePair(postgres)
    yield made
    made.close()


async def accept(dsn: str) -> Gap:
    return await fork.accept(Database(dsn))


async def test_a_restored_booking_database_is_reported_and_goes_on_when_it_is_accepted(
    pair: LanePair, booking_dsn: str, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts: list[notify.Notice] = []
    monkeypatch.setattr(notify.NullNotifier, "send", lambda _, notice: alerts.append(notice))
    async with pair.metrics(metrics_dsn) as metrics:
        async with pair.booking(booking_dsn):
            await commit(booking_dsn, "a", "b", "c")
            await delivered(booking_dsn)
        # Some facts wait in the backup and are delivered after it.
        await commit(booking_dsn, "d", "e")
        backup = pair.copy(booking_dsn)
        async with pair.booking(booking_dsn):
            await commit(booking_dsn, "f", "g", "h")
            before = await delivered(booking_dsn)
        async with pair.booking(backup) as booking:
            await commit(backup, "new")
            found = await forked(backup)
            health = await criteria(metrics, "forked")
            assert health.status == DatabaseHealth.UNHEALTHY
            assert booking.server.health.status is not Status.UNHEALTHY
            await lane(backup, lambda _: booking.server.health.status is Status.DEGRADED)
            await until(lambda: [(one.rule, one.level) for one in alerts] == [("forked", "error")])
            assert (await quality(metrics)).facts == 8
            assert await accept(backup) == Gap(lacking=0, beyond=5, sent=3)
            after = await delivered(backup)
            await criteria(metrics, "")
            figures = await quality(metrics)
    assert before.producer_id == found.producer_id != after.producer_id
    assert after.sink_id == before.sink_id
    assert after.epoch > found.epoch
    # "d" and "e" were sent again, and have no second effect: three facts are beyond.
    assert (figures.facts, figures.duplicates, figures.facts_gaps) == (9, 2, 1)
    assert (figures.facts_beyond, figures.facts_lacking) == (3, 0)


async def test_lost_metrics_get_what_is_kept_and_a_gap_that_counts_the_rest(
    pair: LanePair, booking_dsn: str, metrics_dsn: str, metrics_template: str
) -> None:
    async with pair.booking(booking_dsn):
        async with pair.metrics(metrics_dsn) as metrics:
            for name in ("a", "b", "c", "d"):
                await commit(booking_dsn, name)
                await delivered(booking_dsn)
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
    assert (figures.facts, figures.facts_lacking, figures.facts_beyond) == (3, 2, 0)


async def test_restored_metrics_within_the_kept_segments_are_no_fork(
    pair: LanePair, booking_dsn: str, metrics_dsn: str
) -> None:
    async with pair.booking(booking_dsn):
        async with pair.metrics(metrics_dsn):
            await commit(booking_dsn, "a")
            await delivered(booking_dsn)
        backup = pair.copy(metrics_dsn)
        async with pair.metrics(metrics_dsn):
            await commit(booking_dsn, "b", "c")
            await delivered(booking_dsn)
        async with pair.metrics(backup) as metrics:
            await commit(booking_dsn, "d")
            found = await delivered(booking_dsn)
            assert (await quality(metrics)).facts == 4
    assert found.fork is None


async def test_restored_metrics_beyond_the_kept_segments_lack_an_exact_number(
    pair: LanePair, booking_dsn: str, metrics_dsn: str
) -> None:
    async with pair.booking(booking_dsn):
        async with pair.metrics(metrics_dsn):
            await commit(booking_dsn, "a")
            await delivered(booking_dsn)
        backup = pair.copy(metrics_dsn)
        async with pair.metrics(metrics_dsn):
            for name in ("b", "c", "d"):
                await commit(booking_dsn, name)
                await delivered(booking_dsn)
        await execute(booking_dsn, "DELETE FROM segment WHERE seq <= 3")
        async with pair.metrics(backup) as metrics:
            await forked(booking_dsn, "the sink lacks batch 2; kept from 4 on")
            # Restored again, from a newer copy: it goes on by itself.
        async with pair.metrics(metrics_dsn):
            await lane(booking_dsn, lambda found: found.fork is None)
            with pytest.raises(NoForkError):
                await accept(booking_dsn)
        async with pair.metrics(backup) as metrics:
            await forked(booking_dsn)
            assert await accept(booking_dsn) == Gap(lacking=2, beyond=0, sent=1)
            await delivered(booking_dsn)
            figures = await quality(metrics)
    assert (figures.facts, figures.facts_lacking) == (2, 2)


async def test_facts_are_not_mixed_with_those_of_another_pair(
    pair: LanePair, booking_dsn: str, metrics_dsn: str, booking_template: str
) -> None:
    other = pair.create(booking_template)
    # Templates of the tests share one producer.
    await execute(other, "UPDATE relay SET producer_id = gen_random_uuid()")
    async with pair.metrics(metrics_dsn) as metrics:
        async with pair.booking(booking_dsn):
            await commit(booking_dsn, "ours")
            await delivered(booking_dsn)
        async with pair.booking(other):
            await commit(other, "theirs")
            found = await forked(other, "another booking database")
            with pytest.raises(NoForkError, match="BOOKING_METRICS_TARGET"):
                await accept(other)
        async with pair.booking(booking_dsn):
            await commit(booking_dsn, "more")
            await delivered(booking_dsn)
        assert (await quality(metrics)).facts == 2
    assert found.sink_id is None


async def test_a_forged_epoch_is_reported_as_fenced_and_overtaken(
    pair: LanePair, booking_dsn: str, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_lane, "FENCED_RETRY_S", 1.5)
    async with pair.metrics(metrics_dsn) as metrics, pair.booking(booking_dsn) as booking:
        await commit(booking_dsn, "a")
        ours = str((await delivered(booking_dsn)).producer_id)
        async with raw_client(metrics.target) as forged:
            epoch = (await lane(booking_dsn)).epoch
            await forged.welcome(ours, epoch + 500)
            await lane(booking_dsn, lambda found: found.epoch > epoch + 500)
            await delivered(booking_dsn)
            await commit(booking_dsn, "b")
            await delivered(booking_dsn)
        async with raw_client(metrics.target) as forged:
            await forged.welcome(ours, (await lane(booking_dsn)).epoch + 900)
            await forked(booking_dsn, "the sink knows epoch")
            assert (await criteria(metrics, "fenced")).status == DatabaseHealth.UNHEALTHY
            await lane(booking_dsn, lambda _: booking.server.health.status is Status.DEGRADED)
            await commit(booking_dsn, "c")
            await delivered(booking_dsn)
            await criteria(metrics, "")
        assert (await quality(metrics)).facts == 3
