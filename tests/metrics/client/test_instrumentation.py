"""The public face of the client: what init sets up, what it refuses, and what a script loses."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metrics_service import client
from metrics_service.client.instrumentation import Instrumentation
from tests.metrics.client.recording import Recording

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def telemetry() -> AsyncIterator[Instrumentation]:
    telemetry = client.init(NOWHERE, service="hotels")
    try:
        yield telemetry
    finally:
        await telemetry.close(0.0)


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_public_face_has_at_most_seventeen_names() -> None:
    assert len(client.__all__) <= 17
    assert "default_tracker" in client.__all__


async def test_a_pool_made_after_init_uses_the_default_tracker(
    empty_dsn: str, telemetry: Instrumentation
) -> None:
    pool = await client.TrackedPool.create(empty_dsn, min_size=1, max_size=1)
    try:
        await pool.fetchval("SELECT 1")
    finally:
        await pool.close()
    assert pool.tracker is client.default_tracker()
    assert telemetry.emitter.unsent > 0


async def test_a_connection_made_after_init_uses_the_default_tracker(
    empty_dsn: str, telemetry: Instrumentation
) -> None:
    connection = await client.connect(empty_dsn)
    try:
        await connection.fetchval("SELECT 1")
    finally:
        await connection.close()
    assert connection.tracker is client.default_tracker()
    assert telemetry.emitter.unsent > 0


async def test_a_pool_with_sinks_sends_nothing_to_the_default_tracker(
    empty_dsn: str, telemetry: Instrumentation
) -> None:
    for sinks in ([Recording()], []):
        async with client.TrackedPool(empty_dsn, sinks=sinks, max_size=1) as pool:
            await pool.fetchval("SELECT 1")
    assert telemetry.emitter.unsent == 0


def test_init_outside_an_event_loop_is_refused_with_a_hint_and_sets_nothing() -> None:
    tracker, emitter = client.default_tracker(), client.flow.emitter
    with pytest.raises(RuntimeError) as refused:
        client.init(NOWHERE, service="hotels")
    assert str(refused.value) == (
        "call client.init() inside the event loop, such as at the start of main()"
    )
    assert client.default_tracker() is tracker
    assert client.flow.emitter is emitter


@pytest.mark.processes
@pytest.mark.parametrize(
    ("views", "close", "said"),
    [
        (0, False, ""),
        (1, True, ""),
        (
            1,
            False,
            "metrics_service.client: 1 event was not sent;"
            " call close() before the event loop ends\n",
        ),
        (
            12,
            False,
            "metrics_service.client: 12 events were not sent;"
            " call close() before the event loop ends\n",
        ),
    ],
)
def test_a_script_that_ends_without_close_reports_how_much_was_lost(
    views: int, close: bool, said: str
) -> None:
    script = f"""
        import asyncio
        from metrics_service import client

        async def main():
            telemetry = client.init("{NOWHERE}", service="hotels")
            for _ in range({views}):
                client.flow.track_view("package")
            if {close}:
                await telemetry.close(0.0)

        asyncio.run(main())
    """
    ended = run(textwrap.dedent(script))
    assert (ended.returncode, ended.stderr) == (0, said)
