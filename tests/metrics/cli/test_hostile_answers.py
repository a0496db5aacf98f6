"""Whatever a service answers, each command shows it as text and ends with a status of its own."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from metrics_service.cli import deploy, running
from metrics_service.cli.commands import app
from metrics_service.cli.output.write import Form
from protos.metrics.v1 import (
    alert_pb2,
    deployment_pb2,
    health_pb2,
    journey_pb2,
    metrics_pb2,
    series_pb2,
)
from tests.metrics.cli import hostile
from tests.metrics.cli.hostile import HOSTILE_TEXTS, fill

ANSWERS: Final = {
    "GetDatabaseHealth": health_pb2.DatabaseHealth,
    "ListAlerts": alert_pb2.ListAlertsResponse,
    "GetAlert": alert_pb2.Alert,
    "CreateSilence": alert_pb2.Silence,
    "ExpireSilence": alert_pb2.Silence,
    "ListSilences": alert_pb2.ListSilencesResponse,
    "LintRules": alert_pb2.LintRulesResponse,
    "SendTest": alert_pb2.SendTestResponse,
    "GetMetrics": metrics_pb2.MetricsSnapshot,
    "GetFunnel": metrics_pb2.Funnel,
    "GetErrorBreakdown": metrics_pb2.ErrorMetrics,
    "GetQueryStats": metrics_pb2.GetQueryStatsResponse,
    "ListSlowQueries": metrics_pb2.ListSlowQueriesResponse,
    "GetJourney": journey_pb2.Journey,
    "ListSessions": journey_pb2.ListSessionsResponse,
    "GetSeries": series_pb2.GetSeriesResponse,
    "MarkDeployment": deployment_pb2.Deployment,
    "ListDeployments": deployment_pb2.ListDeploymentsResponse,
    "GetDeploymentReport": deployment_pb2.DeploymentReport,
}
ID: Final = "0f" * 16
COMMANDS: Final = (
    ("status",),
    ("funnel", "--by", "type", "--days", "2"),
    ("errors",),
    ("queries",),
    ("queries", "--by", "statement"),
    ("slow",),
    ("journey", "x"),
    ("sessions",),
    ("series", "errors"),
    ("alerts",),
    ("alerts", "show", ID),
    ("alerts", "test", "log"),
    ("silence", "add", "rule=x", "--for", "1h", "--comment", "x"),
    ("silence", "list"),
    ("silence", "expire", ID),
    ("deploy", "mark", "--version", "x"),
    ("deploy", "list"),
    ("deploy", "report"),
)


class Stub:
    """Every method of every service, which answers what is hostile."""

    target = "nowhere"

    def __init__(self, text: str, turn: int) -> None:
        self.text = text
        self.turn = turn
        self.metrics = self.health = self.alerts = self.deployments = self

    def __getattr__(self, name: str) -> str:
        return name

    async def ask(self, name: str, _: object, timeout_s: float = 1.0) -> Any:
        """An answer of the right type."""
        answer = ANSWERS[name]()
        fill(answer, self.text, self.turn)
        return answer


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(stub: Stub, *arguments: str) -> Any:
        @contextlib.asynccontextmanager
        async def asking(*_: object) -> AsyncIterator[Stub]:
            yield stub

        # Two of each are enough for a command, which draws all rows alike.
        monkeypatch.setattr(hostile, "REPEATED", 2)
        monkeypatch.setattr(running, "asking", asking)
        monkeypatch.setattr(deploy, "asking", asking)
        return CliRunner(env={"COLUMNS": "120"}).invoke(app, arguments)

    return run


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
def test_no_answer_controls_the_terminal_or_ends_a_command(
    text: str, run: Callable[..., Any]
) -> None:
    for number, command in enumerate(COMMANDS):
        turn = (number + len(text)) % 3
        form = list(Form)[turn]
        result = run(Stub(text[:300], turn), *command, "--output", form)
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        assert result.exit_code in (0, 1, 3), command
        shown = result.stdout + result.stderr
        assert [each for each in shown if not each.isprintable() and each != "\n"] == [], command
        if form is Form.JSON and result.stdout:
            json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1", "a\r\n=2", "\t=3"])
def test_no_cell_of_csv_is_a_formula(text: str, run: Callable[..., Any]) -> None:
    for command in COMMANDS:
        result = run(Stub(text, 0), *command, "-o", "csv")
        for row in csv.reader(io.StringIO(result.stdout)):
            for cell in row:
                assert not cell.startswith(("=", "+", "@", "\t", "\r")), command
                if cell.startswith("-"):
                    float(cell)
