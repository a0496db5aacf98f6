"""What holds for every RPC: unknown ids, repeated requests, and the telemetry of them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from metrics_service.client.stream.source import LaneDrained
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.tracking.v1 import event_pb2
from tests.booking.running_service import (
    RunningService,
    after,
    confirm_of,
    euro,
    package_of,
    refusal_of,
    start_of,
)
from tests.booking.seed import eventually

ID = str(uuid4())
CAPTURED = payment_pb2.RecordPaymentRequest.CAPTURED
AUTHORISED = payment_pb2.RecordPaymentRequest.AUTHORISED
Get = booking_pb2.GetBookingRequest
# pg_locks, unlike pg_stat_activity, is read anew within a transaction.
BLOCKING = """
SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))
"""

# Every request that names a resource, with that resource.
UNKNOWN: list[tuple[Message, str]] = [
    (catalog_pb2.CreatePackageRequest(package=package_of(ID)), "vendor"),
    (catalog_pb2.GetVendorRequest(vendor_id=ID), "vendor"),
    (
        catalog_pb2.UpdateVendorRequest(
            vendor=catalog_pb2.Vendor(id=ID, name="Sol"), update_mask=FieldMask(paths=["*"])
        ),
        "vendor",
    ),
    (
        catalog_pb2.SetCapacityRequest(
            package_id=ID, ranges=[catalog_pb2.CapacityRange(start_date=after(0))]
        ),
        "package",
    ),
    (catalog_pb2.GetPackageRequest(package_id=ID), "package"),
    (catalog_pb2.CheckAvailabilityRequest(package_id=ID, start_date=after(0)), "package"),
    (start_of(ID), "package"),
    (booking_pb2.CompleteBookingRequest(booking_id=ID), "booking"),
    (confirm_of(booking_pb2.Booking(id=ID, price=euro(1))), "booking"),
    (booking_pb2.AbandonBookingRequest(booking_id=ID), "booking"),
    (booking_pb2.CancelBookingRequest(booking_id=ID), "booking"),
    (Get(booking_id=ID), "booking"),
    (
        payment_pb2.RecordPaymentRequest(
            booking_id=ID, provider="stripe", payment_id="1", kind=CAPTURED, amount=euro(1)
        ),
        "booking",
    ),
    (catalog_pb2.BatchGetPackagesRequest(package_ids=[ID]), "package"),
    (
        catalog_pb2.UpdatePackageRequest(
            package=catalog_pb2.Package(id=ID), update_mask=FieldMask(paths=["cutoff"])
        ),
        "package",
    ),
    (
        booking_pb2.BatchStartBookingsRequest(requests=[start_of(ID)], all_or_nothing=True),
        "package",
    ),
    (booking_pb2.ExtendHoldRequest(booking_id=ID), "booking"),
    (booking_pb2.FailBookingRequest(booking_id=ID, reason="TIMEOUT"), "booking"),
    (booking_pb2.PreviewCancellationRequest(booking_id=ID), "booking"),
    (booking_pb2.CancelBookingRequest(booking_id=ID, validate_only=True), "booking"),
    (booking_pb2.RescheduleBookingRequest(booking_id=ID, start_date=after(0)), "booking"),
    (booking_pb2.BatchGetBookingsRequest(booking_ids=[ID]), "booking"),
    (booking_pb2.ListBookingEventsRequest(booking_id=ID), "booking"),
    (booking_pb2.ReconcileInventoryRequest(package_id=ID), "package"),
    (catalog_pb2.ListPackageEventsRequest(package_id=ID), "package"),
    (catalog_pb2.ListPackageEventsRequest(vendor_id=ID), "vendor"),
    (payment_pb2.ListPaymentsRequest(booking_id=ID), "booking"),
    (payment_pb2.RefundPaymentRequest(id=ID, amount=euro(1)), "payment"),
    (payment_pb2.GetRefundRequest(id=ID), "refund"),
    (review_pb2.CreateReviewRequest(booking_id=ID, rating=5), "booking"),
    (profile_pb2.GetUserProfileRequest(user_id=ID), "user profile"),
    (
        profile_pb2.UpdateUserProfileRequest(
            profile=profile_pb2.UserProfile(user_id=ID), update_mask=FieldMask(paths=["email"])
        ),
        "user profile",
    ),
]


def rpc_of(service: RunningService, request: Message) -> Any:
    method = type(request).__name__.removesuffix("Request")
    for stub in (
        service.catalog,
        service.booking,
        service.payment,
        service.review,
        service.profile,
    ):
        if hasattr(stub, method):
            return getattr(stub, method)
    raise AssertionError(method)


async def changes_of(service: RunningService) -> list[Message]:
    """A request of each kind that changes something and can be carried out now."""
    package = await service.package(capacity=100)
    held, pending, paid = [await service.held(package.id) for _ in range(3)]
    for each in (pending, paid):
        await service.booking.CompleteBooking(
            booking_pb2.CompleteBookingRequest(booking_id=each.id)
        )
    await service.booking.ConfirmBooking(confirm_of(paid))
    doomed, failing = [await service.held(package.id) for _ in range(2)]
    stayed = await service.confirmed(package.id)
    return [
        catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Sol")),
        catalog_pb2.CreatePackageRequest(package=package_of(package.vendor_id)),
        catalog_pb2.SetCapacityRequest(
            package_id=package.id,
            ranges=[catalog_pb2.CapacityRange(start_date=after(90), capacity=3)],
        ),
        catalog_pb2.UpdateVendorRequest(
            vendor=catalog_pb2.Vendor(id=package.vendor_id, name="Sol e Mar"),
            update_mask=FieldMask(paths=["name"]),
        ),
        start_of(package.id),
        booking_pb2.CompleteBookingRequest(booking_id=held.id),
        confirm_of(pending),
        booking_pb2.AbandonBookingRequest(booking_id=doomed.id, reason="dear"),
        booking_pb2.CancelBookingRequest(booking_id=paid.id, reason="rain"),
        payment_pb2.RecordPaymentRequest(
            booking_id=held.id,
            provider="stripe",
            payment_id="1",
            kind=AUTHORISED,
            amount=held.price,
        ),
        catalog_pb2.UpdatePackageRequest(
            package=catalog_pb2.Package(id=package.id, title="Room 7"),
            update_mask=FieldMask(paths=["title"]),
        ),
        booking_pb2.BatchStartBookingsRequest(
            requests=[start_of(package.id)] * 2, all_or_nothing=True
        ),
        booking_pb2.ExtendHoldRequest(booking_id=held.id),
        booking_pb2.FailBookingRequest(booking_id=failing.id, reason="TIMEOUT"),
        booking_pb2.RescheduleBookingRequest(booking_id=stayed.id, start_date=after(5)),
        booking_pb2.ReconcileInventoryRequest(package_id=package.id),
        payment_pb2.RefundPaymentRequest(id=await payment_of(service, stayed), amount=euro(1)),
        payment_pb2.ClaimFailedPaymentsRequest(limit=1),
        payment_pb2.ClaimRefundsRequest(limit=1),
        review_pb2.CreateReviewRequest(booking_id=stayed.id, rating=5),
        profile_pb2.UpdateUserProfileRequest(
            profile=profile_pb2.UserProfile(user_id="ana", display_name="Ana")
        ),
    ]


async def payment_of(service: RunningService, booking: booking_pb2.Booking) -> str:
    """The id of a booking's only payment."""
    listed = await service.payment.ListPayments(
        payment_pb2.ListPaymentsRequest(booking_id=booking.id)
    )
    (payment,) = listed.payments
    return payment.id


