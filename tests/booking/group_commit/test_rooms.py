"""What callers can fill is bounded: what is beyond it is refused or dropped, counted and shown."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import grpc
import pytest

from booking_service.group_commit import rooms as module
from booking_service.group_commit.idempotency import SLOT_S, SLOTS, idempotency_slot
from booking_service.group_commit.rooms import Bounds, Rooms
from metrics_service.client.host import Status
from protos.booking.v1 import catalog_pb2, payment_pb2
from tests.booking.running_service import (
    NOON,
    RunningService,
    confirm_of,
    euro,
    package_of,
    refusal_of,
    running,
)
from tests.booking.seed import eventually

Rows = asyncpg.Connection
EARLY_BYTES = "SELECT coalesce(sum(pg_column_size(e)), 0) FROM early_payment_events AS e"
ANSWERS = "SELECT array_agg(DISTINCT slot ORDER BY slot) FROM idempotency_keys"


@pytest.fixture
async def rows(booking_dsn: str) -> AsyncIterator[Rows]:
    connection = await asyncpg.connect(booking_dsn)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def _counted_at_each_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNT_S", 0.0)


def lines(booking: RunningService) -> list[str]:
    return booking.server.bus.rooms.lines


async def test_vendors_and_packages_beyond_their_bound_are_refused(
    booking_dsn: str, rows: Rows
) -> None:
    options = {"BOOKING_VENDORS_MAX": "3", "BOOKING_PACKAGES_MAX": "2"}
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="3600", **options) as booking:
        package = await booking.package()
        request_id = str(uuid4())
        first = await booking.catalog.CreateVendor(
            catalog_pb2.CreateVendorRequest(
                vendor=catalog_pb2.Vendor(name="Costa Tours"), request_id=request_id
            )
        )
        vendor = await booking.vendor()
        refused = await refusal_of(booking.vendor())
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "STORAGE_FULL",
        )
        assert refused.metadata == {"limit": "3"}
        request = catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
        await booking.catalog.CreatePackage(request)
        assert (await refusal_of(booking.catalog.CreatePackage(request))).reason == "STORAGE_FULL"
        assert await rows.fetchval("SELECT count(*) FROM vendors") == 3
        assert await rows.fetchval("SELECT count(*) FROM packages") == 2
        assert lines(booking) == [
            "vendors: 1 refused, beyond 3",
            "packages: 1 refused, beyond 2",
        ]
        await eventually(lambda: shown(booking, Status.DEGRADED))
        # All else goes on, and a repeat has the answer of the first.
        known = catalog_pb2.CreateVendorRequest(
            vendor=catalog_pb2.Vendor(name="Costa Tours"), request_id=request_id
        )
        assert (await booking.catalog.CreateVendor(known)).id == first.id
        await booking.confirmed(package.id)
    # What is stored counts, also in another process, once it is measured.
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="3600", **options) as booking:
        await eventually(lambda: refuses_vendors(booking, rows))
        # The trail of vendors keeps them from being deleted, but by hand.
        await rows.execute("SET session_replication_role = replica")
        await rows.execute("DELETE FROM vendors WHERE id NOT IN (SELECT vendor_id FROM packages)")
        await eventually(lambda: accepts_vendors(booking))
        assert await rows.fetchval("SELECT count(*) FROM vendors") <= 3


async def shown(booking: RunningService, status: Status) -> bool:
    booking.server.health.check_age()
    return booking.server.health.status is status


async def refuses_vendors(booking: RunningService, rows: Rows) -> bool:
    await booking.server.sweeper.sweep()
    return bool((await refusal_of(booking.vendor())).reason == "STORAGE_FULL")


async def accepts_vendors(booking: RunningService) -> bool:
    await booking.server.sweeper.sweep()
    try:
        await booking.vendor()
    except grpc.aio.AioRpcError:
        return False
    return True


def payment(size: int) -> payment_pb2.RecordPaymentRequest:
    return payment_pb2.RecordPaymentRequest(
        booking_id=str(uuid4()),
        provider="stripe",
        payment_id=secrets.token_hex(size // 2),
        kind=payment_pb2.RecordPaymentRequest.CAPTURED,
        amount=euro(100),
    )


@pytest.mark.parametrize("size", [16, 120], ids=["many rows", "large rows"])
async def test_payments_of_unknown_bookings_beyond_their_bound_are_refused(
    booking_dsn: str, rows: Rows, size: int
) -> None:
    options = {"BOOKING_EARLY_PAYMENTS_MAX_MB": "0.01", "BOOKING_SWEEP_INTERVAL_S": "3600"}
    async with running(booking_dsn, **options) as booking:
        package = await booking.package()
        answers = [
            (await refusal_of(booking.payment.RecordPayment(payment(size)))).reason
            for _ in range(120)
        ]
        assert set(answers) == {"NOT_FOUND", "OVERLOADED"}
        kept = await rows.fetchval("SELECT count(*) FROM early_payment_events")
        # Those that said so were kept, and no other.
        assert kept == answers.count("NOT_FOUND")
        assert 5_000 < await rows.fetchval(EARLY_BYTES) <= 11_000
        [line] = lines(booking)
        assert line.startswith("payment events of unknown bookings: ")
        assert line.endswith("refused, beyond 0.01 MB")
        # Payments of bookings that exist are taken as ever.
        pending = await booking.completed(package.id)
        paid = confirm_of(pending)
        await booking.payment.RecordPayment(
            payment_pb2.RecordPaymentRequest(
                booking_id=pending.id,
                provider=paid.provider,
                payment_id=paid.payment_id,
                kind=payment_pb2.RecordPaymentRequest.CAPTURED,
                amount=paid.amount,
            )
        )
        await rows.execute("DELETE FROM early_payment_events")
        for _ in range(2):
            await booking.server.sweeper.sweep()
        again = await refusal_of(booking.payment.RecordPayment(payment(size)))
        assert again.reason == "NOT_FOUND"


async def answer(rows: Rows, slot: int, count: int, size: int) -> None:
    await rows.executemany(
        "INSERT INTO idempotency_keys VALUES ($1, 'c', 'r', $2, '', $3, $4)",
        [(slot, uuid4(), secrets.token_bytes(size), NOON) for _ in range(count)],
    )


@pytest.mark.parametrize(("count", "size"), [(3_000, 30), (4, 100_000)], ids=["many", "large"])
async def test_the_oldest_answers_go_first_and_the_newest_never(
    booking_dsn: str, rows: Rows, count: int, size: int
) -> None:
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="3600") as booking:
        current = idempotency_slot(NOON)
        order = [(current - age) % SLOTS for age in range(6, -1, -1)]
        for slot in order:
            await answer(rows, slot, count, size)
        bounds = Bounds(answers_bytes=1_600_000)
        limited = Rooms(bounds)
        async with booking.server.database.connection() as connection:
            await limited.measure(connection, NOON)
        left = await rows.fetchval(ANSWERS)
        assert 2 <= len(left) < 7
        assert left == sorted(order[-len(left) :])
        [line] = limited.lines
        assert line == f"hours of stored answers: {(7 - len(left)) * 4} dropped, beyond 1.6 MB"
        assert not limited.answers_full
        # Those of now alone are too many: what needs an answer is refused, the sweeper's is not.
        await answer(rows, current, 4 * count, size)
        async with booking.server.database.connection() as connection:
            await limited.measure(connection, NOON)
        assert await rows.fetchval(ANSWERS) == sorted(order[-2:])
        assert limited.answers_full
        booking.server.bus.rooms.answers_full = True
        assert (await refusal_of(booking.vendor())).reason == "OVERLOADED"
        await booking.server.sweeper.sweep()
        await booking.vendor()
        # Four hours later they are not the newest any more.
        later = NOON.fromtimestamp(NOON.timestamp() + 2 * SLOT_S, NOON.tzinfo)
        async with booking.server.database.connection() as connection:
            await limited.measure(connection, later)
        assert not limited.answers_full
