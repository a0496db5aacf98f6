"""The process from its first line to its exit status, as `python -m metrics_service`."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator

import grpc
import pytest

from metrics_service.config import MetricsSettings
from protos.metrics.v1 import metrics_pb2_grpc
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, StreamMetricsRequest
from servicekit.binaries import free_port
from servicekit.settings import SettingsError
from tests.metrics.service_process import BOUND_S, ended, serving

pytestmark = pytest.mark.processes


async def drained(stream: AsyncIterator[object]) -> None:
    async with asyncio.timeout(BOUND_S):
        async for _ in stream:
            pass


@pytest.mark.parametrize(("number", "uvloop"), [(signal.SIGTERM, "true"), (signal.SIGINT, "false")])
async def test_a_signal_ends_it_in_order(
    metrics_dsn: str, number: signal.Signals, uvloop: str
) -> None:
    async with (
        # It does not wait for the stream's end, for which it might wait as long as may be set.
        serving(metrics_dsn, METRICS_UVLOOP=uvloop, METRICS_DRAIN_TIMEOUT_S="600") as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        stream = aiter(stub.StreamMetrics(StreamMetricsRequest()))
        await anext(stream)
        status, err = await service.end(number)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await drained(stream)
    assert status == 0
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in err
    assert json.loads(err.strip().splitlines()[-1])["event"] == "service_stopped"


async def test_it_starts_again_where_it_was_killed(metrics_dsn: str) -> None:
    async with serving(metrics_dsn) as service:
        status, _ = await service.end(signal.SIGKILL)
        assert status == -signal.SIGKILL
    async with serving(metrics_dsn) as service:
        async with grpc.aio.insecure_channel(service.target) as channel:
            stub = metrics_pb2_grpc.MetricsServiceStub(channel)
            await stub.GetMetrics(GetMetricsRequest())
        assert (await service.end(signal.SIGTERM))[0] == 0


async def test_the_two_endpoints_are_printed(metrics_dsn: str) -> None:
    async with serving(metrics_dsn) as service:
        port = str(service.http_port)
        health = await ended("health", "--port", port)
        metrics = await ended("metrics", METRICS_HTTP_PORT=port)
    assert health.status == 1, "nothing has reported yet, so it is not up"
    assert json.loads(health.out)["status"] == "STATUS_UNSPECIFIED"
    assert metrics.status == 0
    assert list(json.loads(metrics.out)) == [
        *("revision", "as_of", "window_s", "ended_s", "metrics", "funnel", "errors")
    ]


async def test_a_port_in_use_is_one_line(metrics_dsn: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for variable, other in (
            ("METRICS_PORT", "METRICS_HTTP_PORT"),
            ("METRICS_HTTP_PORT", "METRICS_PORT"),
        ):
            variables = {variable: port, other: str(free_port())}
            end = await ended(
                "serve", METRICS_DATABASE_URL=metrics_dsn, METRICS_LOG_LEVEL="error", **variables
            )
            assert end.status == 1
            assert one_line(end.err) == (
                f"cannot listen on 127.0.0.1:{port}: Address already in use; "
                f"{variable} chooses another port"
            )


@pytest.mark.parametrize(
    ("variables", "names", "text"),
    [
        ({}, "METRICS_DATABASE_URL", "postgresql://"),
        ({"METRICS_DATABASE_URL": "mysql://me:secret@x/y"}, "mysql://***'", "postgresql://"),
        ({"METRICS_PORT": "70000"}, "METRICS_PORT='70000'", "from 0 to 65535"),
        ({"METRICS_PORTS": "1"}, "METRICS_PORTS", "METRICS_PORT"),
        ({"METRICS_SENTRY_DSN": "nowhere"}, "METRICS_SENTRY_DSN='***'", "https://key@host/1"),
        ({"METRICS_HTTP_HOST": "0.0.0.0"}, "0.0.0.0", "METRICS_ALLOW_PLAINTEXT_REMOTE"),
        ({"METRICS_HEARTBEAT_MS": "soon"}, "METRICS_HEARTBEAT_MS='soon'", "a whole number"),
    ],
)
def test_a_settings_mistake_is_one_line_with_what_is_allowed(
    variables: dict[str, str], names: str, text: str
) -> None:
    if variables:
        variables = {"METRICS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x", **variables}
    with pytest.raises(SettingsError) as raised:
        MetricsSettings.load(variables)
    line = one_line(str(raised.value))
    assert names in line
    assert text in line
    assert "secret" not in line


@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_a_settings_mistake_stops_the_process_before_anything_starts(command: str) -> None:
    end = await ended(command, METRICS_PROT="50052")
    assert end.status == 2
    assert one_line(end.err) == "METRICS_PROT is not a setting; did you mean METRICS_PORT?"


async def test_good_settings_are_reported_as_good() -> None:
    end = await ended("check-config", METRICS_DATABASE_URL="postgresql://me@127.0.0.1:1/x")
    assert (end.status, end.err) == (0, "")
    assert "50052" in end.out


async def test_an_unreachable_database_is_one_line() -> None:
    end = await ended(
        "serve",
        METRICS_DATABASE_URL=f"postgresql://me:secret@127.0.0.1:{free_port()}/metrics",
        METRICS_PORT=str(free_port()),
        METRICS_HTTP_PORT=str(free_port()),
        METRICS_LOG_LEVEL="error",
    )
    assert end.status == 1
    line = one_line(end.err)
    assert "cannot be reached" in line
    assert "secret" not in line


async def test_a_database_without_tables_is_one_line(empty_dsn: str) -> None:
    end = await ended(
        "serve",
        METRICS_DATABASE_URL=empty_dsn,
        METRICS_PORT=str(free_port()),
        METRICS_HTTP_PORT=str(free_port()),
        METRICS_LOG_LEVEL="error",
    )
    assert end.status == 1
    assert "is not migrated" in one_line(end.err)


@pytest.mark.parametrize("command", ["health", "watch"])
async def test_an_unreachable_service_is_one_line(command: str) -> None:
    port = str(free_port())
    end = await ended(command, METRICS_PORT=port, METRICS_HTTP_PORT=port)
    assert end.status == 4
    assert "is not reachable" in one_line(end.err)
    assert port in end.err


def one_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    return lines[0]
