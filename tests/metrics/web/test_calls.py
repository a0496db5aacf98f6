"""Each RPC without effect by HTTP: the answer, the refusal and the fault are those of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import httpx
from google.protobuf.message import Message
from structlog.testing import capture_logs

from metrics_service.config import MetricsSettings
from metrics_service.server import MetricsServer
from metrics_service.web import fields
from metrics_service.web.calls import FIGURES, FILES, METHODS, methods
from metrics_service.web.encode import to_json
from servicekit.errors import SHARED_SPECS
from servicekit.http.refused import STATUSES
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until
from tests.metrics.web.serving import calling

EFFECTS: Final = {"CreateSilence", "ExpireSilence", "MarkDeployment", "SendTest"}
# A rule file does not fit in an address.
TOO_LONG: Final = {"LintRules"}

MOVING: Final = {"as_of", "revision", "check_time", "reasons", "instances", "since"}
NOTHING: Final = {"GetAlert", "GetJourney", "GetDeploymentReport"}
PARAMETERS: Final = {
    "GetFunnel": {"window": "1h", "state": "MATURED", "by": "DIMENSION_VENDOR"},
    "GetMetrics": {"window": "24h"},
    "GetQueryStats": {"group_by": "FINGERPRINT", "order_by": "P95", "window": "1h"},
    "GetSeries": {"metrics": "bookings_confirmed", "window": "60s", "step": "60s"},
    "ListSessions": {"window": "1h", "outcome": "SESSION_OUTCOME_CONVERTED"},
}


@contextlib.asynccontextmanager
async def asking(port: int) -> AsyncIterator[httpx.AsyncClient]:
    address = f"http://127.0.0.1:{port}/api/rpc"
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=BOUND_S) as client:
        yield client


async def by_grpc(service: Service, name: str, parameters: dict[str, str]) -> Message:
    method = methods()[name]
    stub: Any = service.channel.unary_unary(
        f"/{method.name}",
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.answer.FromString,
    )
    found: Message = await stub(fields.read(method.request, parameters.items()), timeout=BOUND_S)
    return found


def test_all_that_reads_is_served_and_nothing_that_changes() -> None:
    unary = {
        method.name
        for file in FILES
        for service in file.services_by_name.values()
        for method in service.methods
        if not method.server_streaming
    }
    assert set(methods()) == METHODS == unary - EFFECTS - TOO_LONG
    assert {spec.code.name for spec in SHARED_SPECS} - set(STATUSES) == {"INTERNAL"}


async def test_an_answer_is_that_of_grpc(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        producer.book(3)
        state = service.server.engine.current_state
        await until(lambda: state().metrics(None, 0).business.confirmed == 3, "bookings")
        await until(lambda: service.server.alerts.leads, "the alerts")
        async with asking(service.http_port) as client:
            for name in METHODS - NOTHING:
                await assert_equal(service, client, name)


async def assert_equal(service: Service, client: httpx.AsyncClient, name: str) -> None:
    """Compare the answers of both, at a moment at which that of gRPC did not change."""
    parameters = PARAMETERS.get(name, {})
    for _ in range(20):
        before = to_json(await by_grpc(service, name, parameters))
        answer = await client.get(name, params=parameters)
        after = to_json(await by_grpc(service, name, parameters))
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        found = answer.json()
        assert list(found) == list(before)
        still = {field for field in found.keys() - MOVING if before[field] == after[field]}
        if still == found.keys() - MOVING:
            assert {field: found[field] for field in still} == {f: before[f] for f in still}, name
            return
    raise AssertionError(f"{name} never stood still")


async def test_a_refusal_has_its_reason_and_its_fields(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, asking(service.http_port) as client:
        bad = await client.get("GetSeries?metrics=nonsense&window=1h&step=7s&color=red")
        assert (bad.status_code, bad.json()["error"]) == (400, "Bad Request")
        assert bad.json()["reason"] == "INVALID_ARGUMENT"
        assert [each["field"] for each in bad.json()["fields"]] == ["color"]
        bad = await client.get("GetSeries?metrics=nonsense&window=1h&step=7s")
        assert {each["field"] for each in bad.json()["fields"]} >= {"metrics", "step"}
        assert all(
            each["description"] in bad.json()["description"] for each in bad.json()["fields"]
        )
        for name, reason in (
            ("GetAlert?id=" + "0" * 32, "ALERT_NOT_FOUND"),
            ("GetJourney?session_id=none", "SESSION_NOT_FOUND"),
            ("GetDeploymentReport", "DEPLOYMENT_NOT_FOUND"),
        ):
            missing = await client.get(name)
            assert (missing.status_code, missing.json()["reason"]) == (404, reason)
            assert missing.json()["fields"] == []
        assert (await client.post("GetMetrics")).status_code == 405
        for name in ("CreateSilence", "StreamMetrics", "getmetrics", "Track"):
            assert (await client.get(name)).status_code == 404


async def test_a_standby_answers_what_it_knows(metrics_dsn: str) -> None:
    async with running(metrics_dsn):
        environ = {
            "METRICS_DATABASE_URL": metrics_dsn,
            "METRICS_PORT": "0",
            "METRICS_HTTP_PORT": "0",
        }
        standby = MetricsServer(MetricsSettings.load(environ))
        _, port = await standby.listen()
        starting = asyncio.create_task(standby.start())
        try:
            await until(lambda: standby.event_log.standing_by, "the standby")
            async with asking(port) as client:
                refused = await client.get("GetMetrics")
                assert (refused.status_code, refused.json()["reason"]) == (503, "STARTING")
                assert refused.headers["retry-after"] == "1"
                assert (await client.get("ListAlerts")).status_code == 200
                health = await client.get("GetDatabaseHealth")
                assert health.json()["start"]["standby"] is True
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await standby.stop()


class Broken:
    """A servicer whose every method fails."""

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Message]]:
        async def fail(request: Message, context: object) -> Message:
            raise RuntimeError("a secret in an exception")

        return fail


async def test_a_fault_is_answered_without_its_text_and_has_the_figures_checked() -> None:
    faults: list[None] = []
    with capture_logs() as logs:
        async with calling({FIGURES: Broken()}, on_fault=lambda: faults.append(None)) as client:
            answer = await client.get("/api/rpc/GetMetrics?window=1h")
    assert answer.status_code == 500
    assert answer.json() == {"error": "Internal Server Error", "path": "/api/rpc/GetMetrics"}
    assert len(faults) == 1
    assert [line["event"] for line in logs] == ["http_request_failed"]
