"""Names and colours of states, also of one that this version does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from metrics_service.cli.output.sheet import Cell
from metrics_service.cli.plain import line, plain
from protos.metrics.v1 import alert_pb2
from protos.metrics.v1.deployment_pb2 import DeploymentReport
from protos.metrics.v1.health_pb2 import DatabaseHealth

Styles = Mapping[int, str]

UNKNOWN: Final = "unknown"

STATUS_STYLES: Final[Styles] = {
    DatabaseHealth.HEALTHY: "bold green",
    DatabaseHealth.DEGRADED: "bold yellow",
    DatabaseHealth.UNHEALTHY: "bold red",
    DatabaseHealth.STALE: "bold magenta",
    DatabaseHealth.STARTING: "bold yellow",
}
SEVERITY_STYLES: Final[Styles] = {
    alert_pb2.ALERT_SEVERITY_INFO: "",
    alert_pb2.ALERT_SEVERITY_WARNING: "yellow",
    alert_pb2.ALERT_SEVERITY_CRITICAL: "red",
}
STATE_STYLES: Final[Styles] = {
    alert_pb2.ALERT_STATE_FIRING: "bold red",
    alert_pb2.ALERT_STATE_PENDING: "yellow",
    alert_pb2.ALERT_STATE_RECOVERING: "yellow",
    alert_pb2.ALERT_STATE_RESOLVED: "green",
}
VERDICT_STYLES: Final[Styles] = {
    DeploymentReport.PASS: "bold green",
    DeploymentReport.FAIL: "bold red",
    DeploymentReport.TOO_LITTLE_DATA: "bold yellow",
    DeploymentReport.RUNNING: "bold",
}


def name_of(enum: Any, value: int, prefix: str = "") -> str:
    """Return the name of a value in words: "no data"."""
    found = enum.DESCRIPTOR.values_by_number.get(value)
    name = "UNSPECIFIED" if found is None else str(found.name)
    if name.endswith("UNSPECIFIED"):
        return UNKNOWN
    return name.removeprefix(prefix).lower().replace("_", " ")


def status(value: int) -> tuple[str, str]:
    """Return the status of health and its style."""
    return name_of(DatabaseHealth.Status, value), STATUS_STYLES.get(value, "dim")


def reasons(health: DatabaseHealth, most: int) -> list[Text]:
    """Return the reasons of health as lines, at most so many."""
    shown = health.reasons[:most]
    lines = [
        line((f"  {plain(each.instance, 40) or 'all'}: {plain(each.message)}", "yellow"))
        for each in shown
    ]
    if more := len(health.reasons) - len(shown):
        lines.append(line((f"  and {more:,} more", "yellow")))
    return lines


def verdict(value: int) -> tuple[str, str]:
    """Return the verdict of a deployment and its style."""
    return name_of(DeploymentReport.Verdict, value), VERDICT_STYLES.get(value, "")


def severity(value: int) -> Cell:
    name = name_of(alert_pb2.AlertSeverity, value, "ALERT_SEVERITY_")
    return Cell(name, name, SEVERITY_STYLES.get(value, ""))


def state(value: int) -> Cell:
    name = name_of(alert_pb2.AlertState, value, "ALERT_STATE_")
    return Cell(name, name, STATE_STYLES.get(value, ""))
