"""Database health of real processes: one metrics_service, and two booking_services that share a
database, of which one is frozen and of which backends are killed in mid-query.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import grpc
import pytest

from metrics_service.client.health import Criteria
from metrics_service.health.instances import REPLACED_AFTER_S
from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import health_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import (
    DatabaseHealth,
    GetDatabaseHealthRequest,
    InstanceHealth,
)
from servicekit.devstack import PostgresServer
from tests.pair.real_pair import Pair, serves

HEARTBEAT_S = 0.5
BOUND_S = 30.0
FAILED_MAX = Criteria().failed_max
SETTINGS = {
    "METRICS_HEARTBEAT_MS": str(int(HEARTBEAT_S * 1000)),
    "METRICS_HEALTH_UP_AFTER_S": "0",
    "METRICS_HEALTH_GAP_S": "0",
    "BOOKING_HEALTH_UP_AFTER_S": "0",
    "BOOKING_HEALTH_GAP_S": "0",
    "BOOKING_DATABASE_POOL_SIZE": str(FAILED_MAX + 5),
    # A sweep that waits for the lock would be taken for one of the reads that do.
    "BOOKING_SWEEP_INTERVAL_S": "3600",
}
pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


@dataclass
class Fleet:
    """`one` has metrics_service beside its booking_service, `two` a booking_service alone."""

    one: Pair
    two: Pair
    booking_dsn: str


@pytest.fixture(scope="module")
def fleet(
    postgres: PostgresServer,
    booking_template: str,
    metrics_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    booking_dsn = postgres.create_database("fleet_booking", template=booking_template)
    metrics_dsn = postgres.create_database("fleet_metrics", template=metrics_template)
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "two").mkdir()
    one = Pair(booking_dsn, metrics_dsn, folder, SETTINGS)
    target = {"BOOKING_METRICS_TARGET": one.metrics}
    two = Pair(booking_dsn, metrics_dsn, folder / "two", SETTINGS | target)
    try:
        one.start("metrics_service")
        one.start("booking_service")
        two.start("booking_service")
        yield Fleet(one, two, booking_dsn)
    finally:
        two.stop()
        one.stop()
        postgres.drop_database("fleet_booking")
        postgres.drop_database("fleet_metrics")


class Monitor:
    """What metrics_service says."""

    def __init__(self, fleet: Fleet, channel: grpc.aio.Channel) -> None:
        self._fleet = fleet
        self._health: health_pb2_grpc.HealthServiceAsyncStub = health_pb2_grpc.HealthServiceStub(
            channel
        )
        self._metrics: metrics_pb2_grpc.MetricsServiceAsyncStub = (
            metrics_pb2_grpc.MetricsServiceStub(channel)
        )

    async def verdict(self) -> DatabaseHealth:
        return await self._health.GetDatabaseHealth(GetDatabaseHealthRequest())

    async def until(self, holds: Callable[[DatabaseHealth], bool], what: str) -> DatabaseHealth:
        """The first verdict of which this holds."""
        give_up_s = time.monotonic() + BOUND_S
        while not holds(verdict := await self.verdict()):
            assert time.monotonic() < give_up_s, f"not {what}: {verdict}"
            await asyncio.sleep(0.05)
        return verdict

    async def outcomes(self, operation: str) -> list[tuple[str, str]]:
        """Outcome and SQLSTATE of an operation's queries."""
        request = metrics_pb2.ListRecentQueriesRequest(operation=operation)
        answer = await self._metrics.ListRecentQueries(request)
        return [(query.outcome, query.sqlstate) for query in answer.queries]


@pytest.fixture
async def monitor(fleet: Fleet) -> AsyncIterator[Monitor]:
    async with grpc.aio.insecure_channel(fleet.one.metrics) as channel:
        made = Monitor(fleet, channel)
        await made.until(
            lambda verdict: (
                [each.status for each in verdict.instances] == [DatabaseHealth.HEALTHY] * 2
            ),
            "both healthy",
        )
        yield made


def of_process(verdict: DatabaseHealth, pair: Pair) -> InstanceHealth:
    """The instance that is a pair's booking_service; its name holds the process id."""
    pid = f"-{pair.pid('booking_service')}-"
    (found,) = (each for each in verdict.instances if pid in each.instance)
    return found


def heard(verdict: DatabaseHealth, *pairs: Pair) -> bool:
    """Whether none of these is stale: on a paused machine any may be for a moment."""
    return all(of_process(verdict, pair).status != DatabaseHealth.STALE for pair in pairs)


async def served(target: str, service: str, *, but_not: bool = False) -> None:
    """Returns once grpc.health.v1 says SERVING of a service, or that it does not."""
    give_up_s = time.monotonic() + BOUND_S
    while await asyncio.to_thread(serves, target, service) == but_not:
        assert time.monotonic() < give_up_s, service


