"""Notifies people when the database turns unhealthy, when it has recovered, and of other notices.

A receiver that is slow, down or not configured never slows or fails the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

import sentry_sdk
import structlog

from protos.metrics.v1.health_pb2 import DatabaseHealth

if TYPE_CHECKING:
    from sentry_sdk.types import Event

log = structlog.get_logger()

MAX_QUEUED: Final = 100
MAX_REASONS: Final = 20


@dataclass(frozen=True, slots=True)
class Notice:
    """One message of a rule. Notices with the same `key` are one issue; facts are shown beside the
    message and contain no literal of a query.
    """

    rule: str
    level: Literal["info", "warning", "error"]
    message: str
    key: tuple[str, ...]
    operation: str = ""
    facts: dict[str, str | float] = field(default_factory=dict)


class Notifier(Protocol):
    """Sends messages to people. Must not block and must not raise."""

    def send_unhealthy(self, health: DatabaseHealth) -> None: ...

    def send_recovered(self, health: DatabaseHealth) -> None: ...

    def send(self, notice: Notice) -> None: ...

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for at most this time. Blocks; call it from a thread."""


class DatabaseAlert:
    """Notifies of each change to unhealthy and of each recovery exactly once.

    A stale verdict means that nothing is known, so it neither raises an alert nor ends one.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._raised = False

    def observe(self, health: DatabaseHealth) -> None:
        """Take the current verdict."""
        if health.status == DatabaseHealth.UNHEALTHY and not self._raised:
            self._raised = True
            log.error("database_unhealthy", reasons=_messages(health))
            self._notifier.send_unhealthy(health)
        elif self._raised and health.status in (DatabaseHealth.HEALTHY, DatabaseHealth.DEGRADED):
            self._raised = False
            log.info("database_recovered", reasons=_messages(health))
            self._notifier.send_recovered(health)


def create_notifier(sentry_dsn: str) -> Notifier:
    """Return a notifier that sends to Sentry, or nothing where sentry_dsn is empty."""
    return SentryNotifier(sentry_dsn) if sentry_dsn else NullNotifier()


def report_faults(notifier: Notifier) -> None:
    """Send unforeseen errors, which the interceptor captures, to the same Sentry project."""
    if isinstance(notifier, SentryNotifier):
        sentry_sdk.get_global_scope().set_client(notifier.client)


class NullNotifier:
    """Sends nothing."""

    def send_unhealthy(self, health: DatabaseHealth) -> None:
        pass

    def send_recovered(self, health: DatabaseHealth) -> None:
        pass

    def send(self, notice: Notice) -> None:
        pass

    def close(self, timeout_s: float) -> None:
        pass


class SentryNotifier:
    """Sends to Sentry from a background thread with a bounded queue; what does not fit is dropped.

    `client` has no integrations, so that only the events handed to it are sent: no local variables,
    no breadcrumbs, no personal data.
    """

    def __init__(self, dsn: str) -> None:
        self.client: Final = sentry_sdk.Client(
            dsn,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            transport_queue_size=MAX_QUEUED,
        )

    def send_unhealthy(self, health: DatabaseHealth) -> None:
        """Send an error; all of them are one issue, independent of their reasons."""
        self._send_health("error", "Database unhealthy", health)

    def send_recovered(self, health: DatabaseHealth) -> None:
        """Send an info message in the same issue."""
        self._send_health("info", "Database recovered", health)

    def send(self, notice: Notice) -> None:
        """Send one event, in the issue of its key."""
        event: Event = {
            "level": notice.level,
            "logger": f"metrics_service.{notice.rule}",
            "message": notice.message,
            "fingerprint": list(notice.key),
            "tags": {"rule": notice.rule, "operation": notice.operation},
            "contexts": {notice.rule: dict(notice.facts)},
        }
        self.client.capture_event(event, scope=sentry_sdk.Scope())

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for at most this time, and end the thread."""
        self.client.close(timeout=timeout_s)

    def _send_health(
        self, level: Literal["error", "info"], title: str, health: DatabaseHealth
    ) -> None:
        status = DatabaseHealth.Status.Name(health.status)
        reasons = _messages(health)
        event: Event = {
            "level": level,
            "logger": "metrics_service.health",
            "message": f"{title}: {'; '.join(reasons)}" if reasons else title,
            "fingerprint": ["database_unhealthy"],
            "tags": {
                "rule": "database_unhealthy",
                "status": status,
                "criteria": ",".join(sorted({reason.criterion for reason in health.reasons})),
            },
            "contexts": {
                "database_health": {
                    "status": status,
                    "reasons": reasons,
                    "since": health.since.ToJsonString(),
                    "samples": health.figures.samples,
                    "failed": health.figures.failed,
                    "slow": health.figures.slow,
                }
            },
        }
        self.client.capture_event(event, scope=sentry_sdk.Scope())


def _messages(health: DatabaseHealth) -> list[str]:
    return [
        f"{reason.instance}: {reason.message}" if reason.instance else reason.message
        for reason in health.reasons[:MAX_REASONS]
    ]
