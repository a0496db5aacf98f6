"""The target `sentry`: an issue for each incident, so that a second one is new and pages again, and
its recovery in the same issue. The check-in tells Sentry each minute that alerts are judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import sentry_sdk
from sentry_sdk.consts import EndpointType
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from sentry_sdk.utils import Dsn

from metrics_service.alerts.targets.notice import Notice, Notification
from metrics_service.alerts.targets.posting import Poster

if TYPE_CHECKING:
    from sentry_sdk.types import Event, MonitorConfig

NAME: Final = "sentry"
_LEVELS: Final[dict[str, Literal["info", "warning", "error"]]] = {
    "info": "info",
    "warning": "warning",
    "critical": "error",
}

CHECK_IN_MINUTES: Final = 1
LATE_MINUTES: Final = 2
_MONITOR: Final[MonitorConfig] = {
    "schedule": {"type": "interval", "value": CHECK_IN_MINUTES, "unit": "minute"},
    "checkin_margin": LATE_MINUTES,
}


class _Kept(Transport):
    """Keeps what the client would send: the sender must know what becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.envelopes: list[Envelope] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)


class Sentry:
    """Posts one envelope for each change of an alert.

    Its client has no integrations, so that nothing else is in them: no local variables, no
    breadcrumbs, no personal data.
    """

    name: Final = NAME

    def __init__(self, dsn: str) -> None:
        self._kept = _Kept()
        self._client = sentry_sdk.Client(
            dsn,
            transport=self._kept,
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
        )
        auth = Dsn(dsn).to_auth("farehold")
        self._poster = Poster(auth.get_api_url(EndpointType.ENVELOPE))
        self._headers = {
            "Content-Type": "application/x-sentry-envelope",
            "User-Agent": "farehold",
            "X-Sentry-Auth": auth.to_header(),
        }

    def parts(self, notification: Notification) -> list[Notification]:
        return notification.apart()

    async def send(self, part: Notification) -> str:
        said = ""
        for notice in part.news:
            said = await self._post(event_of(notice))
        return said

    async def check_in(self, monitor: str, check_in_id: str) -> str:
        """Tell the monitor of this slug that all is well, and make it if there is none."""
        return await self._post(
            {
                "type": "check_in",
                "monitor_slug": monitor,
                "check_in_id": check_in_id,
                "status": "ok",
                "environment": self._client.options.get("environment"),
                "monitor_config": _MONITOR,
            }
        )

    async def _post(self, event: Event) -> str:
        self._kept.envelopes.clear()
        self._client.capture_event(event, scope=sentry_sdk.Scope())
        (envelope,) = self._kept.envelopes
        return await self._poster.post(envelope.serialize(), self._headers)


def event_of(notice: Notice) -> Event:
    """Return the event of a notice; its id is that of the notice, by which Sentry knows it again.

    Its issue is that of the incident.
    """
    alert = notice.alert
    ratio = f"{alert.ratio.numerator} of {alert.ratio.denominator}"
    details: dict[str, object] = {
        "labels": dict(sorted(alert.labels.items())),
        "value": alert.value if alert.HasField("value") else None,
        "threshold": alert.threshold,
        "unit": alert.unit,
        "ratio": ratio if alert.HasField("ratio") else None,
        "window_s": alert.window.seconds,
        "causes": [cause.text for cause in alert.causes],
        "action": alert.action,
        "fired": alert.fire_time.ToJsonString() if alert.HasField("fire_time") else None,
        "resolved": alert.resolve_time.ToJsonString() if notice.over else None,
    }
    labels = [f"{name}={value}" for name, value in sorted(alert.labels.items())]
    return {
        "event_id": notice.id,
        "level": "info" if notice.over or notice.change == "test" else _LEVELS[notice.severity],
        "logger": "metrics_service.alerts",
        "message": notice.text,
        "fingerprint": [alert.rule, *labels, alert.id],
        "tags": {
            "rule": alert.rule,
            "severity": notice.severity,
            "change": notice.change,
            "incident": alert.id,
        },
        "contexts": {"alert": {name: each for name, each in details.items() if each}},
    }