async def test_an_unknown_id_is_not_found_by_name(booking: RunningService) -> None:
    for request, kind in UNKNOWN:
        refusal = await refusal_of(rpc_of(booking, request)(request))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        assert refusal.resource == (kind, ID)


async def test_a_repeat_gets_the_first_answer(booking: RunningService) -> None:
    for change in await changes_of(booking):
        change.request_id = str(uuid4())  # type: ignore[attr-defined] # they all have one
        rpc = rpc_of(booking, change)
        first = await rpc(change)
        assert await rpc(change) == first
        alike = await asyncio.gather(*(rpc(change) for _ in range(5)))
        assert all(answer == first for answer in alike)


async def test_requests_that_repeat_each_other_at_once_are_carried_out_once(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=3)
    request = start_of(package.id, request_id=str(uuid4()))
    answers = await asyncio.gather(*(booking.booking.StartBooking(request) for _ in range(20)))
    assert len({answer.id for answer in answers}) == 1
    listed = await booking.booking.ListBookings(booking_pb2.ListBookingsRequest())
    assert len(listed.bookings) == 1


async def test_a_request_id_with_other_content_is_refused(booking: RunningService) -> None:
    others: dict[type[Message], dict[str, Any]] = {
        catalog_pb2.CreateVendorRequest: {"vendor": catalog_pb2.Vendor(name="Mar")},
        catalog_pb2.CreatePackageRequest: {"package": package_of(ID)},
        catalog_pb2.SetCapacityRequest: {
            "ranges": [catalog_pb2.CapacityRange(start_date=after(90), capacity=4)]
        },
        catalog_pb2.UpdateVendorRequest: {"update_mask": FieldMask(paths=["*"])},
        booking_pb2.StartBookingRequest: {"quantity": 2},
        booking_pb2.CompleteBookingRequest: {"booking_id": ID},
        booking_pb2.ConfirmBookingRequest: {"payment_id": "another"},
        booking_pb2.AbandonBookingRequest: {"reason": "late"},
        booking_pb2.CancelBookingRequest: {"reason": "snow"},
        payment_pb2.RecordPaymentRequest: {"payment_id": "another"},
        catalog_pb2.UpdatePackageRequest: {"update_mask": FieldMask(paths=["title", "cutoff"])},
        booking_pb2.BatchStartBookingsRequest: {"requests": [start_of(ID)]},
        booking_pb2.ExtendHoldRequest: {"booking_id": ID},
        booking_pb2.FailBookingRequest: {"reason": "OTHER"},
        booking_pb2.RescheduleBookingRequest: {"start_date": after(6)},
        booking_pb2.ReconcileInventoryRequest: {"repair": True},
        payment_pb2.RefundPaymentRequest: {"amount": euro(2)},
        payment_pb2.ClaimFailedPaymentsRequest: {"limit": 2},
        payment_pb2.ClaimRefundsRequest: {"limit": 2},
        review_pb2.CreateReviewRequest: {"rating": 4},
        profile_pb2.UpdateUserProfileRequest: {
            "profile": profile_pb2.UserProfile(user_id="ana", display_name="Ada")
        },
    }
    for change in await changes_of(booking):
        request_id = str(uuid4())
        change.request_id = request_id  # type: ignore[attr-defined] # they all have one
        rpc = rpc_of(booking, change)
        await rpc(change)
        kept = {field.name: value for field, value in change.ListFields()}
        other = type(change)(**(kept | others[type(change)]))
        refusal = await refusal_of(rpc(other))
        if refusal.reason == "NOT_FOUND":
            # It names an unknown booking, which is refused first.
            assert others[type(change)] == {"booking_id": ID}
            continue
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.reason == "REQUEST_ID_REUSED"
        assert refusal.fields == {"request_id"}


