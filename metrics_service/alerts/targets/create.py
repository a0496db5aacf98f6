"""Makes the targets that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from metrics_service.alerts.targets import log, sentry, webhook
from metrics_service.alerts.targets.groups import TIMING, Timing
from metrics_service.alerts.targets.monitor import Monitor
from metrics_service.alerts.targets.notice import Target
from metrics_service.alerts.targets.posting import Poster
from metrics_service.alerts.targets.targets import Targets, held_by
from metrics_service.config import MetricsSettings
from metrics_service.storage.notifications import NotificationLedger
from protos.metrics.v1.alert_pb2 import ALERT_SEVERITY_INFO, Alert
from servicekit.settings import SettingsError


def create_targets(
    settings: MetricsSettings, held: Callable[[Alert], str] = held_by, timing: Timing = TIMING
) -> Targets:
    """Return the targets, which are not started. SettingsError where the token cannot be read.

    held: what holds back the notifications of an alert now; "" for nothing.
    """
    targets: list[Target] = [log.Log()]
    unset: dict[str, str] = {}
    monitor = None
    if settings.sentry_dsn:
        to_sentry = sentry.Sentry(settings.sentry_dsn)
        targets.append(to_sentry)
        if settings.sentry_monitor:
            monitor = Monitor(to_sentry, settings.sentry_monitor)
    else:
        unset[sentry.NAME] = "METRICS_SENTRY_DSN"
    if settings.webhook_url:
        targets.append(_webhook(settings))
    else:
        unset[webhook.NAME] = "METRICS_WEBHOOK_URL"
    return Targets(
        targets,
        NotificationLedger(settings.database_url),
        unset=unset,
        monitor=monitor,
        held=held,
        told=partial(is_told, settings.notify_info),
        timing=timing,
    )


def is_told(info_too: bool, target: str, alert: Alert) -> bool:
    """Whether a target is told of an alert: of severity info only the log, unless that is set."""
    return info_too or target == log.NAME or alert.severity != ALERT_SEVERITY_INFO


def _webhook(settings: MetricsSettings) -> webhook.Webhook:
    token_file = settings.webhook_token_file
    if token_file is not None:
        try:
            webhook.read_token(token_file)
        except ValueError as error:
            raise SettingsError(f"METRICS_WEBHOOK_TOKEN_FILE={token_file} {error}") from None
    return webhook.Webhook(Poster(settings.webhook_url), _own_address(settings), token_file)


def _own_address(settings: MetricsSettings) -> str:
    if settings.external_url:
        return settings.external_url
    host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{host}:{settings.http_port}"
