"""Judges the 72 hours after a deployment: an item fails as soon as it is beyond its line, and
passes only at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from metrics_service.alerts.deployments.hours import Watch
from metrics_service.alerts.deployments.items import (
    conversion,
    critical_alerts,
    error_rate,
    query_p95,
    query_p99,
    slow_queries,
)
from protos.metrics.v1.deployment_pb2 import Deployment, DeploymentItem, DeploymentReport

ITEMS: Final[tuple[Callable[[Watch], DeploymentItem], ...]] = (
    query_p95,
    query_p99,
    slow_queries,
    error_rate,
    conversion,
    critical_alerts,
)


def report(deployment: Deployment, watch: Watch) -> DeploymentReport:
    """Return the verdict of a deployment, with that of each item."""
    items = [item(watch) for item in ITEMS]
    verdicts = {item.verdict for item in items}
    if DeploymentReport.FAIL in verdicts:
        verdict = DeploymentReport.FAIL
    elif DeploymentReport.RUNNING in verdicts:
        verdict = DeploymentReport.RUNNING
    elif DeploymentReport.TOO_LITTLE_DATA in verdicts:
        verdict = DeploymentReport.TOO_LITTLE_DATA
    else:
        verdict = DeploymentReport.PASS
    answer = DeploymentReport(deployment=deployment, verdict=verdict, items=items)
    answer.as_of.FromMicroseconds(watch.as_of_us)
    answer.end_time.FromMicroseconds(watch.end_us)
    return answer
