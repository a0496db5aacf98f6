"""GET /metrics of a whole service: the same figures as every other door, at one revision."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from metrics_service.storage.deployments import Deployments
from metrics_service.web.scrape import process_now
from metrics_service.web.scrape.declarations import METRICS
from metrics_service.web.scrape.deployments import NewestDeployments
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, StreamMetricsRequest
from tests.docs.test_health_reasons import rows
from tests.metrics.own_postgres import own_postgres
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until
from tests.metrics.test_start import starting
from tests.metrics.web.scrape.figures_of import families_of, samples, scraped

EVERYWHERE = {metric.family for metric in METRICS if metric.everywhere}
# The series are there once there is something that they are about.
LATER = {
    "farehold_checkpoint_timestamp_seconds",
    "farehold_deployment_timestamp_seconds",
    "farehold_db_queries",
    "farehold_db_query_duration_seconds",
    "farehold_db_rows",
    "farehold_db_slow_queries",
    "farehold_errors",
    "farehold_monitor_held_bytes",
    "farehold_monitor_overhead_seconds",
    "farehold_producer_facts_pending",
    "farehold_rpc_calls",
    "farehold_rpc_queries",
}


async def folded(service: Service, count: int) -> None:
    await until(
        lambda: service.server.engine.state.metrics().business.confirmed >= count,
        f"{count} confirmed bookings",
    )


async def served(service: Service) -> set[str]:
    """The families that are served."""
    return {family.name for family in families_of((await scraped(service.http_port)).text)}


async def doors(service: Service) -> list[tuple[int, int]]:
    """Revision and confirmed bookings by RPC, stream, HTTP and /metrics."""
    found = await samples(service.http_port)
    snapshot = await service.metrics.GetMetrics(GetMetricsRequest())
    stream = service.metrics.StreamMetrics(StreamMetricsRequest())
    frame: Any = await stream.read()
    stream.cancel()
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{service.http_port}/api/metrics/bookings")
    body = answer.json()
    return [
        (snapshot.revision, snapshot.business.confirmed),
        (frame.snapshot.revision, frame.snapshot.business.confirmed),
        (body["revision"], body["metrics"]["business"]["confirmed"]),
        (
            int(found["farehold_state_revision",]),
            int(found["farehold_bookings_total", "confirmed"]),
        ),
    ]


async def test_confirmed_bookings_are_equal_at_every_door_at_one_revision(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        for count, confirmed in ((1, 1), (3, 4)):
            producer.book(count)
            await folded(service, confirmed)
            async with asyncio.timeout(BOUND_S):
                # The log ticks meanwhile: until all four have met one revision.
                while len({*(answers := await doors(service))}) > 1:
                    assert {confirmed} == {found for _, found in answers}
            assert {found for _, found in answers} == {confirmed}


async def test_every_declared_metric_is_served_and_no_other(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book()
        await folded(service, 1)
        declared = {metric.family for metric in METRICS}
        await until(lambda: service.server.alerts.leads, "the alerts")
        await until(lambda: service.server.alerts.evaluator.judged_us, "a judgement")
        async with asyncio.timeout(BOUND_S):
            while not declared - LATER <= (names := await served(service)) <= declared:
                assert names <= declared
        found = await samples(service.http_port)
        assert found["farehold_role", "active"] == 1
        assert found["farehold_alerts", "high_error_rate", "critical", "firing"] == 0
        assert found["farehold_db_health", "healthy"] == 1
        assert found["farehold_db_probe_up", "booking-1"] == 1
        heard_s = found["farehold_producer_last_heartbeat_timestamp_seconds", "booking-1"]
        assert abs(heard_s - time.time()) < 60
        calls = ("unary", "metrics.v1.MetricsService", "GetMetrics")
        assert found["grpc_server_handled_total", *calls, "OK"] == 0


async def test_names_from_outside_are_labels(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        hostile = '"} 1\nfarehold_bookings_total{transition="confirmed"} 9 <script>[red]\x1b[31m\\'
        service.server.health.on_hello(hostile, "booking_service")
        found = await samples(service.http_port)
        assert ("farehold_producer_last_heartbeat_timestamp_seconds", hostile) in found
        assert found["farehold_bookings_total", "confirmed"] == 0


@pytest.mark.processes
async def test_it_is_right_while_the_log_is_away() -> None:
    with own_postgres() as postgres:
        async with running(postgres.dsn) as service, Producer(service) as producer:
            producer.book(2)
            await folded(service, 2)
            before = await samples(service.http_port)
            assert before["farehold_log_writable",] == 1
            postgres.kill()
            await until(lambda: not service.server.event_log.leading, "the loss of the log")
            async with asyncio.timeout(BOUND_S):
                while (await samples(service.http_port))["farehold_log_writable",]:
                    pass
            away = await samples(service.http_port)
            assert away["farehold_bookings_total", "confirmed"] == 2
            assert away["farehold_role", "active"] == 1
            assert away["farehold_db_health_reason", "log"] == 1
            failures = {key: n for key, n in away.items() if "collector" in key[0]}
            postgres.start()
            await until(lambda: service.server.event_log.leading, "the lead")
    assert not any(failures.values())


@pytest.mark.processes
async def test_a_standby_serves_what_is_of_every_process_and_no_figures(metrics_dsn: str) -> None:
    async with running(metrics_dsn), starting(metrics_dsn) as (second, _):
        await until(lambda: second.server._begun, "the wait for the lead")
        found = await samples(second.http_port)
        assert await served(second) == EVERYWHERE
        assert (found["farehold_role", "active"], found["farehold_role", "standby"]) == (0, 1)


async def test_a_part_that_fails_leaves_the_others_and_has_the_state_checked(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(metrics_dsn) as service:
        monkeypatch.setattr(process_now, "verdict", lambda _: 1 / 0)
        monkeypatch.setattr(type(service.server.engine.state), "counters", lambda _: 1 / 0)
        suspected: list[None] = []
        monkeypatch.setattr(service.server.engine, "suspect", lambda: suspected.append(None))
        with capture_logs() as lines:
            found = await samples(service.http_port)
        assert found["farehold_collector_failures_total", "verdict"] == 1
        assert found["farehold_collector_failures_total", "figures"] == 1
        assert found["farehold_log_writable",] == 1
        assert ("farehold_db_health", "healthy") not in found
        assert ("farehold_bookings_total", "confirmed") not in found
        assert suspected == [None]
        assert "metrics_collection_failed" in {line["event"] for line in lines}


async def test_the_newest_deployments_stay_known_while_their_database_is_away(
    metrics_dsn: str,
) -> None:
    kept = Deployments(metrics_dsn)
    for number in range(7):
        await kept.mark(f"v{number}", 1_000_000 * number, "test")
    newest = NewestDeployments(kept)
    await newest.read()
    (family,) = newest.families()
    assert dict(family.samples) == {(f"v{number}",): number for number in range(2, 7)}
    kept._dsn = "postgresql://nobody@127.0.0.1:1/none"
    await newest.read()
    assert next(newest.families()) == family


def test_every_criterion_of_a_verdict_has_its_series() -> None:
    assert sorted(process_now.CRITERIA) == sorted(rows())
