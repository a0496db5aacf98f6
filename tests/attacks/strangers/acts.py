"""Row 2: acts that only some callers may do, tried by strangers, wrong roles and the right one:
nothing changes before it is the turn of the latter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.type.money_pb2 import Money

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    payment_pb2,
    profile_pb2,
    profile_pb2_grpc,
)
from protos.metrics.v1 import health_pb2, metrics_pb2
from tests.attacks.strangers.stage import DOMAIN, ROLES, Speaker, Stage, digest
from tests.attacks.strike import ANSWER_S
from tests.attacks.town import Town, in_days

DENIED: Final = "PERMISSION_DENIED"
USER: Final = "ana"
# What one caller may claim to be in metadata, beside what it is.
CLAIMS: Final = tuple(
    (name, f"ops.{DOMAIN}")
    for name in ("x-caller", "x-identity", "x-forwarded-client-cert", "x-forwarded-for")
)
# Tables of the booking database that only callers change.
TABLES: Final = (
    *("vendors", "packages", "package_days", "catalog_events", "bookings", "booking_events"),
    *("payments", "payment_events", "early_payment_events", "refunds", "reviews"),
    *("user_profiles", "erasures", "idempotency_keys", "outbox"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """What there is before anybody acts: two holds whose forms are complete, one that was paid."""

    town: Town
    held: tuple[Any, Any]
    paid: Any
    payment: str

    @classmethod
    async def made(cls, stage: Stage) -> Place:
        async with Speaker(stage, stage.known("desk")) as desk:
            channel = desk.channel("booking")
            town = await Town.built(channel, packages=1, days=10)
            stub: Any = booking_pb2_grpc.BookingServiceStub(channel)
            bookings = [await _pending(stub, town) for _ in range(3)]
            profile = profile_pb2.UserProfile(user_id=USER, display_name="Ana", email="a@b.example")
            profiles: Any = profile_pb2_grpc.ProfileServiceStub(channel)
            await profiles.UpdateUserProfile(
                profile_pb2.UpdateUserProfileRequest(profile=profile), timeout=ANSWER_S
            )
        async with Speaker(stage, stage.known("till")) as till:
            stub = booking_pb2_grpc.BookingServiceStub(till.channel("booking"))
            await stub.ConfirmBooking(_paid(bookings[2]), timeout=ANSWER_S)
        [row] = await stage.query("booking", "SELECT id FROM payments")
        return cls(town, (bookings[0], bookings[1]), bookings[2], str(row["id"]))


async def _pending(stub: Any, town: Town) -> Any:
    held = await stub.StartBooking(_start(town), timeout=ANSWER_S)
    return await stub.CompleteBooking(
        booking_pb2.CompleteBookingRequest(booking_id=held.id), timeout=ANSWER_S
    )


def _start(town: Town, **fields: Any) -> booking_pb2.StartBookingRequest:
    return booking_pb2.StartBookingRequest(
        package_id=town.packages[0],
        user_id=f"{USER} {uuid4()}",
        start_date=in_days(2),
        end_date=in_days(3),
        **fields,
    )


def _paid(booking: Any) -> booking_pb2.ConfirmBookingRequest:
    return booking_pb2.ConfirmBookingRequest(
        booking_id=booking.id, provider="test", payment_id=booking.id, amount=booking.price
    )


@dataclass(frozen=True, slots=True)
class Act:
    """One call, and the roles whose business it is."""

    path: str
    roles: str
    request: Callable[[Place], Message]


def _booking(name: str) -> str:
    return f"booking.v1.{name}"


def _figures(name: str) -> str:
    return f"metrics.v1.{name}"


ACTS: Final = (
    Act(
        _booking("CatalogService/UpdatePackage"),
        "service",
        lambda place: catalog_pb2.UpdatePackageRequest(
            package=catalog_pb2.Package(
                id=place.town.packages[0], base_price=Money(currency_code="EUR", units=1)
            ),
            update_mask=FieldMask(paths=["base_price"]),
        ),
    ),
    Act(
        _booking("CatalogService/SetCapacity"),
        "service",
        lambda place: catalog_pb2.SetCapacityRequest(
            package_id=place.town.packages[0],
            ranges=[
                catalog_pb2.CapacityRange(start_date=in_days(5), end_date=in_days(8), capacity=0)
            ],
        ),
    ),
    Act(
        _booking("CatalogService/UpdateVendor"),
        "service",
        lambda place: catalog_pb2.UpdateVendorRequest(
            vendor=catalog_pb2.Vendor(id=place.town.vendor, name="Mine now"),
            update_mask=FieldMask(paths=["name"]),
        ),
    ),
    Act(
        _booking("CatalogService/ListPackageEvents"),
        "service ops",
        lambda place: catalog_pb2.ListPackageEventsRequest(package_id=place.town.packages[0]),
    ),
    Act(
        _booking("BookingService/StartBooking"),
        "service",
        lambda place: _start(place.town, request_id=str(uuid4())),
    ),
    Act(
        _booking("BookingService/ListBookings"),
        "service ops",
        lambda _: booking_pb2.ListBookingsRequest(),
    ),
    Act(
        _booking("BookingService/GetBooking"),
        "service payment ops",
        lambda place: booking_pb2.GetBookingRequest(booking_id=place.paid.id),
    ),
    Act(_booking("BookingService/ConfirmBooking"), "payment", lambda place: _paid(place.held[0])),
    Act(
        _booking("PaymentService/RecordPayment"),
        "payment",
        lambda place: payment_pb2.RecordPaymentRequest(
            booking_id=place.held[1].id,
            provider="test",
            payment_id=place.held[1].id,
            kind=payment_pb2.RecordPaymentRequest.CAPTURED,
            amount=place.held[1].price,
        ),
    ),
    Act(
        _booking("PaymentService/RefundPayment"),
        "payment",
        lambda place: payment_pb2.RefundPaymentRequest(
            id=place.payment, amount=Money(currency_code="EUR", units=7)
        ),
    ),
    Act(
        _booking("PaymentService/ClaimRefunds"),
        "payment",
        lambda _: payment_pb2.ClaimRefundsRequest(),
    ),
    Act(
        _booking("PaymentService/ListRefunds"),
        "payment ops",
        lambda _: payment_pb2.ListRefundsRequest(),
    ),
    Act(
        _booking("PaymentService/ListPayments"),
        "service payment ops",
        lambda place: payment_pb2.ListPaymentsRequest(booking_id=place.paid.id),
    ),
    Act(
        _booking("BookingService/CancelBooking"),
        "service",
        lambda place: booking_pb2.CancelBookingRequest(booking_id=place.paid.id),
    ),
    Act(
        _booking("BookingService/GetRevenueReport"),
        "service ops",
        lambda _: _report(),
    ),
    Act(
        _booking("BookingService/ReconcileInventory"),
        "ops",
        lambda place: booking_pb2.ReconcileInventoryRequest(
            package_id=place.town.packages[0], repair=True
        ),
    ),
    Act(
        _booking("ProfileService/GetUserProfile"),
        "service ops",
        lambda _: profile_pb2.GetUserProfileRequest(user_id=USER),
    ),
    Act(
        _booking("ProfileService/UpdateUserProfile"),
        "service",
        lambda _: profile_pb2.UpdateUserProfileRequest(
            profile=profile_pb2.UserProfile(user_id=USER, email="thief@x.example"),
            update_mask=FieldMask(paths=["email"]),
        ),
    ),
    # Last of these: nothing of the user is left.
    Act(
        _booking("ProfileService/EraseUser"),
        "ops",
        lambda _: profile_pb2.EraseUserRequest(user_id=USER),
    ),
    Act(
        _figures("MetricsService/GetMetrics"),
        "monitor ops",
        lambda _: metrics_pb2.GetMetricsRequest(),
    ),
    Act(
        _figures("MetricsService/GetQueryStats"),
        "ops",
        lambda _: metrics_pb2.GetQueryStatsRequest(),
    ),
    Act(
        _figures("MetricsService/ListRecentQueries"),
        "ops",
        lambda _: metrics_pb2.ListRecentQueriesRequest(),
    ),
    Act(
        _figures("HealthService/GetDatabaseHealth"),
        "monitor ops",
        lambda _: health_pb2.GetDatabaseHealthRequest(),
    ),
)


def _report() -> booking_pb2.GetRevenueReportRequest:
    request = booking_pb2.GetRevenueReportRequest()
    now = datetime.now(UTC)
    request.start_time.FromDatetime(now - timedelta(days=1))
    request.end_time.FromDatetime(now + timedelta(days=1))
    return request


async def acts(stage: Stage) -> None:
    """Try every act, by all who may not and then by one who may."""
    place = await Place.made(stage)
    before = await _stored(stage)
    for who, (files, code) in stage.strangers().items():
        async with Speaker(stage, files) as stranger:
            for act in ACTS:
                answered = await stranger.code(act.path, act.request(place))
                stage.tally.check(answered == code, f"one {who}: {act.path} answered {answered}")
    for name, role in ROLES.items():
        async with Speaker(stage, stage.known(name)) as caller:
            for act in ACTS:
                if role in act.roles.split():
                    continue
                for claims in ((), CLAIMS):
                    answered = await caller.code(act.path, act.request(place), claims)
                    stage.tally.check(answered == DENIED, f"{name}: {act.path} answered {answered}")
    after = await _stored(stage)
    changed = [table for table in TABLES if before[table] != after[table]]
    stage.tally.check(not changed, f"who may not has changed {changed}")
    by_role = {role: name for name, role in ROLES.items() if name != "kiosk"}
    for act in ACTS:
        name = by_role[act.roles.split()[0]]
        async with Speaker(stage, stage.known(name)) as caller:
            answered = await caller.code(act.path, act.request(place))
            stage.tally.check(answered == "OK", f"{name}: {act.path} answered {answered}")
    await _named(stage)


async def answers_of_others(stage: Stage) -> None:
    """The request id of another caller gets an answer of one's own."""
    async with (
        Speaker(stage, stage.known("desk")) as desk,
        Speaker(stage, stage.known("kiosk")) as kiosk,
    ):
        town = await Town.built(desk.channel("booking"), packages=1, days=10)
        request = _start(town, request_id=str(uuid4()))
        first, again, other = [
            await booking_pb2_grpc.BookingServiceStub(each.channel("booking")).StartBooking(
                _of(request, number), timeout=ANSWER_S
            )
            for number, each in enumerate((desk, desk, kiosk))
        ]
    stage.tally.check(first.id == again.id, "a repeat of one's own request is a new booking")
    stage.tally.check(first.id != other.id, "one caller has got the answer to another's request")


