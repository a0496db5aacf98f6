"""A process that is killed between sending a notice and recording it."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import pytest

from metrics_service.storage.notifications import NotificationLedger
from tests.metrics.alerts.targets.receiver import BOUND_S, listening

ALERT = "a" * 32
BLOCKED = """
SELECT count(*) FROM pg_locks
WHERE relation = 'alert_notification'::regclass AND mode = 'RowExclusiveLock' AND NOT granted
"""


@pytest.mark.processes
async def test_a_notice_is_sent_again_with_the_same_id_after_a_kill_and_then_no_more(
    metrics_dsn: str,
) -> None:
    with listening() as receiver:

        async def start() -> asyncio.subprocess.Process:
            arguments = ("-m", "tests.metrics.alerts.targets.teller", metrics_dsn, receiver.url)
            return await asyncio.create_subprocess_exec(sys.executable, *arguments, ALERT)

        connection = await asyncpg.connect(metrics_dsn)
        try:
            lock = connection.transaction()
            await lock.start()
            # The ledger can be read, and not written.
            await connection.execute("LOCK TABLE alert_notification IN SHARE MODE")
            process = await start()
            await asyncio.to_thread(receiver.next)
            async with asyncio.timeout(BOUND_S):
                while not await connection.fetchval(BLOCKED):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            process.kill()
            await process.wait()
            await lock.rollback()
        finally:
            await connection.close()
        process = await start()
        await asyncio.to_thread(receiver.next)
        assert await asyncio.wait_for(process.wait(), BOUND_S) == 0
        first, second = (request.notices() for request in receiver.requests)
        assert first == second
        assert first[0][0] == "fired"
        ledger = NotificationLedger(metrics_dsn)
        rows = await ledger.list([ALERT])
        await ledger.close()
        assert [(row.target, row.ordinal, row.change) for row in rows] == [("webhook", 0, "fired")]
