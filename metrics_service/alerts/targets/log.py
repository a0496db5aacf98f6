"""The target `log`: one line for each change of an alert."""

from __future__ import annotations

from typing import Final

import structlog

from metrics_service.alerts.targets.notice import Notice, Notification

NAME: Final = "log"

log = structlog.get_logger()


class Log:
    """Writes to the log of the service."""

    name: Final = NAME

    def parts(self, notification: Notification) -> list[Notification]:
        return notification.apart()

    async def send(self, part: Notification) -> str:
        for notice in part.news:
            _write(notice)
        return "logged"


def _write(notice: Notice) -> None:
    alert = notice.alert
    fields = {
        "rule": alert.rule,
        "severity": notice.severity,
        "alert": alert.id,
        "labels": dict(sorted(alert.labels.items())),
        "summary": alert.summary,
    }
    urgent = notice.severity == "critical"
    write = log.error if urgent else log.warning if notice.severity == "warning" else log.info
    match notice.change:
        case "fired":
            write("alert_fired", **fields, causes=[cause.text for cause in alert.causes])
        case "released":
            write("alert_released", **fields)
        case "repeated":
            write("alert_repeated", **fields)
        case "resolved":
            log.info("alert_resolved", **fields, end_reason=alert.end_reason)
        case "found_late":
            write("alert_found_late", **fields)
        case _:
            log.info("alert_tested", **fields)
