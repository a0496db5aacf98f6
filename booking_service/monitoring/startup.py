"""Checks before the service starts; each failure is one line that names what to do.

Nothing is served on a database that is absent, too old, or not migrated.
"""

from __future__ import annotations

import asyncio
from typing import Final

import sentry_sdk
import structlog
from sentry_sdk.integrations.logging import LoggingIntegration

from booking_service.monitoring.probe import ProbeState, schema_state
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    translate_driver_errors,
)
from booking_service.storage.sql import QueryGroup
from metrics_service.client import check_coverage
from metrics_service.client.host import PoolerError
from servicekit import faults
from servicekit.database_url import address
from servicekit.start import StartError

OLDEST_SERVER: Final = 150000
OLDEST_SERVER_WITH_PLANS: Final = 160000
"""Versions of PostgreSQL, as in server_version_num."""

COVERAGE_TIMEOUT_S: Final = 10.0
"""How long the check of the timing of queries may take."""

_PROBE: Final = QueryGroup("probe")

log = structlog.get_logger()


async def require_database(database: Database) -> None:
    """Check that the database can be reached, is recent enough and migrated. Raises StartError."""
    where = f"the booking database at {address(database.dsn)}"
    try:
        if await database.check_session():
            log.info("session_pooler_found")
        connection = await database.connect("start")
    except PoolerError as error:
        raise StartError(
            f"{where} cannot be used: {error}; set BOOKING_DATABASE_URL to the server itself,"
            " or to a pooler in session mode"
        ) from None
    except DatabaseUnavailable as error:
        hint = (
            "run `make migrate`" if _is_absent(error) else "start it, or set BOOKING_DATABASE_URL"
        )
        raise StartError(f"{where} cannot be used: {error}; {hint}") from None
    try:
        with translate_driver_errors():
            version = await connection.fetchval(_PROBE.server_version)
            state = await schema_state(connection)
    except DatabaseUnavailable as error:
        raise StartError(f"{where} cannot be used: {error}") from None
    finally:
        connection.terminate()
    release = f"PostgreSQL {version // 10000}"
    if version < OLDEST_SERVER:
        raise StartError(f"{where} is {release}: 16 or newer is needed (15 works without plans)")
    if version < OLDEST_SERVER_WITH_PLANS:
        log.warning("query_plans_unavailable", server=release)
    if state is ProbeState.SCHEMA_MISSING:
        raise StartError(f"{where} is not migrated: run `make migrate`")


async def require_timing(database: Database) -> None:
    """Check that queries of every kind are timed, and log each kind that is not.

    Raises StartError, also if the check takes longer than COVERAGE_TIMEOUT_S.
    """
    try:
        async with asyncio.timeout(COVERAGE_TIMEOUT_S):
            with translate_driver_errors():
                wrong = await check_coverage(database.dsn)
    except TimeoutError:
        raise StartError(
            f"the timing of queries could not be checked within {COVERAGE_TIMEOUT_S:g} s:"
            " is the database locked or overloaded?"
        ) from None
    except (DatabaseUnavailable, DatabaseError) as error:
        raise StartError(f"the timing of queries cannot be checked: {error}") from None
    for line in wrong:
        log.error("query_timing_wrong", check=line)
    if wrong:
        raise StartError(
            f"{len(wrong)} kinds of queries are not timed correctly (see the log):"
            " is this version of asyncpg supported?"
        )


async def open_database(database: Database) -> None:
    """Connect the pool. Raises StartError."""
    try:
        await database.open()
    except DatabaseUnavailable as error:
        where = address(database.dsn)
        raise StartError(f"the booking database at {where} cannot be used: {error}") from None


async def settle_clock(database: Database) -> None:
    """Wait until the database's clock can be believed. Raises StartError."""
    try:
        async with database.connection() as connection:
            await database.clock.settle(connection)
    except (DatabaseUnavailable, DatabaseError) as error:
        where = address(database.dsn)
        raise StartError(f"the booking database at {where} cannot be used: {error}") from None


def report_faults(sentry_dsn: str) -> None:
    """Send unforeseen errors, which the interceptor captures, to Sentry; do nothing without a DSN.

    Personal data and the texts of the database driver are left out.
    """
    if not sentry_dsn:
        return
    sentry_sdk.init(
        sentry_dsn,
        # Its asyncpg integration would put SQL into spans.
        auto_enabling_integrations=False,
        # Log lines are not faults.
        integrations=[LoggingIntegration(event_level=None)],
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        before_send=faults.before_send,
    )


def _is_absent(error: DatabaseUnavailable) -> bool:
    return isinstance(error, ConnectionLost) and error.absent
