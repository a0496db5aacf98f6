"""Opens connections to the metrics database, and names once the errors that make it unavailable."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import structlog

from metrics_service.client.host import PoolerError, check_session, set_session
from metrics_service.storage.errors import LogNotReadyError, LogUnavailableError, line_of
from metrics_service.storage.sql import QueryGroup
from servicekit.database_url import address

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0
MIN_POSTGRES: Final = 15

_DATABASE: Final = QueryGroup("database")
# The tables, and the index and the tables that the newest migrations make.
_NEEDED: Final = [
    "event_log_head",
    "event_log",
    "producer",
    "checkpoint",
    "checkpoint_bucket",
    "fact_received_on",
    "access_events",
    "single_event",
    "silence",
    "alert_notification",
    "session",
    "deployment",
    "history_total",
]
_SETTINGS: Final = {"synchronous_commit": "on"}

log = structlog.get_logger()

TROUBLE: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Of a session that ends in the middle of an exchange.
    asyncpg.InternalClientError,
    LogUnavailableError,
)
"""The database is unreachable, refuses, or has another writer now."""


async def connect(dsn: str, **settings: str) -> asyncpg.Connection[Any]:
    """Connect with durable commits; `settings` are settings of the PostgreSQL session."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings={"application_name": "metrics_service"},
    )
    try:
        await set_session(connection, {**_SETTINGS, **settings}, CONNECT_TIMEOUT_S)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def check_ready(dsn: str) -> None:
    """Raise LogNotReadyError with one line, naming the remedy, unless the log can be used."""
    where = address(dsn)
    try:
        if await check_session(lambda: connect(dsn), _SETTINGS):
            log.info("session_pooler_found")
        connection = await connect(dsn)
    except PoolerError as error:
        raise LogNotReadyError(
            f"the metrics database at {where} cannot be used: {error};"
            " set METRICS_DATABASE_URL to the server itself, or to a pooler in session mode"
        ) from None
    except asyncpg.ClientConfigurationError:
        raise LogNotReadyError(
            f"the metrics database at {where} cannot be reached: "
            "the driver cannot use an option of its address"
        ) from None
    except TROUBLE as trouble:
        absent = isinstance(trouble, asyncpg.InvalidCatalogNameError)
        hint = "run `make migrate`" if absent else "start it, or set METRICS_DATABASE_URL"
        raise LogNotReadyError(
            f"the metrics database at {where} cannot be reached: {line_of(trouble)}; {hint}"
        ) from None
    try:
        version = connection.get_server_version().major
        if version < MIN_POSTGRES:
            raise LogNotReadyError(
                f"the metrics database at {where} is PostgreSQL {version};"
                f" {MIN_POSTGRES} or newer is needed"
            )
        if await connection.fetchval(_DATABASE.count_tables, _NEEDED) != len(_NEEDED):
            raise LogNotReadyError(
                f"the metrics database at {where} is not migrated: run `make migrate`"
            )
    finally:
        await connection.close()
