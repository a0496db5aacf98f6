"""Every answer of booking.v1 stays below 1 MiB, with the longest of every text in it."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from booking_service.domain import money
from booking_service.domain.booking import MAX_STAY_DAYS
from booking_service.domain.recount import MAX_RECOUNTED_DAYS
from booking_service.mapping.bounds import MAX_BATCH, MAX_TEXT_BYTES
from booking_service.mapping.paging import MAX_PAGE_SIZE
from booking_service.mapping.payment import MAX_CLAIM
from booking_service.mapping.policy import MAX_TIERS
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from servicekit.handlers import MAX_MESSAGE_BYTES
from tests.booking.running_service import RunningService, running

CONTRACT: Final = (booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2)
ANSWERS: Final = {
    method.output_type.name: method.output_type
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

MOST: Final = {
    "ListBookingsResponse.bookings": MAX_PAGE_SIZE,
    "BatchGetBookingsResponse.bookings": MAX_BATCH,
    "BatchStartBookingsResponse.results": MAX_BATCH,
    "ListBookingEventsResponse.events": MAX_PAGE_SIZE,
    "RevenueReport.lines": len(money._EXPONENTS),
    "ReconcileInventoryResponse.drifts": MAX_RECOUNTED_DAYS,
    "SearchPackagesResponse.packages": MAX_PAGE_SIZE,
    "BatchGetPackagesResponse.packages": MAX_BATCH,
    "ListVendorsResponse.vendors": MAX_PAGE_SIZE,
    "ListVendorPackagesResponse.packages": MAX_PAGE_SIZE,
    "CheckAvailabilityResponse.days": MAX_STAY_DAYS,
    "CancellationPolicy.tiers": MAX_TIERS,
    "ListPaymentsResponse.payments": MAX_PAGE_SIZE,
    "ListFailedPaymentsResponse.payments": MAX_PAGE_SIZE,
    "ClaimFailedPaymentsResponse.payments": MAX_CLAIM,
    "ListRefundsResponse.refunds": MAX_PAGE_SIZE,
    "ClaimRefundsResponse.refunds": MAX_CLAIM,
}
"""How many elements each repeated field of an answer may have."""

SHOWN: Final = {"title", "name", "display_name", "reason", "end_reason"}
SHOWN_BYTES: Final = 800
STATUS_BYTES: Final = 8_192
"""Of an error in an answer: gRPC takes no more of one in its metadata."""


def largest(message: Descriptor | None) -> Any:
    """A message with as much in every field as the service puts there."""
    assert message is not None
    filled: Any = GetMessageClass(message)()
    if message.full_name == "google.rpc.Status":
        filled.message = "x" * STATUS_BYTES
        return filled
    for field in message.fields:
        if field.is_repeated:
            count = MOST[f"{message.name}.{field.name}"]
            getattr(filled, field.name).extend([largest(field.message_type)] * count)
        elif field.message_type:
            getattr(filled, field.name).CopyFrom(largest(field.message_type))
        elif field.type == FieldDescriptor.TYPE_STRING:
            most = SHOWN_BYTES if field.name in SHOWN else MAX_TEXT_BYTES
            setattr(filled, field.name, "x" * most)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            setattr(filled, field.name, 1)
        elif field.type == FieldDescriptor.TYPE_BOOL:
            setattr(filled, field.name, True)
        elif field.type == FieldDescriptor.TYPE_INT64:
            setattr(filled, field.name, 2**62)
        else:
            setattr(filled, field.name, 2**31 - 1)
    return filled


CUT: Final = {"ListReviewsResponse", "ListPackageEventsResponse"}
"""Answers whose pages are cut by their bytes."""


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - CUT))
def test_the_largest_answer_is_below_what_a_client_reads(name: str) -> None:
    assert largest(ANSWERS[name]).ByteSize() < MAX_MESSAGE_BYTES


async def test_a_page_of_long_reviews_is_cut_and_goes_on(booking_dsn: str) -> None:
    body = "\U0001f3e8" * 4000
    async with running(booking_dsn) as service:
        written = await _reviewed(service, body, count=60)
        seen: list[str] = []
        token, pages = "", 0
        while token or not pages:
            answer = await service.review.ListReviews(
                review_pb2.ListReviewsRequest(user_id="ana", page_size=200, page_token=token)
            )
            assert answer.ByteSize() < MAX_MESSAGE_BYTES
            assert all(each.body == body for each in answer.reviews)
            seen += [each.id for each in answer.reviews]
            token, pages = answer.next_page_token, pages + 1
    assert pages == 2
    assert sorted(seen) == sorted(written)


async def _reviewed(service: RunningService, body: str, *, count: int) -> list[str]:
    """Reviews by one user of `count` bookings."""
    ids = []
    for _ in range(count // 20):
        package = await service.package(capacity=20)
        for _ in range(20):
            booking = await service.confirmed(package.id)
            review = await service.review.CreateReview(
                review_pb2.CreateReviewRequest(booking_id=booking.id, rating=5, body=body)
            )
            assert UUID(review.id)
            ids.append(review.id)
    return ids
