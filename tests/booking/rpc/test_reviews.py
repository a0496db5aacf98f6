"""ReviewService over a real channel and a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import grpc

from protos.booking.v1 import booking_pb2, review_pb2
from tests.booking.running_service import NOON, RunningService, refusal_of

Create = review_pb2.CreateReviewRequest
List = review_pb2.ListReviewsRequest
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

# A booking has one review, so each review needs another booking.
ADD = """
WITH copied AS (
    INSERT INTO bookings
    SELECT (jsonb_populate_record(b, jsonb_build_object('id', gen_random_uuid()))).*
    FROM bookings AS b, generate_series(1, $2) WHERE b.id = $1
    RETURNING id, package_id, user_id
)

INSERT INTO reviews (
    id, booking_id, package_id, user_id, rating, body, version, create_time, update_time
)
SELECT gen_random_uuid(), id, package_id, user_id, $3, '', 1, $4, $4 FROM copied
"""


async def add_reviews(dsn: str, booking_id: str, rows: int, rating: int, seconds: int = 0) -> None:
    """Reviews of one instant, of bookings like another."""
    connection = await asyncpg.connect(dsn)
    try:
        time = NOON + timedelta(seconds=seconds)
        await connection.execute(ADD, UUID(booking_id), rows, rating, time)
    finally:
        await connection.close()


async def pages(service: RunningService, size: int, **fields: object) -> list[review_pb2.Review]:
    """Every review of a list, read page by page."""
    seen: list[review_pb2.Review] = []
    token = ""
    for _ in range(50):
        request = List(page_size=size, page_token=token, **fields)  # type: ignore[arg-type] # shorthand
        answer = await service.review.ListReviews(request)
        assert len(answer.reviews) <= size
        seen += answer.reviews
        token = answer.next_page_token
        if not token:
            return seen
    raise AssertionError("the list does not end")


async def test_a_review_names_its_booking_package_and_user(booking: RunningService) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id, user_id="ana")
    review = await booking.review.CreateReview(
        Create(booking_id=stayed.id, rating=4, body="Quiet, ☕ good")
    )
    assert (review.booking_id, review.package_id) == (stayed.id, package.id)
    assert (review.user_id, review.rating, review.body) == ("ana", 4, "Quiet, ☕ good")
    assert review.id
    assert review.etag
    assert review.create_time == review.update_time
    for wanted in (List(package_id=package.id), List(user_id="ana")):
        assert list((await booking.review.ListReviews(wanted)).reviews) == [review]
    assert not (await booking.review.ListReviews(List(user_id="ben"))).reviews
    assert not (await booking.review.ListReviews(List(package_id=str(uuid4())))).reviews


async def test_only_a_stay_that_was_paid_for_can_be_reviewed(booking: RunningService) -> None:
    package = await booking.package()
    held = await booking.held(package.id)
    pending = await booking.completed(package.id)
    cancelled = await booking.confirmed(package.id)
    await booking.booking.CancelBooking(booking_pb2.CancelBookingRequest(booking_id=cancelled.id))
    for each, state in ((held, "HELD"), (pending, "PENDING_PAYMENT"), (cancelled, "CANCELLED")):
        refusal = await refusal_of(
            booking.review.CreateReview(Create(booking_id=each.id, rating=5))
        )
        assert (refusal.code, refusal.reason) == (PRECONDITION, "NOT_ELIGIBLE")
        assert refusal.metadata["state"] == state
        assert refusal.resource == ("booking", each.id)


async def test_a_stay_that_is_over_can_be_reviewed(booking: RunningService) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id)
    booking.clock.advance(timedelta(days=120))
    await booking.server.sweeper.sweep()
    found = await booking.booking.GetBooking(booking_pb2.GetBookingRequest(booking_id=stayed.id))
    assert found.state == booking_pb2.Booking.FULFILLED
    review = await booking.review.CreateReview(Create(booking_id=stayed.id, rating=1))
    assert review.rating == 1


async def test_a_booking_is_reviewed_once_however_many_ask(booking: RunningService) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id)
    outcomes = await asyncio.gather(
        *(
            booking.review.CreateReview(Create(booking_id=stayed.id, rating=1 + n % 5))
            for n in range(10)
        ),
        return_exceptions=True,
    )
    (review,) = [each for each in outcomes if isinstance(each, review_pb2.Review)]
    refusal = await refusal_of(booking.review.CreateReview(Create(booking_id=stayed.id, rating=2)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.resource == ("review", review.id)
    answer = await booking.review.ListReviews(List(package_id=package.id))
    assert list(answer.reviews) == [review]


async def test_reviews_of_one_instant_are_each_listed_once(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id)
    await add_reviews(booking_dsn, stayed.id, 25, 3)
    for wanted in ({"package_id": package.id}, {"user_id": "ana"}):
        seen = await pages(booking, 10, **wanted)
        assert len({review.id for review in seen}) == len(seen) == 25


async def test_reviews_are_listed_newest_first(booking: RunningService, booking_dsn: str) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id)
    for seconds, rating in ((2, 1), (0, 5), (1, 3)):
        await add_reviews(booking_dsn, stayed.id, 2, rating, seconds)
    for wanted in ({"package_id": package.id}, {"user_id": "ana"}):
        seen = await pages(booking, 4, **wanted)
        assert [review.rating for review in seen] == [1, 1, 3, 3, 5, 5]


async def test_reviews_of_a_package_are_found_by_their_rating(
    booking: RunningService, booking_dsn: str
) -> None:
    package, other = await booking.package(), await booking.package()
    for each in (package, other):
        stayed = await booking.confirmed(each.id)
        for rating in range(1, 6):
            await add_reviews(booking_dsn, stayed.id, 2, rating, rating)
    seen = await pages(booking, 3, package_id=package.id, min_rating=4)
    assert [review.rating for review in seen] == [5, 5, 4, 4]
    assert {review.package_id for review in seen} == {package.id}


async def test_a_token_of_another_rating_is_refused(
    booking: RunningService, booking_dsn: str
) -> None:
    package = await booking.package()
    stayed = await booking.confirmed(package.id)
    await add_reviews(booking_dsn, stayed.id, 3, 5)
    answer = await booking.review.ListReviews(List(package_id=package.id, page_size=2))
    request = List(package_id=package.id, min_rating=2, page_token=answer.next_page_token)
    refusal = await refusal_of(booking.review.ListReviews(request))
    assert (refusal.reason, refusal.fields) == ("PAGE_TOKEN_INVALID", {"page_token"})
