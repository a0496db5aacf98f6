"""A read-only database, as after a failover, is a lost log: it is led again without a restart."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest
import structlog

from metrics_service.eventlog.event_log import EventLog
from metrics_service.state.record import LogRecord
from metrics_service.storage.connections import TROUBLE
from metrics_service.storage.errors import LogUnavailableError
from tests.metrics.delivery_pair import until
from tests.metrics.eventlog.test_event_log import attach, everything, opened
from tests.read_only import read_only


async def stored(log: EventLog) -> list[LogRecord]:
    """All records; the first read may still meet the session that was ended."""
    with contextlib.suppress(LogUnavailableError):
        return await everything(log)
    return await everything(log)


def test_a_session_that_ends_is_trouble_whatever_the_driver_calls_it() -> None:
    assert issubclass(asyncpg.InternalClientError, TROUBLE)
    assert issubclass(asyncpg.ReadOnlySQLTransactionError, TROUBLE)


async def test_a_read_only_database_is_a_lost_log(metrics_dsn: str) -> None:
    with structlog.testing.capture_logs() as lines:
        async with opened(metrics_dsn) as log, asyncio.timeout(60):
            append = await attach(log)
            await append(1, b"before")
            async with read_only(metrics_dsn):
                # The writer meets its ended session when it writes.
                with pytest.raises(LogUnavailableError):
                    await append(2, b"during")
                await until(lambda: not log.leading, "the loss of the lead")
                assert [record.payload for record in await stored(log)] == [b"before"]
                with pytest.raises(LogUnavailableError):
                    await log.save_checkpoint(1, 1, [], [], replace=False)
                with pytest.raises(LogUnavailableError):
                    await append(2, b"during")
            await log.wait_leading()
            again = await attach(log)
            await again(2, b"after")
            payloads = [record.payload for record in await stored(log)]
            assert [each for each in payloads if each] == [b"before", b"after"]
    events = [line["event"] for line in lines]
    assert "log_writer_failed" not in events
    assert events.count("log_lost") <= 2
