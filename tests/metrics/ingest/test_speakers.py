"""Which events a caller may send: those of its services, on its lanes, of its own producers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from metrics_service.client.stream.client import StreamClient
from metrics_service.client.telemetry.emitter import Emitter
from protos.tracking.v1 import tracking_pb2
from servicekit.channels import PLAINTEXT, ClientFiles
from tests.metrics.raw_client import RawClient
from tests.metrics.running_service import BOUND_S, Facts, Service, confirmed_booking, running, until
from tests.servicekit.identity.certificates import Folder

FACTS, TELEMETRY = tracking_pb2.LANE_FACTS, tracking_pb2.LANE_TELEMETRY
CALLERS = """
["booking.example.test"]
roles = ["producer"]
services = ["booking_service"]
lanes = ["facts", "telemetry"]

["reviews.example.test"]
roles = ["producer"]
services = ["reviews"]
lanes = ["telemetry"]

["desk.example.test"]
roles = ["service", "payment", "ops", "monitor"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tls")
    made.write("callers.toml", CALLERS)
    for file in ("booking", "reviews", "desk"):
        made.issue(file, f"{file}.example.test")
    return made


@asynccontextmanager
async def client(service: Service, files: ClientFiles) -> AsyncIterator[RawClient]:
    made = RawClient(service.target, files)
    try:
        yield made
    finally:
        await made.close()


async def refused(service: Service, files: ClientFiles, lane: int, name: str) -> str:
    """How the stream ends that says Hello for a service."""
    async with client(service, files) as raw, asyncio.timeout(BOUND_S):
        try:
            await raw.opened()
            await raw.hello(f"p-{name}", lane=tracking_pb2.Lane.ValueType(lane), service=name)
            while await raw.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
    return "it ended without an error"


async def test_a_caller_sends_events_of_its_services_and_lanes_only(
    metrics_dsn: str, folder: Folder
) -> None:
    booking, reviews = folder.client("booking"), folder.client("reviews")
    async with running(metrics_dsn, **folder.environ("METRICS_")) as service:
        async with client(service, booking) as raw:
            await raw.welcome("facts-of-booking", lane=FACTS, service="booking_service")
        assert await refused(service, reviews, FACTS, "reviews") == (
            "PERMISSION_DENIED: reviews.example.test may not send facts of 'reviews'"
        )
        assert await refused(service, reviews, TELEMETRY, "booking_service") == (
            "PERMISSION_DENIED: reviews.example.test may not send telemetry of 'booking_service'"
        )
        assert await refused(service, folder.client("desk"), FACTS, "booking_service") == (
            "PERMISSION_DENIED: desk.example.test may not call Stream"
        )
        assert (await refused(service, PLAINTEXT, FACTS, "booking_service")).startswith("UNAVAIL")
        names = [each.instance for each in service.server.verdict().instances]
    assert names == ["i-1"], "nothing is kept of those that were refused"


async def test_a_producer_is_never_taken_over_by_another_service(
    metrics_dsn: str, folder: Folder
) -> None:
    async with (
        running(metrics_dsn, **folder.environ("METRICS_")) as service,
        client(service, folder.client("booking")) as raw,
    ):
        await raw.welcome("one", lane=TELEMETRY, service="booking_service")
        await raw.batch(1, b"", lane=TELEMETRY)
        await raw.expect("ack")
        async with client(service, folder.client("reviews")) as other:
            await other.hello("one", 2**62, lane=TELEMETRY, service="reviews")
            nack = (await other.expect("nack")).nack
            assert nack.reason == tracking_pb2.Nack.INVALID
        await raw.batch(2, b"", lane=TELEMETRY)
        while (await raw.expect("ack")).ack.durable_seq < 2:
            pass


async def test_the_real_client_streams_over_tls_and_a_rotated_certificate_is_used(
    metrics_dsn: str, folder: Folder
) -> None:
    facts, telemetry = Facts(), Emitter("booking_service", instance="b-1")
    with capture_logs() as logs:
        async with running(metrics_dsn, **folder.environ("METRICS_")) as service:
            stream = StreamClient(
                service.target,
                service="booking_service",
                instance="b-1",
                files=folder.client("booking"),
            )
            stream.add_lane(facts)
            stream.add_lane(telemetry)
            await stream.start()
            try:
                facts.add(confirmed_booking(1))
                await until(lambda: facts.acknowledged == 1, "the facts are stored")
                folder.issue("booking", "reviews.example.test")
                service.server.ingest._on_superseded(True)
                service.server.ingest._on_superseded(False)
                await until(
                    lambda: any("may not send" in str(line.get("reason")) for line in logs),
                    "the next connection shows the new certificate",
                )
                folder.issue("booking", "booking.example.test")
                facts.add(confirmed_booking(2))
                await until(lambda: facts.acknowledged == 2, "the right one is used again")
            finally:
                await stream.stop(BOUND_S)
            assert service.server.engine.current_state().metrics(None).business.confirmed == 2
