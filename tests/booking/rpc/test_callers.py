"""Callers that are told apart by certificates or by tokens: request ids belong to one of them, and
every audit row names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos.booking.v1 import (
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
)
from servicekit.channels import ClientFiles
from tests.booking.running_service import (
    RunningService,
    after,
    confirm_of,
    package_of,
    refusal_of,
    running,
    start_of,
)
from tests.booking.seed import eventually
from tests.servicekit.identity.certificates import Folder, hashed

NAMES = ("desk", "web", "bank", "ops")
ROLES = {"desk": '"service"', "web": '"service"', "bank": '"payment"', "ops": '"ops"'}


def callers(*names: str) -> str:
    return "".join(
        f'["{name}.example.test"]\nroles = [{ROLES[name]}]\ntokens_sha256 = ["{hashed(name)}"]\n'
        for name in names
    )


class Caller:
    """The stubs of one caller; whatever it says of itself in metadata does not count."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.catalog: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.booking: Any = booking_pb2_grpc.BookingServiceStub(channel)
        self.payment: Any = payment_pb2_grpc.PaymentServiceStub(channel)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "tls")
    made.write("callers.toml", callers(*NAMES))
    for name in NAMES:
        made.issue(name, f"{name}.example.test")
        made.write(f"{name}.token", name)
    return made


@pytest.fixture(params=["certificates", "tokens"])
async def shop(
    booking_dsn: str, folder: Folder, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[RunningService, dict[str, Caller]]]:
    certificates = request.param == "certificates"
    environ = folder.environ("BOOKING_", certificates=certificates)
    async with running(booking_dsn, BOOKING_TRUST_CALLER_HEADER="false", **environ) as service:
        made = {}
        channels = []
        for name in NAMES:
            token = None if certificates else folder.path / f"{name}.token"
            files = folder.client(name if certificates else "", token=token)
            channel = opened(files, service)
            channels.append(channel)
            made[name] = Caller(channel)
        yield service, made
        for channel in channels:
            await channel.close()


def opened(files: ClientFiles, service: RunningService) -> grpc.aio.Channel:
    # One of its own: pooled, a connection would be shared.
    return files.open(f"localhost:{service.port}", [("grpc.use_local_subchannel_pool", 1)])


