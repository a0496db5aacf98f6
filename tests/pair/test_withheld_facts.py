"""While the metrics are away for long, facts stay in the audit trail alone, no booking fails, and a
refill brings the totals together again.
"""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from booking_service.cli.refill import Refill
from booking_service.storage.database import Database
from metrics_service.client.host import Status
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.postgres import PostgresServer
from tests.booking.running_service import RunningService
from tests.metrics.delivery_pair import until
from tests.pair.lane_pair import LanePair, criteria, delivered, fired, lane, quality

FACTS = "SELECT count(*) FROM booking_events"


@pytest.fixture
def pair(postgres: PostgresServer, booking_dsn: str, metrics_dsn: str) -> Iterator[LanePair]:
    made = LanePair(postgres, booking_dsn, metrics_dsn)
    yield made
    made.close()


async def book(booking: RunningService, package_id: str, count: int) -> None:
    """Two facts for each."""
    for number in range(count):
        await booking.completed(package_id, user_id=f"u{number}" + "x" * 100)


async def query(dsn: str, statement: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval(statement))
    finally:
        await connection.close()


def withheld_of(health: DatabaseHealth) -> list[float]:
    return [each.value for each in health.reasons if each.criterion == "withheld"]


async def refill(dsn: str) -> None:
    await Refill(Database(dsn), lambda _: None).run(None, rebuild=False)


@pytest.mark.processes
async def test_metrics_that_were_away_for_long_have_all_facts_after_a_refill(
    pair: LanePair, booking_dsn: str, metrics_dsn: str
) -> None:
    async with pair.booking(booking_dsn, BOOKING_DELIVERY_MAX_MB="0.01") as booking:
        package = await booking.package(capacity=1000)
        await book(booking, package.id, 30)
        while not (found := await lane(booking_dsn)).withheld:
            # Facts are withheld from the check on that finds too many of them.
            await book(booking, package.id, 10)
        await lane(booking_dsn, lambda _: booking.server.health.status is Status.DEGRADED)
        before = found.pending + found.withheld
        await book(booking, package.id, 10)
        facts = await query(booking_dsn, FACTS)
        assert facts == before + 20
        async with pair.metrics(metrics_dsn) as metrics:
            # What waited is stored; the rest is known to be lacking.
            await delivered(booking_dsn)
            health = await criteria(metrics, "withheld")
            assert health.status == DatabaseHealth.UNHEALTHY
            left = (await lane(booking_dsn)).withheld
            stored = (await quality(metrics)).facts
            assert (left > 0, stored + left) == (True, facts)
            await until(lambda: "facts_withheld" in fired(metrics))
            while withheld_of(health) != [left]:  # of a heartbeat before the last bookings
                health = await criteria(metrics, "withheld")
            await refill(booking_dsn)
            # New facts are sent again by themselves.
            await book(booking, package.id, 1)
            await delivered(booking_dsn)
            await criteria(metrics, "", "withheld")
            figures = await quality(metrics)
            assert (figures.facts, figures.duplicates) == (facts + 2, stored)
            assert (await lane(booking_dsn)).withheld == 0