async def test_a_frozen_process_is_stale_with_its_age_and_back_once_it_runs(
    fleet: Fleet, monitor: Monitor
) -> None:
    frozen = fleet.two.pid("booking_service")
    os.kill(frozen, signal.SIGSTOP)
    try:
        verdict = await monitor.until(
            lambda verdict: (
                verdict.status == DatabaseHealth.STALE
                and of_process(verdict, fleet.two).heartbeat_age.ToMilliseconds() > 2_000
                and heard(verdict, fleet.one)
            ),
            "stale for two seconds",
        )
        assert not serves(fleet.one.metrics, "database")
        assert serves(fleet.one.metrics)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert of_process(verdict, fleet.one).status == DatabaseHealth.HEALTHY
    stale = of_process(verdict, fleet.two)
    assert stale.status == DatabaseHealth.STALE
    assert stale.HasField("monitor")
    (reason,) = verdict.reasons
    assert (reason.criterion, reason.instance) == ("heartbeat", stale.instance)
    assert reason.threshold == pytest.approx(3 * HEARTBEAT_S)
    assert reason.value > 2.0
    assert reason.message == f"no heartbeat for {reason.value:.1f} s"

    verdict = await monitor.until(
        lambda verdict: heard(verdict, fleet.one, fleet.two), "heard again"
    )
    assert verdict.status == of_process(verdict, fleet.two).status == DatabaseHealth.HEALTHY
    await served(fleet.one.metrics, "database")


async def test_a_killed_process_gives_way_to_its_successor_at_once(
    fleet: Fleet, monitor: Monitor
) -> None:
    killed = of_process(await monitor.verdict(), fleet.two).instance
    fleet.two.kill("booking_service")
    # In this thread: the process ends with the one that started it.
    fleet.two.start("booking_service")
    verdict = await monitor.until(
        lambda verdict: (
            killed not in {each.instance for each in verdict.instances}
            and [each.status for each in verdict.instances] == [DatabaseHealth.HEALTHY] * 2
        ),
        "its successor alone",
    )
    assert verdict.status == DatabaseHealth.HEALTHY
    assert BOUND_S < REPLACED_AFTER_S, "else it would have gone without a successor"


async def test_backends_killed_in_mid_query_are_one_failure_each_and_turn_health_at_once(
    fleet: Fleet, monitor: Monitor
) -> None:
    async with grpc.aio.insecure_channel(fleet.two.booking) as channel:
        catalog: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(
            channel
        )
        await killed_in_mid_query(fleet.booking_dsn, catalog, 1)
        verdict = await monitor.until(
            lambda verdict: verdict.figures.failed > 0 and heard(verdict, fleet.one, fleet.two),
            "one failure counted",
        )
        assert verdict.status == DatabaseHealth.HEALTHY
        assert (verdict.figures.failed, of_process(verdict, fleet.two).figures.failed) == (1, 1)

        await killed_in_mid_query(fleet.booking_dsn, catalog, FAILED_MAX)
        # Never is the count seen without the verdict.
        verdict = await monitor.until(
            lambda verdict: (
                of_process(verdict, fleet.two).figures.failed > FAILED_MAX
                and heard(verdict, fleet.one, fleet.two)
            ),
            "every failure counted",
        )
    assert verdict.figures.failed == FAILED_MAX + 1
    assert verdict.status == DatabaseHealth.UNHEALTHY
    assert of_process(verdict, fleet.two).status == DatabaseHealth.UNHEALTHY
    assert of_process(verdict, fleet.one).status == DatabaseHealth.HEALTHY
    (reason,) = verdict.reasons
    assert (reason.criterion, reason.value) == ("failed", FAILED_MAX + 1)
    assert list(reason.operations) == ["packages.get_details"]
    assert not serves(fleet.one.metrics, "database")
    # Each process says so of itself; its RPCs go on being served.
    await served(fleet.two.booking, "database", but_not=True)
    await served(fleet.two.booking, "booking.v1.CatalogService")
    await served(fleet.one.booking, "database")

    give_up_s = time.monotonic() + BOUND_S
    while len(outcomes := await monitor.outcomes("packages.get_details")) <= FAILED_MAX:
        assert time.monotonic() < give_up_s
    assert outcomes == [("connection_lost", "57P01")] * (FAILED_MAX + 1)


async def killed_in_mid_query(
    dsn: str, catalog: catalog_pb2_grpc.CatalogServiceAsyncStub, count: int
) -> None:
    """So many reads wait for a lock, and then their backends are killed."""
    # A transaction sees one state of pg_stat_activity for as long as it lasts.
    locker, observer = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    try:
        async with locker.transaction():
            await locker.execute("LOCK TABLE packages IN ACCESS EXCLUSIVE MODE")
            calls = [
                asyncio.ensure_future(
                    catalog.GetPackage(catalog_pb2.GetPackageRequest(package_id=str(uuid4())))
                )
                for _ in range(count)
            ]
            give_up_s = time.monotonic() + BOUND_S
            while len(blocked := await observer.fetch(BLOCKED)) < count:
                assert time.monotonic() < give_up_s, f"{len(blocked)} wait"
            for row in blocked:
                await observer.execute("SELECT pg_terminate_backend($1)", row["pid"])
            answers = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        await locker.close()
        await observer.close()
    for answer in answers:
        assert isinstance(answer, grpc.aio.AioRpcError)
        assert answer.code() is grpc.StatusCode.UNAVAILABLE


BLOCKED = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'booking_service'
        AND wait_event_type = 'Lock' AND state = 'active'
"""
