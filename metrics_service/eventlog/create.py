"""Makes the log that the settings describe."""

from __future__ import annotations

from metrics_service.config import MetricsSettings
from metrics_service.eventlog.event_log import EventLog


def create_log(settings: MetricsSettings) -> EventLog:
    """Return the log, which is not started."""
    return EventLog(
        settings.database_url,
        retention_days=settings.log_retention_days,
        max_producers=settings.producers_max,
        max_bytes=round(settings.log_max_mb * 10**6),
        fact_ids_days=settings.fact_ids_days,
        backfill_only=settings.backfill_only,
    )
