"""Proto to domain: each request that changes a booking becomes a command.

Bounds are those that the comments of booking.proto state. A bad request is refused as a whole, with
every bad field named, before anything is read from the database.
"""

from __future__ import annotations

from datetime import date
from uuid import uuid4, uuid5

from booking_service.domain.booking import MAX_STAY_DAYS
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    CompleteBooking,
    ConfirmBooking,
    ExtendHold,
    FailBooking,
    Quote,
    ReconcileInventory,
    RescheduleBooking,
    StartBatch,
    StartBooking,
)
from booking_service.mapping.bounds import (
    MAX_BATCH,
    MAX_BATCH_DAYS,
    MAX_ETAG,
    MAX_PARTY_SIZE,
    MAX_QUANTITY,
)
from booking_service.mapping.command_request import CommandRequest, fingerprint, read_request_id
from booking_service.mapping.dates import read_dates
from booking_service.mapping.fields import FIRST_DATE, Fields
from booking_service.mapping.policy import read_policy
from protos.booking.v1 import booking_pb2


def start_booking(
    request: booking_pb2.StartBookingRequest, session_id: str
) -> CommandRequest[StartBooking]:
    """`session_id` comes from the metadata of the call and is not part of the fingerprint."""
    read = Fields()
    command = _start(read, "", request, session_id)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(command, request_id, fingerprint(request), request.validate_only)


def start_batch(
    request: booking_pb2.BatchStartBookingsRequest, session_id: str
) -> CommandRequest[StartBatch]:
    """Translate a whole batch to one command."""
    read = Fields()
    fits = read.fits("requests", request.requests, most=MAX_BATCH, required=True)
    starts = []
    for n, each in enumerate(request.requests if fits else ()):
        starts.append(_start(read, f"requests[{n}].", each, session_id))
        if each.request_id:
            read.bad(f"requests[{n}].request_id", "must be unset: the batch has one")
        if each.validate_only:
            read.bad(f"requests[{n}].validate_only", "must be unset")
    days = sum((start.end_date - start.start_date).days for start in starts)
    if days > MAX_BATCH_DAYS:
        read.bad("requests", f"must have at most {MAX_BATCH_DAYS} days together, has {days}")
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(StartBatch(tuple(starts)), request_id, fingerprint(request))


def each_start(batch: CommandRequest[StartBatch]) -> list[CommandRequest[StartBooking]]:
    """Split a batch into its starts.

    Each has a request_id derived from the batch's, equal on every repeat, and the fingerprint of
    the whole batch, so that a repeat with other content is refused.
    """
    return [
        CommandRequest(
            start,
            None if batch.request_id is None else uuid5(batch.request_id, str(n)),
            batch.fingerprint,
        )
        for n, start in enumerate(batch.command.starts)
    ]


def extend_hold(request: booking_pb2.ExtendHoldRequest) -> CommandRequest[ExtendHold]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(ExtendHold(booking_id, etag), request_id, fingerprint(request))


def fail_booking(request: booking_pb2.FailBookingRequest) -> CommandRequest[FailBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    reason = read.code("reason", request.reason, most=60)
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(FailBooking(booking_id, reason, etag), request_id, fingerprint(request))


def complete_booking(
    request: booking_pb2.CompleteBookingRequest,
) -> CommandRequest[CompleteBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(CompleteBooking(booking_id, etag), request_id, fingerprint(request))


def confirm_booking(request: booking_pb2.ConfirmBookingRequest) -> CommandRequest[ConfirmBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    provider = read.text("provider", request.provider, most=60)
    payment_id = read.text("payment_id", request.payment_id, most=128)
    amount = read.money("amount", request.amount, present=request.HasField("amount"))
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = ConfirmBooking(
        booking_id=booking_id,
        provider=provider,
        payment_id=payment_id,
        amount=amount,
        payment_row_id=uuid4(),
        refund_row_id=uuid4(),
    )
    return CommandRequest(command, request_id, fingerprint(request))


def abandon_booking(request: booking_pb2.AbandonBookingRequest) -> CommandRequest[AbandonBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    reason = read.shown_text("reason", request.reason, required=False)
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return CommandRequest(
        AbandonBooking(booking_id, reason, etag), request_id, fingerprint(request)
    )


def cancel_booking(request: booking_pb2.CancelBookingRequest) -> CommandRequest[CancelBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    reason = read.shown_text("reason", request.reason, required=False)
    expected = None
    if request.HasField("expected_refund"):
        expected = read.money("expected_refund", request.expected_refund, present=True)
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = CancelBooking(booking_id, reason, uuid4(), expected, etag)
    return CommandRequest(command, request_id, fingerprint(request), request.validate_only)


def preview_cancellation(request: booking_pb2.PreviewCancellationRequest) -> CancelBooking:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    read.refuse_bad()
    return CancelBooking(booking_id, "", uuid4())


def reschedule_booking(
    request: booking_pb2.RescheduleBookingRequest,
) -> CommandRequest[RescheduleBooking]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    start_date, end_date = _stay(read, "", request)
    quote = _quote(read, "quote", request.quote) if request.HasField("quote") else None
    etag = read.text("etag", request.etag, most=MAX_ETAG, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = RescheduleBooking(booking_id, start_date, end_date, quote, uuid4(), etag)
    return CommandRequest(command, request_id, fingerprint(request), request.validate_only)


def reconcile_inventory(
    request: booking_pb2.ReconcileInventoryRequest,
) -> CommandRequest[ReconcileInventory]:
    read = Fields()
    package_id = read.uuid("package_id", request.package_id)
    start_date = read.day(
        "start_date", request.start_date, present=request.HasField("start_date"), required=False
    )
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = ReconcileInventory(package_id, request.repair, start_date or FIRST_DATE)
    return CommandRequest(command, request_id, fingerprint(request))


def _start(
    read: Fields, path: str, request: booking_pb2.StartBookingRequest, session_id: str
) -> StartBooking:
    """`path` is put before the name of each field."""
    package_id = read.uuid(f"{path}package_id", request.package_id)
    user_id = read.text(f"{path}user_id", request.user_id, most=128)
    start_date, end_date = _stay(read, path, request)
    quote = _quote(read, f"{path}quote", request.quote) if request.HasField("quote") else None
    return StartBooking(
        booking_id=read.optional_uuid(f"{path}booking_id", request.booking_id) or uuid4(),
        package_id=package_id,
        user_id=user_id,
        session_id=session_id,
        start_date=start_date,
        end_date=end_date,
        quantity=read.number(f"{path}quantity", request.quantity, low=1, high=MAX_QUANTITY, zero=1),
        party_size=read.number(
            f"{path}party_size", request.party_size, low=1, high=MAX_PARTY_SIZE, zero=1
        ),
        quote=quote,
    )


def _stay(
    read: Fields,
    path: str,
    request: booking_pb2.StartBookingRequest | booking_pb2.RescheduleBookingRequest,
) -> tuple[date, date]:
    start, end = read_dates(read, request, start_required=True, path=path)
    end_present = request.HasField("end_date")
    return read.day_range(
        f"{path}end_date", start, end, end_present=end_present, most=MAX_STAY_DAYS
    )


def _quote(read: Fields, field: str, message: booking_pb2.Quote) -> Quote:
    price = read.money(f"{field}.price", message.price, present=message.HasField("price"))
    policy = None
    if message.HasField("cancellation_policy"):
        policy = read_policy(read, f"{field}.cancellation_policy", message.cancellation_policy)
    return Quote(price, policy)
