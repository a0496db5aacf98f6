"""The target `webhook`: Alertmanager's body, version 4, posted to an address from the settings."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import reduce
from pathlib import Path
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.alerts.targets.notice import NotAcceptedError, Notice, Notification
from metrics_service.alerts.targets.posting import Poster
from protos.metrics.v1.alert_pb2 import Alert

NAME: Final = "webhook"

MAX_ALERTS: Final = 100
"""Alerts of one body; it says how many more there are."""

MAX_TOKEN_BYTES: Final = 4096
_NEVER: Final = "0001-01-01T00:00:00Z"


class Webhook:
    """Posts one body for each notification. `external_url` is the address of our own pages."""

    name: Final = NAME

    def __init__(self, poster: Poster, external_url: str, token_file: Path | None = None) -> None:
        self._poster = poster
        self._external_url = external_url
        self._token_file = token_file

    def parts(self, notification: Notification) -> list[Notification]:
        return [notification]

    async def send(self, part: Notification) -> str:
        headers = {"Content-Type": "application/json", "User-Agent": "farehold"}
        if self._token_file is not None:
            try:
                # Read each time, since it may be replaced.
                token = await asyncio.to_thread(read_token, self._token_file)
            except ValueError as error:
                raise NotAcceptedError(f"METRICS_WEBHOOK_TOKEN_FILE {error}") from None
            headers["Authorization"] = f"Bearer {token}"
        body = body_of(part, self._external_url)
        return await self._poster.post(json.dumps(body).encode(), headers)


def read_token(path: Path) -> str:
    """Return the token that is the text of a file. ValueError says why it cannot be used."""
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not token or len(token) > MAX_TOKEN_BYTES or not all(33 <= each < 127 for each in token):
        raise ValueError(f"must hold one token of 1 to {MAX_TOKEN_BYTES} printable characters")
    return token.decode()


def body_of(notification: Notification, external_url: str) -> dict[str, Any]:
    """Return the body of a notification, as the webhook of Alertmanager sends it."""
    shown = notification.notices[:MAX_ALERTS]
    alerts = [_alert(each, external_url) for each in shown]
    firing = any(not each.over for each in notification.notices)
    return {
        "version": "4",
        "groupKey": f"{{}}:{{alertname={json.dumps(notification.rule)}}}",
        "truncatedAlerts": len(notification.notices) - len(shown),
        "status": "firing" if firing else "resolved",
        "receiver": NAME,
        "groupLabels": {"alertname": notification.rule},
        "commonLabels": _common([each["labels"] for each in alerts]),
        "commonAnnotations": _common([each["annotations"] for each in alerts]),
        "externalURL": external_url,
        "alerts": alerts,
    }


def _alert(notice: Notice, external_url: str) -> dict[str, Any]:
    alert = notice.alert
    labels = {**alert.labels, "alertname": alert.rule, "severity": notice.severity}
    annotations = {
        "summary": notice.text,
        "description": "\n".join(cause.text for cause in alert.causes),
        "action": alert.action,
        "change": notice.change,
        "incident": alert.id,
        "notice": notice.id,
    }
    identity = json.dumps(sorted(labels.items())).encode()
    return {
        "status": "resolved" if notice.over else "firing",
        "labels": labels,
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _time(alert.fire_time if alert.HasField("fire_time") else alert.start_time),
        "endsAt": _ended(alert) if notice.over else _NEVER,
        "generatorURL": f"{external_url}/alerts/{alert.id}",
        "fingerprint": hashlib.sha256(identity).hexdigest()[:16],
    }


def _ended(alert: Alert) -> str:
    return _time(alert.resolve_time)


def _time(time: Timestamp) -> str:
    return time.ToJsonString()


def _common(each: list[dict[str, str]]) -> dict[str, str]:
    shared = reduce(lambda left, right: dict(left.items() & right.items()), each)
    return dict(sorted(shared.items()))
