"""Notifies people when the database turns unhealthy or facts are not delivered, when that is over,
and of other notices.

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


_DATABASE: Final = "database"
_TITLES: Final = {
    "log": "The event log cannot be written",
    "lead_lost": "Another process writes the event log",
    "undelivered": "Facts are not delivered",
    "no_leader": "No process delivers facts",
    "forked": "Facts are not delivered: their lane is forked",
    "withheld": "Facts are withheld until a refill sends them",
    "fenced": "Facts are not delivered: their lane is fenced",
}
"""Of each criterion that is an issue of its own; the others together are that of the database."""
_OF_THE_LOG: Final = frozenset({"log", "lead_lost"})
_NEVER_UNHEALTHY: Final = frozenset(
    {"heartbeat", "p95_ms", "slow", "telemetry_fenced", "over_budget"}
)


class HealthAlert:
    """Notifies of the begin and of the end of each issue exactly once: that of the database, and
    those of the log and of facts, by their criteria.

    While an instance is stale nothing is known of it, so that no issue ends but those of the log.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._raised: set[str] = set()

    @property
    def raised(self) -> frozenset[str]:
        """The issues that have begun and are not over."""
        return frozenset(self._raised)

    def observe(self, health: DatabaseHealth) -> None:
        """Take the current verdict."""
        present = _issues(health)
        for issue in sorted(present - self._raised):
            self._raised.add(issue)
            self._begin(issue, health)
        for issue in sorted(self._raised - present):
            if _is_over(issue, health):
                self._raised.remove(issue)
                self._end(issue, health)

    def _begin(self, issue: str, health: DatabaseHealth) -> None:
        reasons = _messages(health, issue)
        if issue == _DATABASE:
            log.error("database_unhealthy", reasons=reasons)
            self._notifier.send_unhealthy(health)
            return
        log.error("alert_raised", criterion=issue, reasons=reasons)
        message = f"{_TITLES[issue]}: {'; '.join(reasons)}"
        self._notifier.send(Notice(issue, "error", message, ("health", issue)))

    def _end(self, issue: str, health: DatabaseHealth) -> None:
        if issue == _DATABASE:
            log.info("database_recovered", reasons=_messages(health, issue))
            self._notifier.send_recovered(health)
            return
        log.info("alert_ended", criterion=issue)
        message = f"{_TITLES[issue]}: this is over"
        self._notifier.send(Notice(issue, "info", message, ("health", issue)))


def _issue_of(criterion: str) -> str:
    return criterion if criterion in _TITLES else _DATABASE


def _issues(health: DatabaseHealth) -> set[str]:
    if health.status != DatabaseHealth.UNHEALTHY:
        return set()
    criteria = {reason.criterion for reason in health.reasons} - _NEVER_UNHEALTHY
    return {_issue_of(criterion) for criterion in criteria}


def _is_over(issue: str, health: DatabaseHealth) -> bool:
    """Whether an issue without a reason is over, rather than unknown."""
    if issue in _OF_THE_LOG:
        return health.log.writable
    stale = any(reason.criterion == "heartbeat" for reason in health.reasons)
    return not stale and health.status not in (
        DatabaseHealth.STATUS_UNSPECIFIED,
        DatabaseHealth.STALE,
    )


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
        reasons = _messages(health, _DATABASE)
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


def _messages(health: DatabaseHealth, issue: str) -> list[str]:
    reasons = [reason for reason in health.reasons if _issue_of(reason.criterion) == issue]
    return [
        f"{reason.instance}: {reason.message}" if reason.instance else reason.message
        for reason in reasons[:MAX_REASONS]
    ]
