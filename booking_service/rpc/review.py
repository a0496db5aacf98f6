"""booking.v1.ReviewService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any

import grpc

from booking_service.domain.review import Review
from booking_service.mapping import review
from booking_service.reads.reviews import ReviewQueries
from booking_service.rpc.command_gateway import CommandGateway
from protos.booking.v1 import review_pb2, review_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ReviewService(review_pb2_grpc.ReviewServiceServicer):
    """Reviews of stays."""

    def __init__(self, gateway: CommandGateway, reviews: ReviewQueries) -> None:
        self._gateway = gateway
        self._reviews = reviews

    async def CreateReview(
        self, request: review_pb2.CreateReviewRequest, context: Context
    ) -> review_pb2.Review:
        change = review.create_review(request)
        return review.review(await self._gateway.carry_out(change, Review))

    async def ListReviews(
        self, request: review_pb2.ListReviewsRequest, context: Context
    ) -> review_pb2.ListReviewsResponse:
        listed = review.list_reviews(request)
        page = await self._reviews.list(listed.wanted, after=listed.after, limit=listed.limit)
        return review.reviews(request, page)
