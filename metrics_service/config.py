"""The settings of metrics_service: METRICS_* in the environment, checked before anything starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from servicekit import database_url
from servicekit.http.settings import HttpSettings

MAX_SERVICE_BYTES: Final = 128
SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


class MetricsSettings(HttpSettings):
    """Every setting of metrics_service. Names of durations end with their unit."""

    model_config = SettingsConfigDict(env_prefix="METRICS_")

    port: int = Field(50052, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 takes a free one.")
    database_url: str = Field(
        "",
        repr=False,
        validate_default=True,
        description="PostgreSQL database of the event log, postgresql://user@host:port/database.",
    )
    alert_rules: Path | None = Field(
        None,
        description="TOML file with the rules of alerts, read at the start and on SIGHUP; "
        "empty takes those that are shipped.",
    )
    sentry_dsn: str = Field(
        "",
        repr=False,
        description="Sentry project that receives alerts and faults; empty sends nothing.",
    )
    sentry_monitor: str = Field(
        "",
        description="Slug of the Sentry monitor that is told each minute that alerts are judged; "
        "empty tells none.",
    )
    notify_info: bool = Field(
        False,
        description="Whether alerts of severity info, such as anomalies, go to Sentry and the "
        "webhook too; else they are listed and logged.",
    )
    webhook_url: str = Field(
        "",
        repr=False,
        description="http or https address that notifications are posted to, in Alertmanager's "
        "format; empty sends none.",
    )
    webhook_token_file: Path | None = Field(
        None,
        description="File with the bearer token of the webhook; it is read for each notification.",
    )
    external_url: str = Field(
        "",
        description="Address of this service's HTTP as people reach it, for links in "
        "notifications; empty takes host and port.",
    )
    environment: str = Field(
        "",
        max_length=50,
        description="Name of the environment, such as production, as the page shows it.",
    )
    heartbeat_ms: int = Field(
        1000,
        ge=100,
        le=60_000,
        description="Interval of producers' heartbeats; an instance is stale after three missed.",
    )
    watched_services: str = Field(
        "booking_service",
        description="Services that decide the health of the database, separated by commas.",
    )
    allow_backfill: bool = Field(
        False, description="Whether producers may load history, with the times they give."
    )
    backfill_only: bool = Field(
        False,
        description="Whether only such producers are taken, and time is that of their events: for "
        "a database of history alone, as that of `make history`.",
    )
    checkpoint_interval_s: float = Field(
        30.0, ge=1, le=3600, description="Interval of the checkpoints of the folded state."
    )
    log_retention_days: int = Field(
        35, ge=31, le=3650, description="Retention of the event log; more than the longest window."
    )
    log_max_mb: float = Field(
        32_768,
        ge=0.01,
        le=100_000_000,
        description="Largest size of the event log in MB; beyond it the oldest days are dropped, "
        "and then telemetry is refused.",
    )
    fact_ids_days: int = Field(
        400,
        ge=35,
        le=36_500,
        description="How long a fact that arrives again is known as such; one that is older by its "
        "own time is then taken for a repeat.",
    )
    producers_max: int = Field(
        10_000,
        ge=10,
        le=1_000_000,
        description="Producers whose last batch is remembered; beyond it those without a stream "
        "that have sent no facts are forgotten, oldest first.",
    )
    health_samples_min: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Percentiles are judged once the window has this many queries.",
    )
    health_down_after_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="How long figures must be bad before the verdict becomes worse.",
    )
    health_up_after_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long all figures must be good before the verdict recovers.",
    )
    health_gap_s: float = Field(
        60.0,
        ge=0,
        le=3600,
        description="Minimum time between two changes of the verdict, except for a hard failure.",
    )
    stream_stall_s: float = Field(
        30.0,
        ge=0.1,
        le=3600,
        description="A stream ends when its reader takes nothing for this long.",
    )
    stream_repeat_s: float = Field(
        15.0,
        ge=0.1,
        le=3600,
        description="How often a snapshot is sent again while nothing changes.",
    )

    @property
    def watched(self) -> frozenset[str]:
        """The services that decide the health; none where only history is taken."""
        return frozenset() if self.backfill_only else frozenset(self.watched_services.split(","))

    @property
    def heartbeat_s(self) -> float:
        """The interval of heartbeats in seconds."""
        return self.heartbeat_ms / 1000

    @property
    def http_names(self) -> frozenset[str]:
        """The names under which HTTP is reached, in lower case."""
        own = urlsplit(self.external_url).hostname
        return super().http_names | ({own.lower()} if own else set())

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        database_url.check(value, "metrics")
        return value

    @field_validator("watched_services")
    @classmethod
    def _check_watched_services(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        if not all(0 < len(name.encode()) <= MAX_SERVICE_BYTES for name in names):
            raise ValueError(
                f"must be names of 1 to {MAX_SERVICE_BYTES} bytes, such as booking_service,reviews"
            )
        return ",".join(dict.fromkeys(names))

    @field_validator("sentry_dsn")
    @classmethod
    def _check_sentry_dsn(cls, value: str) -> str:
        if value and not _is_dsn(value):
            raise ValueError("must be empty or an address such as https://key@host/1")
        return value

    @field_validator("sentry_monitor")
    @classmethod
    def _check_sentry_monitor(cls, value: str) -> str:
        if value and not SLUG.fullmatch(value):
            raise ValueError("must be a slug, such as farehold-alerts")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, value: str) -> str:
        if value and not _is_http(value):
            raise ValueError("must be empty or an address such as https://host/path")
        return value

    @field_validator("external_url")
    @classmethod
    def _check_external_url(cls, value: str) -> str:
        if value and (not _is_http(value) or set("?@") & set(value)):
            raise ValueError("must be empty or an address such as https://metrics.example.org")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if self.sentry_monitor and not self.sentry_dsn:
            raise ValueError("METRICS_SENTRY_MONITOR needs METRICS_SENTRY_DSN")
        if self.webhook_token_file is not None:
            if not self.webhook_url:
                raise ValueError("METRICS_WEBHOOK_TOKEN_FILE needs METRICS_WEBHOOK_URL")
            if "@" in urlsplit(self.webhook_url).netloc:
                raise ValueError(
                    "METRICS_WEBHOOK_URL must name no user where METRICS_WEBHOOK_TOKEN_FILE is set"
                )
        return self


def _is_http(address: str) -> bool:
    if re.search(r"[\x00-\x20\x7f\s#\\\ud800-\udfff]", address):
        return False
    try:
        parts = urlsplit(address)
        if parts.hostname is None:
            return False
        parts.hostname.encode("idna")
        return parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        return False


def _is_dsn(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(
            parts.username and parts.hostname and parts.path.rsplit("/", 1)[-1].isdigit()
        )
    except ValueError:
        return False
