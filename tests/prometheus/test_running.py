"""A real Prometheus scrapes the running pair, and hands what fires to a real Alertmanager."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from booking_service.storage.sql import QUERIES
from deploy import observability
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from servicekit.binaries import end_with_parent, free_port
from servicekit.devstack import PostgresServer
from tests.metrics.alerts.targets.receiver import Receiver, listening
from tests.pair.real_pair import Pair
from tests.prometheus.asked import BOUND_S, get, until
from tests.prometheus.dashboards import FILES, expressions, replaced
from tests.prometheus.traffic import Traffic
from tests.requires import program

CONFIRMED = 3
DEPLOY = observability.FOLDER
# What has no series while nothing is wrong.
EMPTY = {
    "overview: Alerts now A",
    "overview: Losses an hour C",
    "overview: Firing alerts",
    "database: Reasons of the verdict A",
    "database: Firing alerts",
}

# The query of GetPackage waits for a lock, for longer than what is critical; others may wait too.
WAITS = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND clock_timestamp() - query_start > '1.1 s' AND query = $1
"""
QUERY = "packages.get_details"

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]


@dataclass
class Watched:
    """The pair, what scrapes it, and whom alerts arrive at."""

    pair: Pair
    traffic: Traffic
    receiver: Receiver
    prometheus: str
    booking_dsn: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        answer = get(self.prometheus, "/api/v1/query", query=expression)
        result = answer["data"]["result"]
        if answer["data"]["resultType"] in ("scalar", "string"):
            return [{"metric": {}, "value": result}]
        return list(result)


@pytest.fixture(scope="module")
def watched(
    postgres: PostgresServer,
    booking_template: str,
    metrics_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    programs = program("prometheus"), program("prometheus-alertmanager")
    booking_dsn = postgres.create_database("scraped_booking", template=booking_template)
    metrics_dsn = postgres.create_database("scraped_metrics", template=metrics_template)
    folder = tmp_path_factory.mktemp("scraped")
    booking, prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(3))
    settings = {"BOOKING_HTTP_PORT": booking.split(":")[1], "METRICS_CHECKPOINT_INTERVAL_S": "1"}
    pair = Pair(booking_dsn, metrics_dsn, folder, settings)
    try:
        pair.start("metrics_service")
        pair.start("booking_service")
        with listening() as receiver:
            routes = configure(folder, pair.http, booking, alertmanager, receiver.url)
            commands = (
                observability.prometheus_command(programs[0], folder, prometheus),
                observability.alertmanager_command(programs[1], routes, folder, alertmanager),
            )
            with running(folder / "prometheus.log", commands):
                traffic = Traffic(pair)
                traffic.deploy("1.2.3")
                yield Watched(pair, traffic, receiver, prometheus, booking_dsn)
                traffic.close()
    finally:
        pair.stop()
        postgres.drop_database("scraped_booking")
        postgres.drop_database("scraped_metrics")


def configure(folder: Path, metrics: str, booking: str, alertmanager: str, receiver: str) -> Path:
    """Writes what is shipped, with the addresses of this test, and waits of a second; returns the
    file of Alertmanager.
    """
    rules = (DEPLOY / "rules.yml").read_text()
    assert "keep_firing_for: 1m" in rules
    (folder / "rules.yml").write_text(rules.replace("keep_firing_for: 1m", "keep_firing_for: 1s"))
    text = observability.configure(
        {
            observability.METRICS: metrics,
            observability.BOOKING: booking,
            observability.ALERTMANAGER: alertmanager,
            "_interval: 15s": "_interval: 1s",
            f"- {DEPLOY / 'rules.yml'}": "- rules.yml",
        }
    )
    (folder / "prometheus.yml").write_text(text)
    routes = (DEPLOY / "alertmanager.yml").read_text()
    for old, new in {
        "group_wait: 30s": "group_wait: 0s",
        "group_interval: 5m": "group_interval: 1s",
        "- name: page\n": f"- name: page\n    webhook_configs: [{{url: '{receiver}'}}]\n",
    }.items():
        assert routes.count(old) == 1, old
        routes = routes.replace(old, new)
    (folder / "alertmanager.yml").write_text(routes)
    return folder / "alertmanager.yml"


