"""Proto to domain: each request that changes something becomes a command.

Bounds are those that the comments of the .proto files state. A bad request is refused as a whole,
every bad field named, before anything is looked up.
"""

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from google.protobuf.message import Message

from booking_service.domain.booking import PaymentKind
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    Command,
    CompleteBooking,
    ConfirmBooking,
    CreatePackage,
    CreateVendor,
    Quote,
    RecordPayment,
    SetCapacity,
    StartBooking,
)
from booking_service.mapping import packages
from booking_service.mapping.fields import Fields
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2

MAX_STAY_DAYS = 366
MAX_QUANTITY = 100

C = TypeVar("C", bound=Command)


@dataclass(frozen=True, slots=True)
class Change(Generic[C]):
    """A command, and what makes a repeat of it known.

    `fingerprint` is the SHA-256 of the request without its request_id: the ids that a command
    gets here differ at each repeat, the fingerprint does not.
    """

    command: C
    request_id: UUID | None
    fingerprint: bytes


def create_vendor(request: catalog_pb2.CreateVendorRequest) -> Change[CreateVendor]:
    read = Fields()
    name = ""
    if request.HasField("vendor"):
        name = read.text("vendor.name", request.vendor.name, most=200)
    else:
        read.bad("vendor", "is required")
    vendor_id = read.optional_uuid("vendor_id", request.vendor_id) or uuid4()
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(CreateVendor(vendor_id, name), request_id, fingerprint(request))


def create_package(request: catalog_pb2.CreatePackageRequest) -> Change[CreatePackage]:
    read = Fields()
    package_id = read.optional_uuid("package_id", request.package_id) or uuid4()
    request_id = read.optional_uuid("request_id", request.request_id)
    if not request.HasField("package"):
        read.bad("package", "is required")
        read.refuse_bad()
    draft = packages.draft(read, "package", request.package, package_id)
    read.refuse_bad()
    return Change(CreatePackage(draft), request_id, fingerprint(request))


def set_capacity(request: catalog_pb2.SetCapacityRequest) -> Change[SetCapacity]:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    request_id = read.optional_uuid("request_id", request.request_id)
    ranges = packages.capacity_ranges(read, "ranges", request.ranges)
    read.refuse_bad()
    return Change(SetCapacity(package_id, ranges), request_id, fingerprint(request))


def start_booking(
    request: booking_pb2.StartBookingRequest, session_id: str
) -> Change[StartBooking]:
    """`session_id` comes with the call and is no part of the fingerprint."""
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    user_id = read.text("user_id", request.user_id, most=128)
    start = read.day(
        "start_date", request.start_date, present=request.HasField("start_date"), required=True
    )
    end_present = request.HasField("end_date")
    end = read.day("end_date", request.end_date, present=end_present, required=False)
    start_date, end_date = read.day_range(
        "end_date", start, end, end_present=end_present, most=MAX_STAY_DAYS
    )
    quantity = read.number("quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1)
    party_size = read.number(
        "party_size", request.party_size, low=1, high=packages.MAX_PARTY_SIZE, zero=1
    )
    quote = _quote(read, "quote", request.quote) if request.HasField("quote") else None
    booking_id = read.optional_uuid("booking_id", request.booking_id) or uuid4()
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    command = StartBooking(
        booking_id=booking_id,
        package_id=package_id,
        user_id=user_id,
        session_id=session_id,
        start_date=start_date,
        end_date=end_date,
        quantity=quantity,
        party_size=party_size,
        quote=quote,
    )
    return Change(command, request_id, fingerprint(request))


def complete_booking(request: booking_pb2.CompleteBookingRequest) -> Change[CompleteBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(CompleteBooking(booking_id), request_id, fingerprint(request))


def confirm_booking(request: booking_pb2.ConfirmBookingRequest) -> Change[ConfirmBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    provider = read.text("provider", request.provider, most=60)
    payment_id = read.text("payment_id", request.payment_id, most=128)
    amount = read.money("amount", request.amount, present=request.HasField("amount"))
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    command = ConfirmBooking(
        booking_id=booking_id,
        provider=provider,
        payment_id=payment_id,
        amount=amount,
        payment_row_id=uuid4(),
        refund_row_id=uuid4(),
    )
    return Change(command, request_id, fingerprint(request))


def abandon_booking(request: booking_pb2.AbandonBookingRequest) -> Change[AbandonBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    reason = read.text("reason", request.reason, most=200, required=False)
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(AbandonBooking(booking_id, reason), request_id, fingerprint(request))


def cancel_booking(request: booking_pb2.CancelBookingRequest) -> Change[CancelBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    reason = read.text("reason", request.reason, most=200, required=False)
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    return Change(CancelBooking(booking_id, reason, uuid4()), request_id, fingerprint(request))


def record_payment(request: payment_pb2.RecordPaymentRequest) -> Change[RecordPayment]:
    read = Fields()
    kind = read.choice("kind", request.kind, payment_pb2.RecordPaymentRequest.Kind)
    refunded = kind == "REFUNDED"
    booking_id = read.uuid("booking_id", request.booking_id)
    provider = read.text("provider", request.provider, most=60)
    payment_id = read.text("payment_id", request.payment_id, most=128)
    amount = read.money(
        "amount", request.amount, present=request.HasField("amount"), low=1 if refunded else 0
    )
    refund_id = read.text("refund_id", request.refund_id, most=128) if refunded else ""
    failure_code = ""
    if kind == "FAILED":
        failure_code = read.text("failure_code", request.failure_code, most=60, required=False)
    request_id = read.optional_uuid("request_id", request.request_id)
    read.refuse_bad()
    command = RecordPayment(
        booking_id=booking_id,
        provider=provider,
        payment_id=payment_id,
        kind=PaymentKind(kind),
        amount=amount,
        refund_id=refund_id,
        failure_code=failure_code,
        payment_row_id=uuid4(),
        refund_row_id=uuid4(),
    )
    return Change(command, request_id, fingerprint(request))


def fingerprint(request: Message) -> bytes:
    """SHA-256 of a request's deterministic serialisation without its request_id."""
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()


def _quote(read: Fields, field: str, message: booking_pb2.Quote) -> Quote:
    price = read.money(f"{field}.price", message.price, present=message.HasField("price"))
    policy = None
    if message.HasField("cancellation_policy"):
        policy = packages.policy(read, f"{field}.cancellation_policy", message.cancellation_policy)
    return Quote(price, policy)
