"""Deployments are marked once, listed and judged, over real gRPC and a real database."""

from __future__ import annotations

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.rpc import validate
from metrics_service.rpc.validate import MAX_CLOCK_SKEW_US, MAX_DEPLOYMENT_AGE_US
from metrics_service.storage import deployments as storage
from metrics_service.storage.errors import LogUnavailableError
from protos.metrics.v1 import deployment_pb2_grpc
from protos.metrics.v1.deployment_pb2 import (
    DeploymentReport,
    GetDeploymentReportRequest,
    ListDeploymentsRequest,
    MarkDeploymentRequest,
)
from servicekit.clock import wall_us
from servicekit.errors import ApiError
from tests.metrics.running_service import running

NOW_US = 1_800_000_000_000_000


def at(time_us: int) -> Timestamp:
    time = Timestamp()
    time.FromMicroseconds(time_us)
    return time


async def test_a_deployment_is_marked_once_and_judged(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        stub = deployment_pb2_grpc.DeploymentServiceStub(service.channel)
        with pytest.raises(grpc.aio.AioRpcError, match="no deployment was marked yet") as raised:
            await stub.GetDeploymentReport(GetDeploymentReportRequest())
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        time = at(wall_us() - 3_600_000_000)
        first = await stub.MarkDeployment(MarkDeploymentRequest(version="1.2", time=time))
        again = await stub.MarkDeployment(MarkDeploymentRequest(version="1.2", time=time))
        later = at(time.ToMicroseconds() + 1)
        other = await stub.MarkDeployment(MarkDeploymentRequest(version="1.3", time=later))
        newest = await stub.MarkDeployment(MarkDeploymentRequest(version="1.2"))
        # As a step of a pipeline that is run again.
        assert newest == await stub.MarkDeployment(MarkDeploymentRequest(version="1.2"))
        assert first == again
        assert len({first.id, other.id, newest.id}) == 3
        assert (len(first.id), first.version, first.time, first.marked_by) == (
            32,
            "1.2",
            time,
            "local",
        )
        listed = await stub.ListDeployments(ListDeploymentsRequest())
        assert listed.deployments[0] == newest
        assert {each.id for each in listed.deployments} == {first.id, other.id, newest.id}
        report = await stub.GetDeploymentReport(GetDeploymentReportRequest(id=first.id))
        assert (report.deployment, report.verdict) == (first, DeploymentReport.RUNNING)
        assert len(report.items) == 6
        report = await stub.GetDeploymentReport(GetDeploymentReportRequest())
        assert report.deployment == newest
        for unknown in ("0" * 32, "x", "\x00"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetDeploymentReport(GetDeploymentReportRequest(id=unknown))
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_newest_deployments_are_kept(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_KEPT", 3)
    table = storage.Deployments(metrics_dsn)
    for number in (5, 1, 4, 2, 3):
        await table.mark(f"v{number}", NOW_US + number, "ops")
    kept = await table.newest(100)
    assert [(each.version, each.time_us, each.marked_by) for each in kept] == [
        ("v5", NOW_US + 5, "ops"),
        ("v4", NOW_US + 4, "ops"),
        ("v3", NOW_US + 3, "ops"),
    ]
    assert (await table.mark("v4", NOW_US + 4, "another")) == kept[1]


async def test_a_lost_database_is_unavailable(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        stub = deployment_pb2_grpc.DeploymentServiceStub(service.channel)
        connection = await asyncpg.connect(metrics_dsn)
        await connection.execute("ALTER TABLE deployment RENAME TO gone")
        await connection.close()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.ListDeployments(ListDeploymentsRequest())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(LogUnavailableError):
        await storage.Deployments("postgresql://postgres@127.0.0.1:1/none").newest(1)


@pytest.mark.parametrize(
    "time_us", [NOW_US - MAX_DEPLOYMENT_AGE_US, NOW_US, NOW_US + MAX_CLOCK_SKEW_US]
)
def test_the_time_may_be_in_the_past(time_us: int) -> None:
    request = MarkDeploymentRequest(version="v" * 64, time=at(time_us))
    assert validate.deployment(request, NOW_US) == time_us
    assert validate.deployment(MarkDeploymentRequest(version="\u00e9" * 32), NOW_US) == NOW_US


@pytest.mark.parametrize(
    "time",
    [
        at(NOW_US - MAX_DEPLOYMENT_AGE_US - 1),
        at(NOW_US + MAX_CLOCK_SKEW_US + 1),
        Timestamp(seconds=NOW_US // 1_000_000, nanos=1),
        Timestamp(seconds=NOW_US // 1_000_000, nanos=-1000),
        Timestamp(seconds=2**62),
    ],
)
@pytest.mark.parametrize("version", ["", "v" * 65, "\u20ac" * 22, "a\nb", "\x00"])
def test_bad_fields_are_all_named(version: str, time: Timestamp) -> None:
    with pytest.raises(ApiError) as raised:
        validate.deployment(MarkDeploymentRequest(version=version, time=time), NOW_US)
    assert [each.field for each in raised.value.violations] == ["version", "time"]


ALERT = """
INSERT INTO alert (
    id, rule, severity, state, labels, summary, start_time, fire_time, changed_at, body
)
SELECT
    gen_random_uuid(), rule, severity, 'FIRING', '{}', '',
    to_timestamp(0), to_timestamp(fired_us / 1e6), to_timestamp(0), ''
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS new (rule, severity, fired_us)
"""


async def test_critical_alerts_are_read_once_alerts_are_recorded(metrics_dsn: str) -> None:
    table = storage.Deployments(metrics_dsn)
    assert await table.critical_alerts(NOW_US) is None
    connection = await asyncpg.connect(metrics_dsn)
    await connection.execute("UPDATE alert_head SET saved_at = now()")
    await connection.execute(
        ALERT,
        ["late", "warns", "early", "before", "pending"],
        ["CRITICAL", "WARNING", "CRITICAL", "CRITICAL", "CRITICAL"],
        [NOW_US + 5, NOW_US + 1, NOW_US, NOW_US - 1, None],
    )
    await connection.close()
    assert await table.critical_alerts(NOW_US) == [("early", NOW_US), ("late", NOW_US + 5)]
