"""The most expensive legal requests of every RPC of booking.v1, and the rows that make them so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from booking_service.domain.catalog_events import MAX_RUNS
from booking_service.mapping.catalog_change import _CHANGEABLE
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from tests.booking.rpc import bad_catalog, bad_payments, bad_reviews, bad_stays
from tests.booking.running_service import FIRST_DAY, NOON, after, euro, package_of, start_of
from tests.booking.seed import add_booking, add_package

ATTEMPTS: Final = 3
PAGE: Final = 200
BATCH: Final = 100
YEAR: Final = 366
CAPACITY_DAYS: Final = 3660
WIDE: Final = "\U0001f3e8"
USER: Final = "\u00e9" * 128
TIERS: Final = bad_catalog.policy(
    *(
        catalog_pb2.CancellationPolicy.Tier(before=Duration(seconds=n), refund_basis_points=1)
        for n in range(10)
    )
)
STORED_TIERS: Final = str([[n, 1] for n in reversed(range(10))])
QUOTE: Final = booking_pb2.Quote(price=euro(100), cancellation_policy=TIERS)
STAY: Final = {"start_date": FIRST_DAY, "end_date": FIRST_DAY + timedelta(YEAR)}
DATES: Final = {"start_date": after(0), "end_date": after(YEAR)}
RUNS: Final = [(n, FIRST_DAY + timedelta(n)) for n in range(MAX_RUNS)]
LEAVING: Final = [f"{n}" + "\u00e9" * 127 for n in range(ATTEMPTS)]
"""Users who are erased, one for each attempt."""

LAPSED: Final = NOON - timedelta(minutes=1)

Requests = dict[str, list[Message]]

MOST: Final = {
    "BatchStartBookingsRequest.requests": BATCH,
    "BatchGetBookingsRequest.booking_ids": BATCH,
    "BatchGetPackagesRequest.package_ids": BATCH,
    "CancellationPolicy.tiers": 10,
    "ListBookingsRequest.states": 20,
    "ListRefundsRequest.states": 20,
    "ListVendorPackagesRequest.statuses": 20,
    "SetCapacityRequest.ranges": CAPACITY_DAYS,
    "UpdatePackageRequest FieldMask.paths": 13,
    "UpdateVendorRequest FieldMask.paths": 1,
    "UpdateUserProfileRequest FieldMask.paths": 2,
}
"""How many elements each repeated field of a request may have; of a mask, for each request."""


@dataclass
class Seeded:
    """Ids of rows; each list of bookings has one for each attempt."""

    vendor: str = ""
    packages: list[str] = field(default_factory=list)
    long: str = ""
    drifted: str = ""
    listed: list[str] = field(default_factory=list)
    paid: str = ""
    of_state: dict[str, list[str]] = field(default_factory=dict)
    payments: list[str] = field(default_factory=list)
    refund: str = ""


async def seed(rows: asyncpg.Connection[asyncpg.Record]) -> Seeded:
    """Fill an empty database with large rows."""
    made = Seeded()
    policy: dict[str, Any] = {"pricing": "QUOTED", "cancellation_policy": STORED_TIERS}
    first = await add_package(rows, **policy)
    vendor_id = await rows.fetchval("SELECT vendor_id FROM packages")
    policy |= {"vendor_id": vendor_id, "title": WIDE * 200}
    packages = [first, *[await add_package(rows, **policy) for _ in range(PAGE - 1)]]
    drifted = await add_package(rows, **policy)
    await _add_days(rows, packages[1:], YEAR)
    await _add_days(rows, [first, drifted], CAPACITY_DAYS)
    made.vendor, made.packages = str(vendor_id), [str(each) for each in packages[1:]]
    made.long, made.drifted = str(first), str(drifted)

    async def booking(**changes: Any) -> UUID:
        values = {"user_id": USER, "cancellation_policy": STORED_TIERS, **STAY, **changes}
        return await add_booking(rows, first, **values)

    for state in ("complete", "abandon", "extend", "fail"):
        made.of_state[state] = [
            str(await booking(hold_expire_time=NOON + timedelta(hours=1))) for _ in range(ATTEMPTS)
        ]
    for state in ("confirm", "record"):
        # Its seats are taken again, after those of its hold were given back.
        made.of_state[state] = [
            str(await booking(state="PENDING_PAYMENT", hold_expire_time=LAPSED))
            for _ in range(ATTEMPTS)
        ]
    confirmed = {"state": "CONFIRMED", "confirm_time": NOON, "captured_minor": 10_000}
    for state in ("cancel", "move", "refund", "review"):
        ids = [await booking(**confirmed) for _ in range(ATTEMPTS)]
        made.of_state[state] = [str(each) for each in ids]
        paid = [await _add_payment(rows, each) for each in ids]
        if state == "refund":
            made.payments = [str(each) for each in paid]
    # Pages of bookings, of payments, of payments that failed and are due, and of reviews.
    made.listed = [str(await booking(**confirmed, balance_due_minor=10_000)) for _ in range(PAGE)]
    made.paid = made.listed[0]
    for booking_id in made.listed:
        await _add_payment(rows, UUID(made.paid), state="FAILED")
        for _ in range(2):
            await _add_payment(rows, UUID(booking_id), state="FAILED", next_retry_time=LAPSED)
    for user_id in LEAVING:
        for _ in range(BATCH):
            await booking(**confirmed, user_id=user_id)
    made.refund = await _add_lists(rows, UUID(made.payments[0]))
    await _add_texts(rows, made)
    await rows.execute("ANALYZE")
    return made


async def _add_texts(rows: asyncpg.Connection[asyncpg.Record], made: Seeded) -> None:
    """Add a profile, and a page of reviews, of a booking's trail and of a vendor's."""
    await rows.execute(
        "INSERT INTO user_profiles VALUES (gen_random_uuid(), $1, '', '', '', 1, $2, $2)",
        USER,
        NOON,
    )
    await rows.executemany(
        "INSERT INTO reviews SELECT gen_random_uuid(), $1, $2, $3, 5, $4, 1, $5, $5",
        [(each, UUID(made.long), USER, WIDE * 4000, NOON) for each in made.listed],
    )
    await rows.executemany(
        "INSERT INTO booking_events VALUES ($1, $2, 'EXTENDED', 'HELD', 'HELD', $3, 'c', NULL, $4)",
        [(made.paid, n + 1, WIDE * 200, NOON) for n in range(PAGE)],
    )
    runs = [["capacity", str(each), str(each + timedelta(1)), n % 2, 9] for n, each in RUNS]
    await rows.executemany(
        "INSERT INTO catalog_events (vendor_id, change, fields, runs, days_left_out, caller,"
        " event_time) VALUES ($1, 'CAPACITY_SET', '[]', $2, 0, 'c', $3)",
        [(made.vendor, json.dumps(runs), NOON)] * PAGE,
    )


def requests(seeded: Seeded, attempt: int) -> Requests:
    """Return the requests of each method; those of another attempt are as expensive again."""
    return {
        **_starts(seeded),
        **_changes(seeded, attempt),
        **_of_catalog(seeded, attempt),
        **_reads(seeded),
    }


def _starts(seeded: Seeded) -> Requests:
    stay = {"start_date": after(0), "end_date": after(CAPACITY_DAYS // BATCH)}
    many = [
        start_of(package, user_id=USER, quote=QUOTE, **stay) for package in seeded.packages[:BATCH]
    ]
    few = [start_of(seeded.long, user_id=USER, quote=QUOTE, **DATES)] * (CAPACITY_DAYS // YEAR)
    return {
        "StartBooking": [few[0]],
        "BatchStartBookings": [
            bad_stays.Batch(requests=many),
            bad_stays.Batch(requests=few),
            bad_stays.Batch(requests=many, all_or_nothing=True),
            bad_stays.Batch(requests=few, all_or_nothing=True),
        ],
    }


def _changes(seeded: Seeded, attempt: int) -> Requests:
    def one(name: str) -> str:
        return seeded.of_state[name][attempt]

    moved = bad_stays.moving(
        booking_id=one("move"), start_date=after(YEAR), end_date=after(2 * YEAR), quote=QUOTE
    )
    return {
        "CompleteBooking": [booking_pb2.CompleteBookingRequest(booking_id=one("complete"))],
        "ConfirmBooking": [
            booking_pb2.ConfirmBookingRequest(
                booking_id=one("confirm"),
                provider="x" * 60,
                payment_id=f"{attempt}" * 128,
                amount=euro(10_000),
            )
        ],
        "AbandonBooking": [
            booking_pb2.AbandonBookingRequest(booking_id=one("abandon"), reason=WIDE * 200)
        ],
        "CancelBooking": [
            booking_pb2.CancelBookingRequest(booking_id=one("cancel"), reason=WIDE * 200)
        ],
        "ExtendHold": [booking_pb2.ExtendHoldRequest(booking_id=one("extend"))],
        "FailBooking": [booking_pb2.FailBookingRequest(booking_id=one("fail"), reason="X" * 60)],
        "PreviewCancellation": [booking_pb2.PreviewCancellationRequest(booking_id=one("review"))],
        "PreviewReschedule": [moved],
        "RescheduleBooking": [moved],
        "ReconcileInventory": [
            booking_pb2.ReconcileInventoryRequest(
                package_id=package, repair=True, start_date=after(200 * attempt)
            )
            for package in (seeded.long, seeded.drifted)
        ],
        "RecordPayment": [
            bad_payments.recorded(
                booking_id=one("record"), payment_id=f"r{attempt}", amount=euro(10_000)
            )
        ],
        "RefundPayment": [bad_payments.refunding(id=seeded.payments[attempt], reason=WIDE * 200)],
        "CreateReview": [bad_reviews.reviewing(booking_id=one("review"), body=WIDE * 4000)],
        "ClaimRefunds": [payment_pb2.ClaimRefundsRequest(limit=BATCH, lease=Duration(seconds=1))],
        "EraseUser": [profile_pb2.EraseUserRequest(user_id=LEAVING[attempt])],
        "UpdateUserProfile": [
            bad_reviews.masked(
                "display_name", "email", user_id=USER, display_name=f"{attempt}" + WIDE * 199
            )
        ],
    }


def _of_catalog(seeded: Seeded, attempt: int) -> Requests:
    whole = bad_catalog.run(after(0), after(CAPACITY_DAYS), 1_000_000 - attempt)
    single = [bad_catalog.run(after(n), None, 1_000_000 - attempt) for n in range(CAPACITY_DAYS)]
    large = package_of(
        seeded.vendor, title=WIDE * 200, cancellation_policy=TIERS, bookable_from=after(0)
    )
    changed = catalog_pb2.Package()
    changed.CopyFrom(large)
    changed.id, changed.status = seeded.packages[0], catalog_pb2.Package.ACTIVE
    changed.min_party_size, changed.max_party_size = 1 + attempt, 9
    changed.bookable_until.CopyFrom(after(9))
    changed.hold_ttl.seconds = 60
    return {
        "CreateVendor": [bad_catalog.vendor_of(vendor=catalog_pb2.Vendor(name=WIDE * 200))],
        "UpdateVendor": [
            catalog_pb2.UpdateVendorRequest(
                vendor=catalog_pb2.Vendor(id=seeded.vendor, name=f"{attempt}" + WIDE * 199),
                update_mask=FieldMask(paths=["name"]),
            )
        ],
        "CreatePackage": [catalog_pb2.CreatePackageRequest(package=large)],
        "SetCapacity": [
            bad_catalog.capacity(*ranges, package_id=package)
            for ranges in ([whole], single)
            for package in (seeded.long, seeded.drifted)
        ],
        "UpdatePackage": [
            catalog_pb2.UpdatePackageRequest(
                package=changed, update_mask=FieldMask(paths=list(_CHANGEABLE))
            )
        ],
    }


def _reads(seeded: Seeded) -> Requests:
    return {
        "GetBooking": [booking_pb2.GetBookingRequest(booking_id=seeded.paid)],
        "ListBookings": [
            booking_pb2.ListBookingsRequest(
                user_id=USER, page_size=PAGE, states=[booking_pb2.Booking.CONFIRMED] * 20, **DATES
            )
        ],
        "BatchGetBookings": [
            booking_pb2.BatchGetBookingsRequest(booking_ids=seeded.listed[:BATCH])
        ],
        "ListBookingEvents": [
            booking_pb2.ListBookingEventsRequest(booking_id=seeded.paid, page_size=PAGE)
        ],
        "GetRevenueReport": [
            bad_stays.report(start_time=bad_stays.instant(-3600), end_time=bad_stays.instant(60))
        ],
        "ListPayments": [payment_pb2.ListPaymentsRequest(booking_id=seeded.paid, page_size=PAGE)],
        "ListFailedPayments": [payment_pb2.ListFailedPaymentsRequest(page_size=PAGE)],
        "ClaimFailedPayments": [
            payment_pb2.ClaimFailedPaymentsRequest(limit=BATCH, lease=Duration(seconds=1))
        ],
        "GetRefund": [payment_pb2.GetRefundRequest(id=seeded.refund)],
        "ListRefunds": [
            payment_pb2.ListRefundsRequest(
                states=[payment_pb2.Refund.REQUESTED] * 20, page_size=PAGE
            )
        ],
        "GetVendor": [catalog_pb2.GetVendorRequest(vendor_id=seeded.vendor)],
        "ListVendors": [catalog_pb2.ListVendorsRequest(page_size=PAGE)],
        "ListReviews": [review_pb2.ListReviewsRequest(package_id=seeded.long, page_size=PAGE)],
        "GetUserProfile": [profile_pb2.GetUserProfileRequest(user_id=USER)],
        "GetPackage": [catalog_pb2.GetPackageRequest(package_id=seeded.packages[0])],
        "SearchPackages": [
            catalog_pb2.SearchPackagesRequest(
                location="Lisbon", type="hotel_room", page_size=PAGE, quantity=100, **DATES
            )
        ],
        "CheckAvailability": [
            catalog_pb2.CheckAvailabilityRequest(package_id=seeded.long, **DATES)
        ],
        "BatchGetPackages": [
            catalog_pb2.BatchGetPackagesRequest(package_ids=seeded.packages[:BATCH])
        ],
        "ListPackageEvents": [
            catalog_pb2.ListPackageEventsRequest(vendor_id=seeded.vendor, page_size=PAGE)
        ],
        "ListVendorPackages": [
            catalog_pb2.ListVendorPackagesRequest(
                vendor_id=seeded.vendor, statuses=[catalog_pb2.Package.ACTIVE] * 20, page_size=PAGE
            )
        ],
    }


async def _add_days(
    rows: asyncpg.Connection[asyncpg.Record], package_ids: list[UUID], days: int
) -> None:
    await rows.execute(
        "INSERT INTO package_days SELECT p, d::date, 1000000, 500000, 400000"
        " FROM unnest($1::uuid[]) p, generate_series($2::date, $2::date + $3::int - 1, '1 day') d",
        package_ids,
        FIRST_DAY,
        days,
    )


async def _add_lists(rows: asyncpg.Connection[asyncpg.Record], payment_id: UUID) -> str:
    """Fill a page of vendors, and two of refunds that are owed; returns a refund's id."""
    await rows.execute(
        "INSERT INTO vendors (id, name, version, create_time, update_time)"
        " SELECT gen_random_uuid(), $1, 1, $2, $2 FROM generate_series(1, $3)",
        *(WIDE * 200, NOON, PAGE),
    )
    refunds = await rows.fetch(
        "INSERT INTO refunds (id, booking_id, payment_id, state, amount_minor, currency, reason,"
        " vendor_id, provider, provider_payment_id, next_attempt_time, create_time, update_time)"
        " SELECT gen_random_uuid(), p.booking_id, p.id, 'REQUESTED', 1, 'EUR', $2, b.vendor_id,"
        " p.provider, p.payment_id, $3, $3, $3"
        " FROM payments AS p INNER JOIN bookings AS b ON b.id = p.booking_id,"
        " generate_series(1, 2 * $4::int) WHERE p.id = $1 RETURNING id",
        *(payment_id, WIDE * 200, LAPSED, PAGE),
    )
    return str(refunds[0]["id"])


async def _add_payment(
    rows: asyncpg.Connection[asyncpg.Record], booking_id: UUID, **changes: Any
) -> UUID:
    values = {"state": "CAPTURED", "next_retry_time": None, **changes}
    added: UUID = await rows.fetchval(
        "INSERT INTO payments (id, booking_id, provider, payment_id, state, amount_minor, currency,"
        " refunded_minor, failure_code, next_retry_time, version, create_time, update_time)"
        " VALUES ($1, $2, 'stripe', $3, $4, 10000, 'EUR', 0, '', $5, 1, $6, $6) RETURNING id",
        uuid4(),
        booking_id,
        str(uuid4()),
        values["state"],
        values["next_retry_time"],
        NOON - timedelta(hours=1),
    )
    return added