@asynccontextmanager
async def database(service: RunningService) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(service.server.database.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def package(caller: Caller) -> Any:
    vendor = await caller.catalog.CreateVendor(
        catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa Tours"))
    )
    made = await caller.catalog.CreatePackage(
        catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
    )
    run = catalog_pb2.CapacityRange(start_date=after(0), end_date=after(9), capacity=50)
    await caller.catalog.SetCapacity(
        catalog_pb2.SetCapacityRequest(package_id=made.id, ranges=[run])
    )
    return made


@pytest.mark.parametrize("request_id", ["7d9f2c3e-52f4-4f5c-9d0a-6a3c1b8e4f10", "order 4711"])
async def test_a_request_id_belongs_to_the_caller_that_used_it(
    shop: tuple[RunningService, dict[str, Caller]], request_id: str
) -> None:
    _, made = shop
    desk, web = made["desk"], made["web"]
    sold = await package(desk)
    asked = start_of(sold.id, user_id="ana", request_id=request_id)
    first = await desk.booking.StartBooking(asked)
    # The same words of another caller, even in its name, are a request of its own.
    same = await web.booking.StartBooking(
        start_of(sold.id, user_id="eve", request_id=request_id),
        metadata=[("x-caller", "desk.example.test")],
    )
    assert same.id != first.id
    assert (first.user_id, same.user_id) == ("ana", "eve")
    other = start_of(sold.id, user_id="ana", request_id=request_id, quantity=2)
    refusal = await refusal_of(web.booking.StartBooking(other))
    # Its own id, with other content: nothing is said of the other caller's booking.
    assert refusal.reason == "REQUEST_ID_REUSED"
    assert first.id not in str(refusal.message)
    assert await desk.booking.StartBooking(asked) == first
    eve = start_of(sold.id, user_id="eve", request_id=request_id)
    assert await web.booking.StartBooking(eve) == same
    # The same bytes of two callers are two requests.
    create = catalog_pb2.CreateVendorRequest(
        vendor=catalog_pb2.Vendor(name="Sol"), request_id=request_id
    )
    vendors = [await each.catalog.CreateVendor(create) for each in (desk, web, desk, web)]
    assert vendors[:2] == vendors[2:]
    assert vendors[0].id != vendors[1].id


async def audited_callers(service: RunningService) -> dict[str, set[str]]:
    """The callers in each table that is audited, by their short names."""
    async with database(service) as connection:
        return {
            table: {
                row["caller"].partition(".")[0]
                for row in await connection.fetch(f"SELECT caller FROM {table}")
            }
            for table in (
                *("booking_events", "catalog_events", "payment_events", "refunds"),
                *("early_payment_events", "idempotency_keys"),
            )
        }


async def test_every_audit_row_names_its_caller(
    shop: tuple[RunningService, dict[str, Caller]],
) -> None:
    service, made = shop
    desk, web, bank, ops = (made[name] for name in NAMES)
    sold = await package(desk)
    await web.catalog.UpdatePackage(
        catalog_pb2.UpdatePackageRequest(
            package=catalog_pb2.Package(id=sold.id, title="Suite"),
            update_mask=FieldMask(paths=["title"]),
        )
    )
    early_id = str(uuid4())
    event = payment_pb2.RecordPaymentRequest(
        booking_id=early_id,
        provider="stripe",
        payment_id="early",
        kind=payment_pb2.RecordPaymentRequest.CAPTURED,
        amount=sold.base_price,
    )
    await refusal_of(bank.payment.RecordPayment(event))
    held = await desk.booking.StartBooking(start_of(sold.id))
    paid = await bank.booking.ConfirmBooking(confirm_of(held))
    listed = await bank.payment.ListPayments(payment_pb2.ListPaymentsRequest(booking_id=paid.id))
    await bank.payment.RefundPayment(
        payment_pb2.RefundPaymentRequest(id=listed.payments[0].id, amount=sold.base_price)
    )
    trail = await ops.catalog.ListPackageEvents(
        catalog_pb2.ListPackageEventsRequest(vendor_id=sold.vendor_id)
    )
    assert [(each.change, each.caller.partition(".")[0]) for each in trail.events] == [
        ("PACKAGE_UPDATED", "web"),
        ("CAPACITY_SET", "desk"),
        ("PACKAGE_CREATED", "desk"),
        ("VENDOR_CREATED", "desk"),
    ]
    refusal = await refusal_of(
        bank.catalog.ListPackageEvents(
            catalog_pb2.ListPackageEventsRequest(vendor_id=sold.vendor_id)
        )
    )
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    found = await audited_callers(service)
    assert found == {
        "booking_events": {"desk", "bank"},
        "catalog_events": {"desk", "web"},
        "payment_events": {"bank"},
        "refunds": {"bank"},
        "early_payment_events": {"bank"},
        "idempotency_keys": {"desk", "web", "bank"},
    }


async def test_changes_of_access_are_audited(
    shop: tuple[RunningService, dict[str, Caller]], folder: Folder
) -> None:
    service, made = shop
    instance = service.server.emitter.instance

    async with database(service) as connection:

        async def rows() -> list[asyncpg.Record]:
            return await connection.fetch("SELECT * FROM access_events ORDER BY event_time")

        async def recorded(count: int) -> bool:
            return len(await rows()) == count

        await eventually(lambda: recorded(1))
        folder.write("callers.toml", "not good")
        folder.write(
            "callers.toml", callers("desk", "bank", "ops").replace('"ops"', '"ops", "monitor"')
        )
        # Without a call.
        await eventually(lambda: recorded(2))
        started, reloaded = await rows()
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute("DELETE FROM access_events")
    assert (started["change"], started["identities"]) == ("STARTED", 4)
    assert (reloaded["change"], reloaded["identities"]) == ("RELOADED", 3)
    assert {started["instance"], reloaded["instance"]} == {instance}
    assert '"web.example.test": "roles=service tokens=' in started["added"]
    assert reloaded["added"] == "{}"
    assert '"web.example.test"' in reloaded["removed"]
    assert '"ops.example.test": ["roles=ops tokens=' in reloaded["changed"]
    assert "roles=monitor,ops" in reloaded["changed"]
    assert started["file_sha256"] != reloaded["file_sha256"]
    refusal = await refusal_of(made["web"].catalog.ListVendors(catalog_pb2.ListVendorsRequest()))
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
