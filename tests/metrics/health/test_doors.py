"""Database health over every interface, from heartbeats of a real stream and the service's log."""

from __future__ import annotations

import asyncio
import math

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration

from metrics_service.storage.sql import QueryGroup
from protos.metrics.v1.alert_pb2 import AlertEvent, StreamAlertsResponse
from protos.metrics.v1.health_pb2 import (
    DatabaseHealth,
    GetDatabaseHealthRequest,
    LogHealth,
    WatchDatabaseHealthRequest,
)
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest
from protos.tracking.v1 import tracking_pb2_grpc
from protos.tracking.v1.tracking_pb2 import (
    LANE_TELEMETRY,
    ClientFrame,
    ClientHeartbeat,
    Hello,
    Probe,
    Signals,
)
from tests.allowance import Stopwatch, in_time
from tests.metrics.eventlog.test_roles import taking_the_lock
from tests.metrics.own_postgres import own_postgres
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until

EVERY_SERVICE = (
    "metrics.v1.MetricsService",
    "metrics.v1.HealthService",
    "tracking.v1.TrackingService",
)


async def turned(service: Service, status: DatabaseHealth.Status.ValueType) -> DatabaseHealth:
    """Wait until the verdict is this one."""
    async with asyncio.timeout(BOUND_S):
        watching = service.health.WatchDatabaseHealth(
            WatchDatabaseHealthRequest(interval=Duration(seconds=60))
        )
        async for health in watching:
            if health.status == status:
                watching.cancel()
                return health
    raise AssertionError("the stream ended")


async def http_status(service: Service) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client:
        url = f"http://127.0.0.1:{service.http_port}/api/health/database"
        return (await client.get(url)).status_code


async def changes_of(service: Service, rule: str, last: str) -> list[AlertEvent]:
    """What has happened to alerts of a rule, once that is stored up to this change."""
    number, found = 0, list[AlertEvent]()
    async with asyncio.timeout(BOUND_S):
        while not found or found[-1].change != last:
            number, frames = await service.server.alerts.feed.after(number, BOUND_S)
            events = (StreamAlertsResponse.FromString(frame).event for frame in frames)
            found += [event for event in events if event.rule == rule]
    return found


