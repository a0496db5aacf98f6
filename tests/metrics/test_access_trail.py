"""Changes of who may call metrics_service are audited in its database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.metrics.running_service import BOUND_S, running
from tests.servicekit.identity.certificates import Folder

CALLERS = """
["watch.example.test"]
roles = ["monitor"]
"""
MORE = '["ops.example.test"]\nroles = ["ops"]\n'


async def rows(connection: asyncpg.Connection[asyncpg.Record], count: int) -> list[asyncpg.Record]:
    """The rows of the trail, once there are so many."""
    async with asyncio.timeout(BOUND_S):
        while True:
            found = await connection.fetch("SELECT * FROM access_events ORDER BY event_time")
            if len(found) >= count:
                assert len(found) == count
                return found
            await asyncio.sleep(0.02)


async def test_a_start_and_each_replaced_file_is_a_row_that_stays(
    metrics_dsn: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS)
    connection = await asyncpg.connect(metrics_dsn)
    try:
        async with running(metrics_dsn, **folder.environ("METRICS_")):
            (started,) = await rows(connection, 1)
            folder.write("callers.toml", CALLERS + MORE)
            _, reloaded = await rows(connection, 2)
        async with running(metrics_dsn):
            *_, anonymous = await rows(connection, 3)
        for statement in ("DELETE FROM", "UPDATE", "TRUNCATE"):
            text = f"{statement} access_events{' SET left_out = 1' * (statement == 'UPDATE')}"
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await connection.execute(text)
    finally:
        await connection.close()
    assert (started["change"], started["added"]) == (
        "STARTED",
        '{"watch.example.test": "roles=monitor"}',
    )
    assert (reloaded["change"], reloaded["added"]) == (
        "RELOADED",
        '{"ops.example.test": "roles=ops"}',
    )
    assert (reloaded["removed"], reloaded["changed"]) == ("{}", "{}")
    assert started["instance"] == reloaded["instance"] != anonymous["instance"]
    assert (anonymous["change"], anonymous["file_sha256"]) == ("STARTED", None)
