"""The verdict on the database that this service itself writes to, and on its lead there."""

from __future__ import annotations

from collections.abc import Callable

from metrics_service.client.host import (
    Reason,
    Status,
    Verdict,
    VerdictHysteresis,
    with_budgets,
)
from protos.metrics.v1.health_pb2 import LogHealth


class LogVerdict:
    """UNHEALTHY as soon as the log cannot be written, unless this process has never led and waits
    for the one that does; DEGRADED while a bound of the log refuses or drops something.
    """

    def __init__(
        self,
        log_health: Callable[[], LogHealth],
        budgets: Callable[[], list[str]],
        new_verdict: Callable[[], VerdictHysteresis],
    ) -> None:
        self._log_health = log_health
        self._budgets = budgets
        self.verdict = new_verdict()

    def judge(self, *, resumed: bool) -> None:
        """Judge the log now. Where this process has just `resumed` after a pause, a log that it
        could write before has a moment to recover.
        """
        health = self._log_health()
        verdict = Verdict(Status.HEALTHY)
        if not health.writable and health.role != LogHealth.STANDBY:
            if resumed and self.verdict.status is Status.HEALTHY:
                return
            criterion = "lead_lost" if health.role == LogHealth.LEAD_LOST else "log"
            message = f"the log cannot be written: {health.message}"
            reason = Reason(criterion, 0, 1, 1, (), message)
            verdict = Verdict(Status.UNHEALTHY, (reason,), hard=True)
        self.verdict.update(with_budgets(verdict, self._budgets()))
