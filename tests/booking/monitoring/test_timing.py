"""The service times its queries, and in development refuses to start if it could not."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from booking_service.monitoring import startup
from metrics_service.client.tracked import (
    TrackedConnection,
    default_tracker,
    selftest,
    track_query,
)
from servicekit.start import StartError
from tests.booking.running_service import running
from tests.booking.seed import eventually

NOBODY = "127.0.0.1:1"


async def test_a_start_in_development_is_refused_when_a_kind_of_query_is_not_timed(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackedConnection, "_copy_out", vars(asyncpg.Connection)["_copy_out"])
    with pytest.raises(StartError, match="2 kinds of queries are not timed"):
        async with running(booking_dsn, BOOKING_DEVELOPMENT="true"):
            pass
    async with running(booking_dsn):
        pass


async def test_a_start_in_development_goes_on_when_all_are_timed(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_DEVELOPMENT="true") as booking:
        # The check uses a separate tracker.
        labels = {
            each.operation
            for each in booking.server.health.signals(
                booking.server.database, booking.server.relay
            ).operations
        }
        assert not any(label.startswith("coverage.") for label in labels)


async def test_a_start_in_development_does_not_wait_for_ever_for_the_check(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(connection: TrackedConnection) -> None:
        await connection.execute("SELECT pg_sleep(600)")

    checks = (selftest.Check("stuck", stuck, ()),)
    monkeypatch.setattr(selftest, "CHECKS", checks)
    monkeypatch.setattr(startup, "COVERAGE_TIMEOUT_S", 0.5)
    with pytest.raises(StartError, match="could not be checked within"):
        async with running(booking_dsn, BOOKING_DEVELOPMENT="true"):
            pass


async def test_operations_are_timed_by_the_tracker_of_the_service(booking_dsn: str) -> None:
    former = default_tracker()
    async with running(booking_dsn) as booking:
        assert default_tracker() is booking.server.database.tracker
        before = booking.server.database.tracker.records
        async with track_query("check", model="test"):
            pass
        assert booking.server.database.tracker.records == before + 1
    assert default_tracker() is former


async def test_heartbeats_carry_what_the_monitoring_costs(booking_dsn: str) -> None:
    async with running(booking_dsn) as booking:
        await booking.package()
        server = booking.server
        monitor = server.health.signals(server.database, server.relay, server.inspector).monitor
    assert monitor.queries > 0
    assert monitor.overhead_ns > 0
    assert monitor.bytes_held > 0
    assert (monitor.dropped, monitor.sink_errors, monitor.looks) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "inspects"),
    [
        ({"BOOKING_METRICS_TARGET": NOBODY}, True),
        # Without metrics_service nothing is captured.
        ({}, False),
        (
            {
                "BOOKING_METRICS_TARGET": NOBODY,
                "BOOKING_CAPTURE_RUNNING_QUERIES": "false",
                "BOOKING_CAPTURE_PLANS": "false",
            },
            False,
        ),
    ],
)
async def test_running_queries_are_inspected_unless_that_is_switched_off(
    booking_dsn: str, settings: dict[str, str], inspects: bool
) -> None:
    async with running(booking_dsn, **settings):
        assert await inspecting() == inspects

    async def ended() -> bool:
        return not await inspecting()

    # A part that takes long to end is not waited for.
    await eventually(ended)


async def inspecting() -> bool:
    return "query-inspector" in {task.get_name() for task in asyncio.all_tasks()}
