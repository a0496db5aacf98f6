"""The HTTP side over a real socket: statuses, JSON with numbers, and no text of an error."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from metrics_service.eventlog.recovery import UnreadableError
from metrics_service.state.series.rings import SECOND_US, Window
from metrics_service.web import app as app_module
from metrics_service.web.app import MAX_ENCODED, create_app
from metrics_service.web.encode import Json, to_json
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason
from protos.metrics.v1.metrics_pb2 import Funnel, MetricsSnapshot, Rate, Revenue
from servicekit.http.server import HttpServer
from servicekit.identity.gate import EVERYBODY
from servicekit.start import StartError
from tests.metrics.running_service import BOUND_S
from tests.metrics.web.serving import client_of


@dataclass
class Answers:
    """What the application reads."""

    health: DatabaseHealth = field(default_factory=DatabaseHealth)
    snapshot: Callable[[], MetricsSnapshot] = MetricsSnapshot
    faults: int = 0
    windows: list[Window] = field(default_factory=list)

    async def of_window(self, window: Window) -> MetricsSnapshot:
        self.windows.append(window)
        return self.snapshot()

    def on_fault(self) -> None:
        self.faults += 1


@contextlib.asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        answers.of_window,
        lambda _: answers.health,
        on_fault=answers.on_fault,
        gate=EVERYBODY,
    )
    async with client_of(app) as client:
        yield client


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (DatabaseHealth.HEALTHY, 200),
        (DatabaseHealth.DEGRADED, 200),
        (DatabaseHealth.UNHEALTHY, 503),
        (DatabaseHealth.STALE, 503),
        (DatabaseHealth.STATUS_UNSPECIFIED, 503),
    ],
)
async def test_the_status_follows_the_verdict(
    status: DatabaseHealth.Status.ValueType, expected: int
) -> None:
    reason = HealthReason(criterion="p99_ms", value=2400.5, threshold=2000, samples=321)
    async with serving(Answers(DatabaseHealth(status=status, reasons=[reason]))) as client:
        answer = await client.get("/api/health/database")
    assert answer.status_code == expected
    body = answer.json()
    assert body["status"] == DatabaseHealth.Status.Name(status)
    assert body["reasons"][0]["value"] == 2400.5
    assert body["reasons"][0]["samples"] == 321
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_metrics_are_numbers_of_one_revision() -> None:
    snapshot = MetricsSnapshot(revision=2**53 - 1)
    snapshot.as_of.FromMicroseconds(1_700_000_000_123_456)
    snapshot.funnel.CopyFrom(Funnel(entered=9_999, overall=Rate(numerator=1, denominator=4)))
    snapshot.funnel.overall.value = 0.25
    snapshot.business.revenue.append(Revenue(currency="EUR", exponent=2, net_minor=123_456_789))
    snapshot.quality.evicted["sessions"] = 7
    snapshot.errors.last_5_minutes = 3
    async with serving(Answers(snapshot=lambda: snapshot)) as client:
        answer = await client.get("/api/metrics/bookings")
    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == [
        "revision",
        "as_of",
        "window_s",
        "ended_s",
        "metrics",
        "funnel",
        "errors",
    ]
    assert body["revision"] == 2**53 - 1
    assert body["as_of"] == "2023-11-14T22:13:20.123456Z"
    assert body["funnel"]["entered"] == 9_999
    assert body["funnel"]["overall"] == {
        "numerator": 1,
        "denominator": 4,
        "value": 0.25,
        "low": None,
        "high": None,
    }
    assert body["metrics"]["business"]["revenue"][0]["net_minor"] == 123_456_789
    assert body["metrics"]["quality"]["evicted"] == {"sessions": 7}
    assert body["errors"]["last_5_minutes"] == 3


async def test_an_answer_is_encoded_once_for_all_that_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def counted(message: MetricsSnapshot) -> dict[str, Json]:
        encoded.append(message.revision)
        return to_json(message)

    monkeypatch.setattr(app_module, "to_json", counted)
    revisions = iter([1] * 20 + [2] * 20)
    answers = Answers(snapshot=lambda: MetricsSnapshot(revision=next(revisions)))
    async with serving(answers) as client:
        for path in ("/api/metrics/bookings", "/api/metrics/bookings?window=1h") * 10:
            assert (await client.get(path)).json()["revision"] == 1
        assert encoded == [1, 1]
        for number in range(MAX_ENCODED + 1):
            path = f"/api/metrics/bookings?window={10 * (number + 1)}s"
            assert (await client.get(path)).json()["revision"] == 2
    # Beyond the bound of windows an answer is made anew, and the memory is not.
    assert encoded[2:] == [2] * (MAX_ENCODED + 1)


@pytest.mark.parametrize(
    ("method", "path", "expected", "error"),
    [
        ("GET", "/none", 404, "Not Found"),
        ("GET", "/api/../etc/passwd", 404, "Not Found"),
        ("POST", "/api/health/database", 405, "Method Not Allowed"),
    ],
)
async def test_an_unknown_path_is_answered_in_json(
    method: str, path: str, expected: int, error: str
) -> None:
    async with serving(Answers()) as client:
        answer = await client.request(method, path)
    assert answer.status_code == expected
    assert answer.json()["error"] == error


async def test_an_error_is_answered_without_its_text() -> None:
    def broken() -> MetricsSnapshot:
        raise RuntimeError("a secret in an exception")

    answers = Answers(snapshot=broken)
    async with serving(answers) as client:
        answer = await client.get("/api/metrics/bookings")
        again = await client.get("/api/health/database")
    assert answer.status_code == 500
    assert answer.json() == {"error": "Internal Server Error", "path": "/api/metrics/bookings"}
    assert "Traceback" not in answer.text
    assert again.status_code == 503
    assert answers.faults == 1


async def test_figures_that_are_repaired_are_to_be_had_later() -> None:
    def unreadable() -> MetricsSnapshot:
        raise UnreadableError("a record broke it")

    answers = Answers(snapshot=unreadable)
    async with serving(answers) as client:
        answer = await client.get("/api/metrics/bookings")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "Service Unavailable", "path": "/api/metrics/bookings"}
    assert answers.faults == 0


@pytest.mark.parametrize(
    ("query", "window"),
    [
        ("", Window()),
        ("?window=3600", Window(3_600 * SECOND_US)),
        ("?window=15m&ended=15m", Window(900 * SECOND_US, 900 * SECOND_US)),
        ("?window=24h&ended=7d", Window(86_400 * SECOND_US, 7 * 86_400 * SECOND_US)),
        ("?window=10s&ended=0", Window(10 * SECOND_US)),
    ],
)
async def test_the_window_of_a_query_is_answered(query: str, window: Window) -> None:
    answers = Answers()
    async with serving(answers) as client:
        assert (await client.get(f"/api/metrics/bookings{query}")).status_code == 200
    assert answers.windows == [window]


@pytest.mark.parametrize(
    ("query", "parameter", "choices"),
    [
        ("?window=7", "window", "kept"),
        ("?window=1h&ended=31d", "ended", "kept"),
        ("?window=1h&ended=5s", "ended", "kept"),
        ("?ended=1h", "ended", "needs a window"),
        ("?window=", "window", "15m"),
        ("?window=-1h", "window", "15m"),
        ("?window=1.5h", "window", "15m"),
        ("?window=1h&ended=soon", "ended", "15m"),
        (f"?window={'9' * 400}", "window", "15m"),
        ("?window=1h&window=2h", "window", "once"),
    ],
)
async def test_a_bad_window_names_its_parameter(query: str, parameter: str, choices: str) -> None:
    answers = Answers()
    async with serving(answers) as client:
        answer = await client.get(f"/api/metrics/bookings{query}")
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter
    assert choices in answer.json()["description"]
    assert answers.windows == []


async def test_a_taken_port_is_one_line() -> None:
    first = HttpServer(
        create_app(Answers().of_window, lambda _: DatabaseHealth(), gate=EVERYBODY),
        host="127.0.0.1",
        port=0,
        setting="METRICS_HTTP_PORT",
    )
    port = await first.start()
    second = HttpServer(
        create_app(Answers().of_window, lambda _: DatabaseHealth(), gate=EVERYBODY),
        host="127.0.0.1",
        port=port,
        setting="METRICS_HTTP_PORT",
    )
    with pytest.raises(StartError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: .*$") as refused:
        await second.start()
    assert "\n" not in str(refused.value)
    await second.stop()
    await first.stop()


async def test_signals_stay_with_the_service() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(Answers()) as client:
        await client.get("/api/health/database")
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_stopping_does_not_wait_for_an_idle_connection() -> None:
    async with asyncio.timeout(BOUND_S), serving(Answers()) as client:
        await client.get("/api/health/database")


def test_absent_is_null_and_durations_name_their_unit() -> None:
    health = DatabaseHealth()
    health.window.FromSeconds(300)
    encoded: dict[str, Any] = to_json(health)
    assert encoded["window_s"] == 300.0
    assert encoded["since"] is None
    assert encoded["instances"] == []