@pytest.mark.parametrize(
    ("first", "repeat", "same"),
    [
        ("9b2d1f64-0c1e-4f6a-8d5b-ABCDEF012345", "9B2D1F64-0C1E-4F6A-8D5B-abcdef012345", True),
        ("order 17 / step 3", "order 17 / step 3", True),
        ("\u00e9tape-3", "\u00e9tape-3", True),
        ("r" * 128, "r" * 128, True),
        # Only a UUID is the same in another case.
        ("order-17", "ORDER-17", False),
        ("{9b2d1f64-0c1e-4f6a-8d5b-abcdef012345}", "9b2d1f64-0c1e-4f6a-8d5b-abcdef012345", False),
    ],
)
async def test_a_request_id_is_a_uuid_or_any_other_text(
    booking: RunningService, first: str, repeat: str, same: bool
) -> None:
    package = await booking.package(capacity=10)
    answer = await booking.booking.StartBooking(start_of(package.id, request_id=first))
    again = await booking.booking.StartBooking(start_of(package.id, request_id=repeat))
    assert (again == answer) is same
    other = start_of(package.id, request_id=repeat, quantity=2)
    refusal = await refusal_of(booking.booking.StartBooking(other))
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_request_ids_belong_to_their_caller(booking: RunningService) -> None:
    package = await booking.package()
    request = start_of(package.id, request_id=str(uuid4()))
    anas = await booking.booking.StartBooking(request, metadata=[("x-caller", "web")])
    bens = await booking.booking.StartBooking(request, metadata=[("x-caller", "app")])
    assert anas.id != bens.id
    assert await booking.booking.StartBooking(request, metadata=[("x-caller", "web")]) == anas