def _of(request: booking_pb2.StartBookingRequest, number: int) -> booking_pb2.StartBookingRequest:
    """The request itself; that of the last caller, which holds for another user."""
    if number < 2:
        return request
    other = booking_pb2.StartBookingRequest()
    other.CopyFrom(request)
    other.user_id = f"{USER} of the kiosk"
    return other


async def pages(stage: Stage) -> None:
    """HTTP is for monitor and ops alone."""
    for who, (files, _) in stage.strangers().items():
        for path in ("/api/health/database", "/api/metrics/bookings"):
            status = await asyncio.to_thread(stage.http, files, path)
            stage.tally.check(status in (0, 400, 401), f"one {who}: GET {path} answered {status}")
    for name, role in ROLES.items():
        status = await asyncio.to_thread(stage.http, stage.known(name), "/api/metrics/bookings")
        wanted = 200 if role in ("monitor", "ops") else 403
        stage.tally.check(status == wanted, f"{name}: GET answered {status}")


async def _stored(stage: Stage) -> dict[str, str]:
    return {
        table: digest(await stage.query("booking", f"SELECT * FROM {table}")) for table in TABLES
    }


async def _named(stage: Stage) -> None:
    """Every audit row names a caller, and none that was refused."""
    for table in ("booking_events", "catalog_events", "payment_events"):
        rows = await stage.query("booking", f"SELECT DISTINCT caller FROM {table}")
        callers = {row["caller"] for row in rows}
        known = {f"desk.{DOMAIN}", f"till.{DOMAIN}"}
        stage.tally.check(callers and callers <= known, f"{table} names {sorted(callers)}")


STRANGERS: Final = (acts, answers_of_others, pages)
