"""A command bus over a fresh database, with a clock that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from booking_service.domain.booking import Booking, PaymentKind
from booking_service.domain.commands import (
    CapacityRange,
    ConfirmBooking,
    CreatePackage,
    CreateVendor,
    RecordPayment,
    SetCapacity,
    StartBooking,
)
from booking_service.domain.holds import Limits
from booking_service.domain.money import Money
from booking_service.domain.package import PackageDraft, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.domain.refusal import Reason, Refused
from booking_service.domain.world import Answer
from booking_service.group_commit.bus import CommandBus
from booking_service.storage import rows
from booking_service.storage.clock import SetClock
from booking_service.storage.database import Database
from protos.tracking.v1 import event_pb2

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = date(2026, 5, 1)
PRICE = 10_000


class Harness:
    """A bus over a fresh database, with a clock that the test sets, and shorthands."""

    def __init__(self, dsn: str, database: Database, clock: SetClock) -> None:
        self.dsn = dsn
        self.database = database
        self.clock = clock
        self.bus = patient(database, limits=Limits(3, True))

    async def submit(self, command: object, **keywords: object) -> Answer:
        keywords = {"caller": "test", "rpc": type(command).__name__, **keywords}
        return await self.bus.submit(command, **keywords)  # type: ignore[arg-type] # shorthand

    async def package(self, capacity: int, *, nights: int = 30, **changes: object) -> UUID:
        vendor_id, package_id = uuid4(), uuid4()
        await self.submit(CreateVendor(vendor_id, "Vendor"))
        values: dict[str, object] = {
            "id": package_id,
            "vendor_id": vendor_id,
            "title": "Room",
            "type": "hotel_room",
            "location": "Lisbon",
            "time_zone": "Europe/Lisbon",
            "status": PackageStatus.ACTIVE,
            "bookable_from": None,
            "bookable_until": None,
            "base_price_minor": PRICE,
            "currency": "EUR",
            "pricing": Pricing.PER_UNIT_DAY,
            "min_party_size": 1,
            "max_party_size": 10,
            "cutoff_s": 0,
            "hold_ttl_s": 900,
            "cancellation_policy": CancellationPolicy((Tier(0, 10_000),)),
            **changes,
        }
        await self.submit(CreatePackage(PackageDraft(**values)))  # type: ignore[arg-type] # as above
        days = CapacityRange(DAY, DAY + timedelta(days=nights), capacity)
        assert await self.submit(SetCapacity(package_id, (days,))) == nights
        return package_id

    async def start(self, package_id: UUID, **changes: object) -> Booking:
        keywords = {
            name: changes.pop(name) for name in ("request_id", "fingerprint") if name in changes
        }
        booking = await self.submit(start(package_id, **changes), **keywords)
        assert isinstance(booking, Booking)
        return booking

    async def paid(self, package_id: UUID, **changes: object) -> Booking:
        """A booking that was paid for as "pi-<id>"."""
        booking = await self.start(package_id, **changes)
        await self.submit(record(booking, PaymentKind.CAPTURED, booking.price_minor))
        return await self.booking(booking.id)

    async def booking(self, booking_id: UUID) -> Booking:
        return rows.booking(await self.query("SELECT * FROM bookings WHERE id = $1", booking_id))

    async def counters(self, package_id: UUID, day: date = DAY) -> tuple[int, int]:
        row = await self.query(
            "SELECT held, confirmed FROM package_days WHERE package_id = $1 AND day = $2",
            package_id,
            day,
        )
        return row["held"], row["confirmed"]

    async def query(self, sql: str, *args: object) -> asyncpg.Record:
        connection = await asyncpg.connect(self.dsn)
        try:
            row = await connection.fetchrow(sql, *args)
        finally:
            await connection.close()
        assert row is not None
        return row

    async def facts(self) -> list[event_pb2.Event]:
        connection = await asyncpg.connect(self.dsn)
        try:
            rows = await connection.fetch("SELECT events, count FROM outbox ORDER BY id")
        finally:
            await connection.close()
        events: list[event_pb2.Event] = []
        for row in rows:
            framed = event_pb2.EventList.FromString(row["events"]).events
            assert len(framed) == row["count"]
            events += framed
        return events


def patient(
    database: Database, *, limits: Limits | None = None, lock_timeout_s: float = 60.0
) -> CommandBus:
    """Make a bus that refuses nothing when the machine pauses for a moment."""
    return CommandBus(database, limits=limits, max_wait_s=60.0, lock_timeout_s=lock_timeout_s)


def start(package_id: UUID, **changes: object) -> StartBooking:
    values: dict[str, object] = {
        "booking_id": uuid4(),
        "package_id": package_id,
        "user_id": f"user-{uuid4()}",
        "session_id": "session",
        "start_date": DAY,
        "end_date": DAY + timedelta(days=1),
        "quantity": 1,
        "party_size": 2,
        "quote": None,
        **changes,
    }
    return StartBooking(**values)  # type: ignore[arg-type] # a shorthand for tests


def confirm(booking: Booking, payment_id: str = "") -> ConfirmBooking:
    return ConfirmBooking(
        booking.id, "stripe", payment_id or f"pi-{booking.id}", booking.price, uuid4(), uuid4()
    )


def record(
    booking: Booking, kind: PaymentKind, minor: int, *, payment_id: str = "", refund_id: str = ""
) -> RecordPayment:
    return RecordPayment(
        booking_id=booking.id,
        provider="stripe",
        payment_id=payment_id or f"pi-{booking.id}",
        kind=kind,
        amount=Money(minor, booking.currency),
        refund_id=refund_id,
        failure_code="",
        payment_row_id=uuid4(),
        refund_row_id=uuid4(),
    )


async def refused(waiting: object) -> Reason:
    with pytest.raises(Refused) as caught:
        await waiting  # type: ignore[misc] # any awaitable
    return caught.value.refusal.reason


@asynccontextmanager
async def copy_of(harness: Harness) -> AsyncIterator[Harness]:
    """Another copy of the service over the same database, by the same clock."""
    database = Database(harness.dsn, clock=harness.clock)
    await database.open()
    made = Harness(harness.dsn, database, harness.clock)
    made.bus.start()
    try:
        yield made
    finally:
        await made.bus.stop()
        await database.close()


async def reasons(outcomes: Iterable[Awaitable[object]]) -> list[str]:
    """Run all at once and return how each ended: the reason of a refusal, or "OK"."""
    ended = await asyncio.gather(*outcomes, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
            raise outcome
    return [str(o.refusal.reason) if isinstance(o, Refused) else "OK" for o in ended]


async def drift(dsn: str) -> int:
    """Count the days that differ from their bookings, without the service."""
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            """
            SELECT count(*)
            FROM package_days AS d
            FULL JOIN (
                SELECT
                    b.package_id, night::date AS day,
                    sum(b.quantity) FILTER (WHERE b.state IN ('HELD', 'PENDING_PAYMENT')) AS held,
                    sum(b.quantity) FILTER (WHERE b.state IN ('CONFIRMED', 'FULFILLED')) AS sold
                FROM bookings AS b
                CROSS JOIN generate_series(b.start_date, b.end_date - 1, interval '1 day') AS night
                GROUP BY b.package_id, night
            ) AS t USING (package_id, day)
            WHERE (coalesce(d.held, 0), coalesce(d.confirmed, 0))
                <> (coalesce(t.held, 0), coalesce(t.sold, 0))
            """
        )
    finally:
        await connection.close()
    return count
