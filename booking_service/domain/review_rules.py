"""The rule of reviews: one for each stay that was paid for."""

from __future__ import annotations

from booking_service.domain.booking import State
from booking_service.domain.commands import CreateReview
from booking_service.domain.refusal import Reason, Refusal, already_exists, not_found
from booking_service.domain.review import Review
from booking_service.domain.world import Decision, Draft


def create_review(draft: Draft, command: CreateReview) -> Decision:
    booking = draft.booking(command.booking_id)
    if booking is None:
        return draft.decided(not_found("booking", command.booking_id))
    if booking.state not in (State.CONFIRMED, State.FULFILLED):
        return draft.decided(
            Refusal(
                Reason.NOT_ELIGIBLE,
                f"booking {booking.id} is {booking.state}: only a confirmed stay can be reviewed",
                {"state": str(booking.state), "booking_id": str(booking.id)},
            )
        )
    known = draft.review_of(booking.id)
    if known is not None:
        return draft.decided(already_exists("review", known.id))
    made = Review(
        id=command.review_id,
        booking_id=booking.id,
        package_id=booking.package_id,
        user_id=booking.user_id,
        rating=command.rating,
        body=command.body,
        version=1,
        create_time=draft.now,
        update_time=draft.now,
    )
    draft.changes.reviews[booking.id] = made
    return draft.decided(made)
