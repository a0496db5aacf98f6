"""GET /metrics of booking_service: on a port of its own, and only where there is one."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.openmetrics import parser

from booking_service.config import BookingSettings
from booking_service.delivery.relay import OutboxRelay
from booking_service.group_commit.queues import CommandQueues
from booking_service.monitoring.metrics import METRICS
from booking_service.server import BookingServer
from protos.booking.v1 import booking_pb2
from servicekit.settings import SettingsError
from servicekit.start import StartError
from tests.booking.running_service import RunningService, running, start_of

BOUND_S = 30.0
DATABASE = {"BOOKING_DATABASE_URL": "postgresql://x@y/z"}

Samples = dict[tuple[str, ...], float]


async def scraped(service: RunningService, **headers: str) -> httpx.Response:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", **headers}
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{service.server.http_port}"
        return await client.get(f"{url}/metrics", headers=accept)


async def families(service: RunningService) -> list[Any]:
    read: Any = parser.text_string_to_metric_families
    return list(read((await scraped(service)).text))


async def samples(service: RunningService) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in await families(service)
        for sample in family.samples
    }


async def test_commands_and_rpcs_are_counted(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_HTTP_PORT="0") as service:
        package = await service.package()
        before = await samples(service)
        commands = before["farehold_commands_total",]
        held = await service.held(package.id)
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await service.booking.CompleteBooking(
                    booking_pb2.CompleteBookingRequest(booking_id=held.id[:-1])
                )
        await asyncio.gather(*(service.held(package.id, user_id=f"u{each}") for each in range(5)))
        async with asyncio.timeout(BOUND_S):
            # All that ask within a tenth of a second get the same answer.
            while (after := await samples(service))["farehold_commands_total",] < commands + 6:
                pass
        names = {family.name for family in await families(service)}
    rpc = ("unary", "booking.v1.BookingService")
    handled = "grpc_server_handled_total"
    assert before[handled, *rpc, "StartBooking", "OK"] == 0
    assert after[handled, *rpc, "StartBooking", "OK"] == 6
    assert after[handled, *rpc, "CompleteBooking", "InvalidArgument"] == 2
    assert after[handled, *rpc, "CancelBooking", "Internal"] == 0
    assert after["farehold_commands_total",] - commands == 6
    groups = after["farehold_command_groups_total",] - before["farehold_command_groups_total",]
    assert 2 <= groups <= 6
    assert 1 <= after["farehold_command_group_size",] <= 5
    assert {after["farehold_commands_queued", queue] for queue in ("main", "heavy", "package")} == {
        0
    }
    # Nobody takes the facts: none delivers them.
    assert names == {each.family for each in METRICS} - {"farehold_outbox_pending"}


async def test_commands_that_wait_are_counted_by_queue(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()

    async def held_up(*_: object) -> None:
        await go.wait()

    async with running(booking_dsn, BOOKING_HTTP_PORT="0") as service:
        package = await service.package()
        real = CommandQueues._run_group
        with monkeypatch.context() as patch:
            patch.setattr(CommandQueues, "_run_group", held_up)
            calls = [
                asyncio.ensure_future(service.booking.StartBooking(start_of(package.id)))
                for _ in range(3)
            ]
            async with asyncio.timeout(BOUND_S):
                while service.server.bus.queues.waiting["main"] < 2:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
            assert (await samples(service))["farehold_commands_queued", "main"] >= 2
            patch.setattr(CommandQueues, "_run_group", real)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            go.set()


async def test_facts_that_wait_are_counted_where_they_are_delivered(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutboxRelay, "leading", True)
    async with running(booking_dsn, BOOKING_HTTP_PORT="0") as service:
        service.server.relay._pending = 7
        assert (await samples(service))["farehold_outbox_pending",] == 7


async def test_without_a_port_nothing_listens(booking_dsn: str) -> None:
    async with running(booking_dsn) as service:
        assert service.server.http is None


async def test_only_metrics_are_there_and_for_names_of_the_service_alone(booking_dsn: str) -> None:
    async with running(
        booking_dsn, BOOKING_HTTP_PORT="0", BOOKING_HTTP_HOSTS="booking.example.org"
    ) as service:
        assert (await scraped(service, Host="booking.example.org")).status_code == 200
        assert (await scraped(service, Host="evil.example.org")).status_code == 421
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{service.server.http_port}/api/metrics")
        assert (answer.status_code, answer.json()["error"]) == (404, "Not Found")


async def test_a_taken_port_is_one_line(booking_dsn: str) -> None:
    async with running(booking_dsn, BOOKING_HTTP_PORT="0") as service:
        port = str(service.server.http_port)
        settings = BookingSettings.load(
            {
                "BOOKING_DATABASE_URL": booking_dsn,
                "BOOKING_PORT": "0",
                "BOOKING_METRICS_TARGET": "",
                "BOOKING_HTTP_PORT": port,
            }
        )
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}.*BOOKING_HTTP_PORT"):
            await BookingServer(settings).start()


@pytest.mark.parametrize(("port", "said"), [("70000", "from 0 to 65535"), ("x", "a whole number")])
def test_a_wrong_port_is_refused_before_the_start(port: str, said: str) -> None:
    with pytest.raises(SettingsError, match=rf"BOOKING_HTTP_PORT='{port}'.*{said}"):
        BookingSettings.load({**DATABASE, "BOOKING_HTTP_PORT": port})


def test_an_address_of_others_is_served_only_if_the_settings_say_so() -> None:
    with pytest.raises(SettingsError, match="BOOKING_HTTP_HOST"):
        BookingSettings.load({**DATABASE, "BOOKING_HTTP_HOST": "0.0.0.0"})