async def test_before_any_report_the_process_serves_and_the_database_is_unknown(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service:
        health = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.status == DatabaseHealth.STATUS_UNSPECIFIED
        assert health.log.writable
        assert await service.serving("")
        assert [await service.serving(name) for name in EVERY_SERVICE] == [True] * 3
        assert not await service.serving("database")
        assert await http_status(service) == 503


@pytest.mark.processes
async def test_a_producers_probe_shows_everywhere_at_once_and_is_alerted(
    metrics_dsn: str,
) -> None:
    # No regular heartbeat falls into this test: only the signal of the probe is shown.
    async with (
        running(metrics_dsn, METRICS_HEARTBEAT_MS="60000") as service,
        Producer(service) as producer,
    ):
        await turned(service, DatabaseHealth.HEALTHY)
        assert await service.serving("database")
        assert await http_status(service) == 200

        producer.report(Probe.UNREACHABLE)
        health = await turned(service, DatabaseHealth.UNHEALTHY)
        assert [(each.criterion, each.instance) for each in health.reasons] == [
            ("probe", "booking-1")
        ]
        assert not await service.serving("database")
        assert await service.serving("")
        assert [await service.serving(name) for name in EVERY_SERVICE] == [True] * 3
        assert await http_status(service) == 503
        (event,) = await changes_of(service, "database_unhealthy", "fired")
        assert "booking-1: the database does not answer" in event.summary

        producer.report(Probe.REACHABLE)
        await turned(service, DatabaseHealth.HEALTHY)
        assert await service.serving("database")
        changes = await changes_of(service, "database_unhealthy", "resolved")
        assert [each.change for each in changes] == ["fired", "resolved"]


async def test_what_monitoring_costs_a_producer_is_shown_over_rpc_and_http(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.signals.monitor.queries = 400
        producer.signals.monitor.overhead_ns = 6_500
        producer.stream.beat()
        await until(
            lambda: (
                [each.monitor.queries for each in service.server.health.verdict().instances]
                == [400]
            ),
            "the cost",
        )
        health = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
        assert health.instances[0].monitor.overhead_us == 6.5
        async with httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client:
            url = f"http://127.0.0.1:{service.http_port}/api/health/database"
            (instance,) = (await client.get(url)).json()["instances"]
        assert instance["monitor"]["overhead_us"] == 6.5
        assert instance["monitor"]["looks_skipped"] == 0


async def test_a_silent_producer_is_stale_and_one_that_leaves_is_forgotten(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service:
        stream = tracking_pb2_grpc.TrackingServiceStub(service.channel).Stream()
        hello = Hello(
            lane=LANE_TELEMETRY,
            producer_id="dies",
            epoch=1,
            schema=1,
            service="booking_service",
            instance="dies",
        )
        await stream.write(ClientFrame(hello=hello))
        signals = Signals(probe=Probe(result=Probe.REACHABLE))
        await stream.write(ClientFrame(heartbeat=ClientHeartbeat(signals=signals)))
        async with Producer(service, "leaves"):
            await until(
                lambda: len(service.server.health.verdict().instances) == 2, "both instances"
            )
            # Without Goodbye.
            stream.cancel()
            health = await turned(service, DatabaseHealth.STALE)
            assert [(each.criterion, each.instance) for each in health.reasons] == [
                ("heartbeat", "dies")
            ]
            assert not await service.serving("database")
        await until(
            lambda: (
                [each.instance for each in service.server.health.verdict().instances] == ["dies"]
            ),
            "the goodbye",
        )
        assert (await turned(service, DatabaseHealth.STALE)).instances[0].probe == "reachable"


async def test_a_stranger_turns_nothing_whether_it_stays_or_goes(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service):
        await turned(service, DatabaseHealth.HEALTHY)
        stream = tracking_pb2_grpc.TrackingServiceStub(service.channel).Stream()
        hello = Hello(
            lane=LANE_TELEMETRY, producer_id="x", epoch=1, schema=1, service="x", instance="x"
        )
        await stream.write(ClientFrame(hello=hello))
        signals = Signals(probe=Probe(result=Probe.UNREACHABLE))
        signals.queries.total = signals.queries.failed = 100
        sketch = signals.queries.execute_us
        sketch.sum = sketch.min = sketch.max = math.nan
        sketch.index_delta.append(1)
        sketch.count.append(100)
        await stream.write(ClientFrame(heartbeat=ClientHeartbeat(signals=signals)))

        def statuses() -> list[tuple[str, int, bool]]:
            instances = service.server.health.verdict().instances
            return [(each.instance, each.status, each.gone) for each in instances]

        known = ("booking-1", DatabaseHealth.HEALTHY, False)
        await until(
            lambda: statuses() == [known, ("x", DatabaseHealth.UNHEALTHY, False)], "the stranger"
        )
        assert await http_status(service) == 200
        stream.cancel()
        await until(lambda: statuses() == [known, ("x", DatabaseHealth.STALE, True)], "its silence")
        assert await http_status(service) == 200
        assert await service.serving("database")


async def test_facts_that_are_not_stored_show_and_go_once_they_are(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        await turned(service, DatabaseHealth.HEALTHY)
        producer.signals.facts_pending = 4
        health = await turned(service, DatabaseHealth.UNHEALTHY)
        assert [(each.criterion, each.samples) for each in health.reasons] == [("undelivered", 4)]
        assert await http_status(service) == 503
        producer.book()
        await turned(service, DatabaseHealth.HEALTHY)
        producer.signals.facts_pending = 0


@pytest.mark.processes
async def test_a_lost_lead_shows_everywhere_and_is_alerted_until_it_leads_again(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service, Producer(service):
        await turned(service, DatabaseHealth.HEALTHY)
        await until(lambda: service.server.alerts.leads, "the alerts")
        health = service.server.health
        assert health.verdict().log.role == LogHealth.LEADER
        async with taking_the_lock(metrics_dsn) as other:
            await other.fetchrow(QueryGroup("log").take_lead)
            await until(
                lambda: [each.criterion for each in health.verdict().reasons] == ["lead_lost"],
                "the lost lead",
            )
            answer = await service.health.GetDatabaseHealth(GetDatabaseHealthRequest())
            assert answer.log.role == LogHealth.LEAD_LOST
            await until(
                lambda: "lead_lost" in {alert.rule for alert in service.server.alerts.present},
                "the alert",
            )
            assert answer.status == DatabaseHealth.UNHEALTHY
            assert await http_status(service) == 503
            assert not await service.serving("database")
        await turned(service, DatabaseHealth.HEALTHY)
        begun, over = await changes_of(service, "lead_lost", "resolved")
        assert (begun.change, begun.alert_id) == ("fired", over.alert_id)
        assert begun.summary.endswith(
            "the log cannot be written: another process has taken over from this one"
        )


@pytest.mark.processes
@pytest.mark.timed
async def test_losing_the_services_own_database_shows_and_recovers_by_itself() -> None:
    with own_postgres() as postgres:
        async with (
            running(postgres.dsn) as service,
            Producer(service) as producer,
        ):
            producer.book(2)
            await turned(service, DatabaseHealth.HEALTHY)
            await until(lambda: producer.facts.acknowledged == 1, "the first batch")

            await asyncio.to_thread(postgres.kill)
            with Stopwatch() as passed:
                health = await turned(service, DatabaseHealth.UNHEALTHY)
            assert in_time(passed, 2.0)
            assert [each.criterion for each in health.reasons] == ["log"]
            assert not health.log.writable
            assert not await service.serving("database")
            assert await service.serving("")
            assert await http_status(service) == 503

            # Heartbeats are received and reads are answered meanwhile.
            producer.report(Probe.UNREACHABLE)
            await until(
                lambda: (
                    "probe" in {each.criterion for each in service.server.health.verdict().reasons}
                ),
                "the probe's result",
            )
            snapshot = await service.metrics.GetMetrics(GetMetricsRequest())
            assert snapshot.business.confirmed == 2
            producer.book(3)

            await asyncio.to_thread(postgres.start)
            producer.report(Probe.REACHABLE)
            health = await turned(service, DatabaseHealth.HEALTHY)
            assert health.log.writable
            assert await service.serving("database")
            await until(
                lambda: service.server.engine.state.metrics(None).business.confirmed == 5,
                "what was booked meanwhile",
            )
