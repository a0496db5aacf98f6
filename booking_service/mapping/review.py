"""Reviews, proto to domain and back.

Bounds are those that the comments of review.proto state; every bad field is named at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from booking_service.domain.commands import CreateReview
from booking_service.domain.etag import etag
from booking_service.domain.review import Review
from booking_service.mapping import paging
from booking_service.mapping.bounds import BYTES_PER_CHAR
from booking_service.mapping.command_request import CommandRequest, fingerprint, read_request_id
from booking_service.mapping.fields import Fields
from booking_service.mapping.scalars import timestamp
from booking_service.reads.keyset import Key, Page
from booking_service.reads.reviews import ReviewFilter
from protos.booking.v1 import review_pb2

MAX_RATING: Final = 5
MAX_BODY_CHARS: Final = 4000


@dataclass(frozen=True, slots=True)
class ReviewList:
    """One page of reviews."""

    wanted: ReviewFilter
    after: Key | None
    limit: int


def create_review(request: review_pb2.CreateReviewRequest) -> CommandRequest[CreateReview]:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    if request.rating == 0:
        read.bad("rating", "is required")
    rating = read.number("rating", request.rating, low=1, high=MAX_RATING)
    body = read.text(
        "body",
        request.body,
        most=MAX_BODY_CHARS,
        most_bytes=BYTES_PER_CHAR * MAX_BODY_CHARS,
        required=False,
    )
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = CreateReview(uuid4(), booking_id, rating, body)
    return CommandRequest(command, request_id, fingerprint(request))


def list_reviews(request: review_pb2.ListReviewsRequest) -> ReviewList:
    read = Fields()
    package_id = read.optional_uuid("package_id", request.package_id)
    user_id = read.text("user_id", request.user_id, most=128, required=False)
    if request.package_id and request.user_id:
        read.bad("user_id", "must not be set with package_id: exactly one of the two")
    elif not request.package_id and not request.user_id:
        read.bad("package_id", "is required, or user_id: exactly one of the two")
    min_rating = read.number("min_rating", request.min_rating, low=0, high=MAX_RATING)
    if request.min_rating and not request.package_id:
        read.bad("min_rating", "requires package_id")
    limit = paging.size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    wanted = ReviewFilter(package_id, user_id or None, min_rating)
    return ReviewList(wanted, paging.after(request, request.page_token), limit)


def review(value: Review) -> review_pb2.Review:
    return review_pb2.Review(
        id=str(value.id),
        booking_id=str(value.booking_id),
        package_id=str(value.package_id),
        user_id=value.user_id,
        rating=value.rating,
        body=value.body,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
    )


def reviews(
    request: review_pb2.ListReviewsRequest, page: Page[Review]
) -> review_pb2.ListReviewsResponse:
    return review_pb2.ListReviewsResponse(
        reviews=[review(each) for each in page.items],
        next_page_token=paging.next_token(request, page.next),
    )
