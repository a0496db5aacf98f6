"""The ledger of notifications in its database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from metrics_service.storage.errors import LogUnavailableError
from metrics_service.storage.notifications import RETENTION, NotificationLedger, SentNotice

DAY_US = 24 * 3600 * 10**6
NOW_US = 1_790_000_000_123_456


@pytest_asyncio.fixture
async def ledger(metrics_dsn: str) -> AsyncIterator[NotificationLedger]:
    opened = NotificationLedger(metrics_dsn)
    yield opened
    await opened.close()


async def test_each_notice_is_there_once_as_it_was_first_written(
    ledger: NotificationLedger,
) -> None:
    assert await ledger.list(["a"]) == []
    first = [
        SentNotice("a", "sentry", 0, "fired", NOW_US),
        SentNotice("a", "webhook", 0, "fired", NOW_US + 1),
        SentNotice("b", "webhook", 0, "released", NOW_US),
    ]
    await ledger.add(first)
    again = SentNotice("a", "sentry", 0, "fired", NOW_US + 99)
    await ledger.add([again, SentNotice("a", "sentry", 1, "resolved", NOW_US + 2)])
    assert await ledger.list(["a"]) == [
        first[0],
        SentNotice("a", "sentry", 1, "resolved", NOW_US + 2),
        first[1],
    ]
    assert await ledger.list(["b", "c"]) == [first[2]]


async def test_an_alert_is_forgotten_a_while_after_its_last_notice(
    ledger: NotificationLedger,
) -> None:
    kept = RETENTION.days
    rows = [
        SentNotice("over", "webhook", 0, "fired", NOW_US - (kept + 9) * DAY_US),
        SentNotice("over", "webhook", 1, "resolved", NOW_US - (kept + 1) * DAY_US),
        SentNotice("still firing", "webhook", 0, "fired", NOW_US - (kept + 9) * DAY_US),
        SentNotice("still firing", "webhook", 1, "repeated", NOW_US - (kept - 1) * DAY_US),
    ]
    await ledger.add(rows)
    await ledger.remove_old(NOW_US)
    assert await ledger.list(["over", "still firing"]) == rows[2:]


async def test_a_database_that_is_away_is_named() -> None:
    ledger = NotificationLedger("postgresql://nobody@127.0.0.1:1/metrics")
    with pytest.raises(LogUnavailableError):
        await ledger.list(["a"])
