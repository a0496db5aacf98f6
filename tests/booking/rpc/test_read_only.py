"""A read-only database, as after a failover, is UNAVAILABLE to writers and answers readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import structlog
from grpc import StatusCode

from booking_service.delivery import relay
from booking_service.delivery.segments import Epoch, Segments
from booking_service.storage.driver_errors import DatabaseUnavailable
from protos.booking.v1 import catalog_pb2
from tests.booking.running_service import refusal_of, running, start_of
from tests.read_only import read_only

BOUND_S = 20.0


async def test_writes_are_unavailable_reads_go_on_and_the_end_needs_no_restart(
    booking_dsn: str,
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with running(booking_dsn) as service, asyncio.timeout(3 * BOUND_S):
            package = await service.package(capacity=100)
            async with read_only(booking_dsn):
                # The first calls meet the sessions that were ended; the others the new ones.
                refused = await asyncio.gather(
                    *(
                        refusal_of(
                            service.booking.StartBooking(start_of(package.id, user_id=f"u{n}"))
                        )
                        for n in range(20)
                    ),
                    refusal_of(service.vendor()),
                )
                last = await refusal_of(service.booking.StartBooking(start_of(package.id)))
                read = await service.catalog.GetPackage(
                    catalog_pb2.GetPackageRequest(package_id=package.id)
                )
            assert read.id == package.id
            for each in (*refused, last):
                assert (each.code, each.reason) == (
                    StatusCode.UNAVAILABLE,
                    "DATABASE_UNAVAILABLE",
                )
            assert "read-only" in last.message
            booked = await service.booking.StartBooking(start_of(package.id))
            assert booked.package_id == package.id
            lines_of_faults = [
                line
                for line in lines
                if line.get("exc_info") or line["event"] in ("rpc_failed", "command_queue_failed")
            ]
            assert lines_of_faults == []


async def test_the_relay_says_once_that_it_is_interrupted_and_leads_again(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = 0
    original = Segments.raise_epoch

    async def raise_epoch(self: Segments) -> Epoch:
        nonlocal refusals
        try:
            return await original(self)
        except DatabaseUnavailable:
            refusals += 1
            raise

    monkeypatch.setattr(Segments, "raise_epoch", raise_epoch)
    monkeypatch.setattr(relay, "RETRY_S", 0.05)
    with structlog.testing.capture_logs() as lines:

        def count(event: str) -> int:
            return sum(line["event"] == event for line in lines)

        async def until(condition: Callable[[], bool]) -> None:
            while not condition():  # noqa: ASYNC110 - neither logging nor a refusal sets an event
                await asyncio.sleep(0.01)

        target = {"BOOKING_METRICS_TARGET": "127.0.0.1:1"}
        async with running(booking_dsn, **target), asyncio.timeout(3 * BOUND_S):
            await until(lambda: count("outbox_leadership_gained") == 1)
            async with read_only(booking_dsn):
                await until(lambda: refusals >= 3)
            await until(lambda: count("outbox_leadership_gained") == 2)
    assert count("outbox_relay_failed") == 0
    assert count("outbox_relay_interrupted") == 1