@contextmanager
def running(log: Path, commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """The programs, until the end of the block."""
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        for command in commands:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, preexec_fn=end_with_parent
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def test_prometheus_and_the_rpc_count_the_same_at_one_revision(watched: Watched) -> None:
    watched.traffic.run(CONFIRMED)
    names = ("farehold_state_revision", "farehold_bookings_total", "farehold_revenue_gross_total")
    with grpc.insecure_channel(watched.pair.metrics) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)

        def both() -> tuple[metrics_pb2.MetricsSnapshot, dict[str, str]]:
            # One scrape answers all: Prometheus shows what it read last.
            found = watched.query(f'{{__name__=~"{"|".join(names)}"}}')
            scraped = {
                "/".join([each["metric"]["__name__"], *labels_of(each["metric"])]): each["value"][1]
                for each in found
            }
            return stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=10), scraped

        answer, scraped = until(
            both,
            lambda found: (
                found[0].business.confirmed > CONFIRMED
                and str(found[0].revision) == found[1].get("farehold_state_revision")
            ),
            "at one revision",
        )
    assert scraped["farehold_bookings_total/confirmed"] == str(answer.business.confirmed)
    assert scraped["farehold_bookings_total/started"] == str(answer.funnel.bookings_started)
    (euro,) = answer.business.revenue
    assert float(scraped["farehold_revenue_gross_total/EUR"]) * 100 == euro.gross_minor


def labels_of(metric: dict[str, str]) -> list[str]:
    """The values of a metric's own labels."""
    scraped = ("__name__", "job", "instance")
    return [value for name, value in sorted(metric.items()) if name not in scraped]


def test_an_alert_of_the_service_arrives_at_alertmanager_and_so_does_its_end(
    watched: Watched,
) -> None:
    frozen = watched.pair.pid("booking_service")
    os.kill(frozen, signal.SIGSTOP)
    try:
        fired = arriving(watched, "firing")
    finally:
        os.kill(frozen, signal.SIGCONT)
    labels = {"alertname": "FareholdAlert", "job": "metrics_service", "rule": "ingest_stalled"}
    assert fired["labels"] == labels | {"severity": "critical"}
    assert fired["annotations"]["summary"] == "ingest_stalled fires"
    ended = arriving(watched, "resolved")
    assert ended["fingerprint"] == fired["fingerprint"]
    assert ended["startsAt"] == fired["startsAt"]


def arriving(watched: Watched, status: str) -> dict[str, Any]:
    """The next alert of the service with a status; others may come in between."""

    def arrived() -> list[dict[str, Any]]:
        return [
            alert
            for request in watched.receiver.requests
            for alert in request.json["alerts"]
            if alert["labels"].get("rule") == "ingest_stalled" and alert["status"] == status
        ]

    return until(arrived, bool, status)[0]


# Last: what is read each half minute, such as deployments, is there by now.
def test_every_expression_has_what_it_asks_for(watched: Watched) -> None:
    watched.traffic.run(CONFIRMED)
    asked = {
        where: replaced(expression) for path in FILES for where, expression in expressions(path)
    }
    assert len(asked) > 70
    assert asked.keys() >= EMPTY
    until(
        lambda: {where for where, expression in asked.items() if not watched.query(expression)},
        lambda empty: empty <= EMPTY,
        "something for each expression",
    )
    groups = get(watched.prometheus, "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert [name for name in recorded if not watched.query(name)] == []
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == ["FareholdWatchdog"]


# After all others, since it makes an alert fire.
async def test_a_slow_query_is_marked_with_the_trace_of_its_caller(watched: Watched) -> None:
    trace_id = uuid4().hex
    begun_s = time.time()
    holder = await asyncpg.connect(watched.booking_dsn)
    try:
        async with holder.transaction(), asyncio.timeout(BOUND_S):
            await holder.execute("LOCK TABLE packages")
            call = asyncio.create_task(
                asyncio.to_thread(watched.traffic.view, f"00-{trace_id}-{uuid4().hex[:16]}-01")
            )
            while not await holder.fetchval(WAITS, QUERIES[QUERY]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await call
    finally:
        await holder.close()

    def traces() -> set[str]:
        found = get(
            watched.prometheus,
            "/api/v1/query_exemplars",
            query=f'farehold_db_query_duration_seconds_bucket{{operation="{QUERY}"}}',
            start=str(begun_s),
            end=str(time.time() + 1),
        )
        return {
            each["labels"]["trace_id"] for series in found["data"] for each in series["exemplars"]
        }

    until(traces, lambda found: found == {trace_id}, "an exemplar")
