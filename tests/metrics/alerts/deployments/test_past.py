"""A report of hours that have left the state is that of the hours it had, on real PostgreSQL; what
is not kept is said so.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import asyncpg
import pytest

from metrics_service.alerts.deployments.hours import HOURS, SPAN_US
from metrics_service.rpc.deployments import DeploymentService
from metrics_service.storage.deployments import Deployments
from protos.metrics.v1.deployment_pb2 import (
    DeploymentItem,
    DeploymentReport,
    GetDeploymentReportRequest,
)
from servicekit.errors import UNAVAILABLE, ApiError
from tests.metrics.delivery_pair import Sink
from tests.metrics.eventlog.history_log import START, Days, Feeder
from tests.metrics.state.log import DAY, HOUR

# The 72 hours after it are over on the 9th day.
DEPLOYED: Final = START + 5 * DAY + 5 * HOUR
OF_HOURS: Final = ("query_p95", "query_p99", "slow_queries", "error_rate", "conversion")


class Reports:
    """Reports of a sink, as DeploymentService makes them."""

    def __init__(self, sink: Sink, dsn: str) -> None:
        self._kept = Deployments(dsn)
        self._service = DeploymentService(
            self._kept, lambda: sink.engine.current_state(), sink.log.history
        )

    async def of(self, time_us: int) -> dict[str, DeploymentItem]:
        """Return the items by name of a deployment at a time."""
        marked = await self._kept.mark("v1", time_us, "test")
        report: DeploymentReport = await self._service.GetDeploymentReport(
            GetDeploymentReportRequest(id=marked.id), object()
        )
        return {item.name: item for item in report.items}


async def test_a_report_is_the_same_before_and_after_its_hours_have_left_the_state(
    metrics_dsn: str,
) -> None:
    days, feeder = Days(40), Feeder()
    running = feeder.sink(metrics_dsn)
    await running.start()
    of_state: dict[str, DeploymentItem] = {}
    for at, (now_us, events) in enumerate(days.batches()):
        await feeder.folded(running, now_us, events)
        if now_us // DAY == START // DAY + 12 and not of_state:
            of_state = await Reports(running, metrics_dsn).of(DEPLOYED)
        if now_us // DAY == START // DAY + 36:
            # The first of the 72 hours before and some of those after it have left.
            assert await Reports(running, metrics_dsn).of(DEPLOYED) == of_state
        if at % 7 == 0:
            await running.engine._checkpoint()
    await running.engine._checkpoint()
    await running.stop()
    running = feeder.sink(metrics_dsn)
    await running.start()
    assert running.engine.state.border.from_us > DEPLOYED + SPAN_US
    reports = Reports(running, metrics_dsn)
    of_history = await reports.of(DEPLOYED)
    assert of_history == of_state
    as_counted(days, of_history)
    await what_is_not_kept(reports, metrics_dsn)
    await running.stop()


def as_counted(days: Days, items: dict[str, DeploymentItem]) -> None:
    """The figures are those of plain Python."""
    begin = DEPLOYED // HOUR
    hours = [days.expected.get(hour, {}) for hour in range(begin, begin + HOURS)]

    def total(name: str) -> int:
        return sum(counts.get(name, 0) for counts in hours)

    queries, errors, writes = total("queries"), total("errors"), total("writes")
    assert [items[name].samples for name in OF_HOURS] == [queries] * 3 + [writes, total("entered")]
    assert min(queries, errors, total("entered")) > 0
    assert items["error_rate"].observed == errors / writes
    # Each batch of queries has one that took 700 ms, and is alone in its hour.
    assert abs(items["query_p99"].observed - 700) < 7
    assert items["slow_queries"].observed == items["slow_queries"].before == 1
    for item in items.values():
        assert "not kept" not in item.summary


async def what_is_not_kept(reports: Reports, dsn: str) -> None:
    """Hours before the first one of the history are missing, whatever was deployed then, but for
    those since the log began: nothing was counted in them.
    """
    connection = await asyncpg.connect(dsn)
    first = await connection.fetchval("SELECT min(hour) FROM history_hour")
    first_us = round(first.timestamp()) * 1_000_000
    early = await reports.of(first_us - 10 * HOUR)
    later = await reports.of(first_us)
    nothing = await reports.of(first_us - SPAN_US)
    for name in OF_HOURS:
        assert "; 10 of the 72 hours are not kept" in early[name].summary
        assert early[name].verdict in (DeploymentReport.FAIL, DeploymentReport.TOO_LITTLE_DATA)
        assert "not kept" not in later[name].summary
        assert not later[name].HasField("before")
        assert "72 of the 72 hours are not kept" in nothing[name].summary
        assert nothing[name].verdict == DeploymentReport.TOO_LITTLE_DATA
        assert nothing[name].samples == 0
    await what_the_log_has(reports, connection)
    await connection.execute("DELETE FROM history_hour")
    gone = await reports.of(START - SPAN_US - DAY)
    assert {gone[name].samples for name in OF_HOURS} == {0}
    assert all("72 of the 72 hours are not kept" in gone[name].summary for name in OF_HOURS)
    await connection.execute("ALTER TABLE history_hour RENAME TO gone")
    await connection.close()
    with pytest.raises(ApiError) as raised:
        await reports.of(DEPLOYED)
    assert raised.value.spec is UNAVAILABLE


async def what_the_log_has(reports: Reports, connection: asyncpg.Connection) -> None:
    """Hours without a row since the log began count as empty."""
    begin = "SELECT received_at FROM event_log ORDER BY position LIMIT 1"
    log = None
    # Old days of the log are being dropped.
    while log != (log := await connection.fetchval(begin)):
        await connection.execute(
            "DELETE FROM history_hour WHERE hour < $1", log + timedelta(hours=15)
        )
        log_us = round(log.timestamp()) * 1_000_000
        empty = await reports.of(log_us)
        early = await reports.of(log_us - 3 * HOUR)
    for name in OF_HOURS:
        assert "not kept" not in empty[name].summary
        assert "; 3 of the 72 hours are not kept" in early[name].summary
