"""The settings of booking_service: BOOKING_* in the environment, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from servicekit import database_url
from servicekit.channels import ClientFiles
from servicekit.http.settings import HttpSettings


class BookingSettings(HttpSettings):
    """The settings of booking_service. Durations carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="BOOKING_")

    http_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="HTTP port of GET /metrics; 0 takes a free one, and without it there is none.",
    )
    database_url: str = Field(
        "",
        repr=False,
        validate_default=True,
        validation_alias=AliasChoices("BOOKING_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL database of the bookings, postgresql://user@host:port/database.",
    )
    database_pool_size: int = Field(
        8, ge=2, le=200, description="Largest number of pooled database connections."
    )
    metrics_target: str = Field(
        "127.0.0.1:50052",
        description="host:port of metrics_service; empty keeps all facts in the outbox.",
    )
    metrics_tls_ca: Path | None = Field(
        None,
        description="PEM file of the authorities of metrics_service's certificate, if it has TLS.",
    )
    metrics_tls_cert: Path | None = Field(
        None, description="PEM file of the certificate chain that is shown to metrics_service."
    )
    metrics_tls_key: Path | None = Field(
        None, description="PEM file of the key of that certificate."
    )
    metrics_token_file: Path | None = Field(
        None, description="File with the token for metrics_service, where callers have tokens."
    )
    sentry_dsn: str = Field(
        "", repr=False, description="Sentry project to which errors are sent; empty sends nothing."
    )
    group_size_max: int = Field(
        256, ge=1, le=256, description="Largest number of commands in one transaction."
    )
    queue_max: int = Field(
        2048,
        ge=1,
        le=65_536,
        description="Largest number of waiting commands, light and heavy each; more are refused.",
    )
    queue_wait_max_ms: int = Field(
        500,
        ge=10,
        le=60_000,
        description="How long the oldest command may wait before new ones are OVERLOADED.",
    )
    holds_per_user_max: int = Field(
        0, ge=0, le=10_000, description="Largest number of live holds per user; 0 is no limit."
    )
    one_hold_per_user_and_package: bool = Field(
        False,
        description="Whether a user's second live hold of a package is refused as ALREADY_HELD.",
    )
    sweep_interval_s: float = Field(
        5.0, ge=0.1, le=3600, description="How often lapsed holds and ended stays are swept."
    )
    segment_retention_h: float = Field(
        24.0,
        ge=0.01,
        le=24 * 365,
        description="How long facts are kept after metrics_service has acknowledged them.",
    )
    delivery_max_mb: float = Field(
        4096,
        ge=0.01,
        le=10_000_000,
        description="Largest size of the facts that wait for metrics_service or are kept after it "
        "has them, in MB; beyond it new ones stay in the audit trail alone, for a refill.",
    )
    early_payments_max_mb: float = Field(
        64,
        ge=0.001,
        le=100_000,
        description="Largest size of the payment events kept for bookings that do not exist yet, "
        "in MB; more are refused as OVERLOADED.",
    )
    answers_max_mb: float = Field(
        8192,
        ge=0.5,
        le=10_000_000,
        description="Largest size of the answers kept for repeated requests, in MB; beyond it the "
        "oldest go before their 24 hours, and within the last 4 to 8 hours commands are refused.",
    )
    vendors_max: int = Field(
        100_000, ge=1, le=10**9, description="Vendors; more are refused as STORAGE_FULL."
    )
    packages_max: int = Field(
        100_000, ge=1, le=10**9, description="Packages; more are refused as STORAGE_FULL."
    )

    capture_running_queries: bool = Field(
        True,
        description="Whether metrics_service receives what running queries wait for.",
    )
    capture_plans: bool = Field(
        True, description="Whether metrics_service receives the plans of slow statements."
    )
    capture_after_ms: int = Field(
        500,
        ge=10,
        le=3_600_000,
        description="How long a query runs before it is inspected and its plan is captured.",
    )
    development: bool = Field(
        False,
        description="Whether to refuse to start when queries of some kind are not timed.",
    )

    health_samples_min: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Queries that the window needs before percentiles are judged.",
    )
    health_down_after_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="How long percentiles must be bad before the verdict changes.",
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
        description="How long the verdict stays after a change, unless the database fails.",
    )

    @property
    def metrics_files(self) -> ClientFiles:
        """What the stream to metrics_service needs for TLS."""
        return ClientFiles(
            "BOOKING_METRICS_",
            self.metrics_tls_ca,
            self.metrics_tls_cert,
            self.metrics_tls_key,
            self.metrics_token_file,
        )

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str) -> str:
        database_url.check(value, "booking")
        return value

    @field_validator("metrics_target")
    @classmethod
    def _check_metrics_target(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if value and not (host and colon and port.isdecimal() and 0 < int(port) < 65_536):
            raise ValueError("must be empty or host:port, such as 127.0.0.1:50052")
        return value

    @field_validator("sentry_dsn")
    @classmethod
    def _check_sentry_dsn(cls, value: str) -> str:
        if value and not _is_sentry_dsn(value):
            raise ValueError("must be empty or an address such as https://key@host/1")
        return value


def _is_sentry_dsn(address: str) -> bool:
    try:
        parts = urlsplit(address)
        numbered = parts.path.rsplit("/", 1)[-1].isdigit()
        known = parts.scheme in ("http", "https") and parts.username and parts.hostname
        return bool(known and numbered)
    except ValueError:
        return False
