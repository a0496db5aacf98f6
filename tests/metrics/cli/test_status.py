"""`status` and `alerts`: what the exit status says, and a process that has no figures yet."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from typer.testing import CliRunner

from metrics_service.cli import running
from metrics_service.cli.asking import NotReachableError
from metrics_service.cli.commands import app
from metrics_service.cli.views.status import judged
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.alert_pb2 import Alert, ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth

CRITICAL = alert_pb2.ALERT_SEVERITY_CRITICAL
WARNING = alert_pb2.ALERT_SEVERITY_WARNING
INFO = alert_pb2.ALERT_SEVERITY_INFO
FIRING = alert_pb2.ALERT_STATE_FIRING
PENDING = alert_pb2.ALERT_STATE_PENDING


class Standby:
    """Has health and alerts, and no figures."""

    target = "m:1"

    def __init__(self, *alerts: Alert) -> None:
        self._alerts = alerts
        self.metrics = self.health = self.alerts = self

    def __getattr__(self, name: str) -> str:
        return name

    async def ask(self, name: str, _: object) -> Any:
        """What it knows."""
        if name == "GetDatabaseHealth":
            return DatabaseHealth(status=DatabaseHealth.STARTING)
        if name == "ListAlerts":
            return ListAlertsResponse(alerts=self._alerts)
        raise NotReachableError("m:1 does not answer: STARTING")


def run(monkeypatch: pytest.MonkeyPatch, service: Standby, *arguments: str) -> Any:
    @contextlib.asynccontextmanager
    async def asking(*_: object) -> AsyncIterator[Standby]:
        yield service

    monkeypatch.setattr(running, "asking", asking)
    return CliRunner().invoke(app, arguments)


def test_a_standby_is_undecided_and_has_health_and_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Standby(), "status")
    assert (result.exit_code, result.stderr) == (3, "m:1 does not answer: STARTING\n")
    assert result.stdout.splitlines() == ["database starting", "no alert fires"]


@pytest.mark.parametrize(
    ("status", "alert", "verdict"),
    [
        (DatabaseHealth.HEALTHY, None, 0),
        (DatabaseHealth.DEGRADED, None, 0),
        (DatabaseHealth.UNHEALTHY, None, 1),
        (DatabaseHealth.STALE, None, 3),
        (DatabaseHealth.STATUS_UNSPECIFIED, None, 3),
        (DatabaseHealth.HEALTHY, Alert(severity=CRITICAL, state=FIRING), 1),
        (DatabaseHealth.HEALTHY, Alert(severity=CRITICAL, state=PENDING), 0),
        (DatabaseHealth.HEALTHY, Alert(severity=WARNING, state=FIRING), 0),
        (DatabaseHealth.HEALTHY, Alert(severity=CRITICAL, state=FIRING, silenced_by="x"), 0),
        (DatabaseHealth.HEALTHY, Alert(severity=CRITICAL, state=FIRING, inhibited_by="x"), 0),
        (DatabaseHealth.STALE, Alert(severity=CRITICAL, state=FIRING), 1),
    ],
)
def test_the_verdict_of_status(
    status: DatabaseHealth.Status.ValueType, alert: Alert | None, verdict: int
) -> None:
    alerts = ListAlertsResponse(alerts=[alert] if alert else [])
    assert judged(DatabaseHealth(status=status), alerts) == verdict


@pytest.mark.parametrize(
    ("alert", "verdict"),
    [
        (Alert(severity=WARNING, state=FIRING), 1),
        (Alert(severity=INFO, state=FIRING), 0),
        (Alert(severity=CRITICAL, state=FIRING, silenced_by="0f" * 16), 0),
        (Alert(severity=CRITICAL, state=alert_pb2.ALERT_STATE_RESOLVED), 0),
    ],
)
def test_the_verdict_of_alerts(alert: Alert, verdict: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alert.rule, alert.id = "slow_query", "ab" * 16
    result = run(monkeypatch, Standby(alert), "alerts")
    assert (result.exit_code, result.stderr) == (verdict, "")
    assert "slow_query" in result.stdout
    assert ("silence 0f0f0f0f" in result.stdout) is bool(alert.silenced_by)