async def test_a_refused_request_is_tried_anew(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    first = await booking.held(package.id)
    request = start_of(package.id, request_id=str(uuid4()))
    refusal = await refusal_of(booking.booking.StartBooking(request))
    assert refusal.reason == "SOLD_OUT"
    await booking.booking.AbandonBooking(booking_pb2.AbandonBookingRequest(booking_id=first.id))
    assert (await booking.booking.StartBooking(request)).id != first.id


async def emitted(service: RunningService) -> list[event_pb2.Event]:
    """What the process would send to the metrics, sealed as its last batches are."""
    emitter = service.server.emitter
    await emitter.open(0, b"")
    emitter.drain()
    events: list[event_pb2.Event] = []
    while True:
        try:
            batch = await emitter.next()
        except LaneDrained:
            return events
        events += event_pb2.EventList.FromString(batch.payload).events


async def test_a_package_is_viewed_by_a_session(booking: RunningService) -> None:
    package = await booking.package()
    request = catalog_pb2.GetPackageRequest(package_id=package.id)
    await booking.catalog.GetPackage(request)
    await booking.catalog.GetPackage(request, metadata=[("x-session-id", "visit-1")])
    await booking.catalog.GetPackage(request, metadata=[("x-session-id", "v" * 129)])
    views = [each for each in await emitted(booking) if each.HasField("package_viewed")]
    assert [each.session_id for each in views] == ["visit-1"]
    assert views[0].package_viewed == event_pb2.PackageViewed(
        package_id=package.id,
        package_type=package.type,
        location=package.location,
        vendor_id=package.vendor_id,
    )


async def test_refusals_are_reported_with_their_kind(booking: RunningService) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    session = [("x-session-id", "visit-1")]
    await refusal_of(booking.booking.StartBooking(start_of(package.id), metadata=session))
    await refusal_of(booking.booking.CancelBooking(booking_pb2.CancelBookingRequest()))
    moving = booking_pb2.RescheduleBookingRequest(booking_id=held.id, start_date=after(3))
    await refusal_of(booking.booking.RescheduleBooking(moving))
    await refusal_of(
        booking.catalog.GetPackage(catalog_pb2.GetPackageRequest(package_id="ana@example.org"))
    )
    events = await emitted(booking)
    refused = [each for each in events if each.HasField("rpc_refused")]
    assert [
        (each.session_id, each.rpc_refused.reason, each.rpc_refused.package_id) for each in refused
    ] == [
        ("visit-1", "SOLD_OUT", package.id),
        ("", "INVALID_ARGUMENT", ""),
        ("", "INVALID_TRANSITION", ""),
        ("", "INVALID_ARGUMENT", ""),
    ]
    assert [(each.rpc_refused.kind, each.rpc_refused.counts_as_error) for each in refused] == [
        ("availability", False),
        ("caller", False),
        ("booking", True),
        ("caller", False),
    ]
    assert refused[0].rpc_refused.rpc == "booking.v1.BookingService/StartBooking"
    assert refused[0].rpc_refused.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]


async def test_rpcs_are_counted_by_method_and_whether_they_write(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=1)
    held = await booking.held(package.id)
    await refusal_of(booking.held(package.id))
    for _ in range(3):
        await booking.booking.GetBooking(Get(booking_id=held.id))
    counts: dict[str, list[Any]] = {}
    for event in await emitted(booking):
        for entry in event.rpc_tally.entries:
            counts[entry.rpc.split("/")[1]] = [entry.write, entry.ok, entry.refused]
    assert counts == {
        "CreateVendor": [True, 1, 0],
        "CreatePackage": [True, 1, 0],
        "SetCapacity": [True, 1, 0],
        "StartBooking": [True, 1, 1],
        "GetBooking": [False, 3, 0],
    }


async def test_a_cancelled_call_is_not_reported_as_our_error(booking: RunningService) -> None:
    package = await booking.package()
    connection = await booking.server.database.connect("test")
    try:
        # The package is locked by another connection, so that the command waits.
        async with connection.transaction():
            await connection.execute("SELECT id FROM packages FOR UPDATE")
            call = booking.booking.StartBooking(start_of(package.id))

            async def waits() -> bool:
                return bool(await connection.fetchval(BLOCKING))

            await eventually(waits)
            call.cancel()
            assert (await booking.booking.ListBookings(booking_pb2.ListBookingsRequest())) == (
                booking_pb2.ListBookingsResponse()
            )
    finally:
        await connection.close()
    refused = [each for each in await emitted(booking) if each.HasField("rpc_refused")]
    assert [(each.rpc_refused.kind, each.rpc_refused.counts_as_error) for each in refused] == [
        ("caller", False)
    ]
