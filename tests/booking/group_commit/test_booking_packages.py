"""Finding the package of a booking takes the same work however many bookings are remembered."""

from __future__ import annotations

from uuid import UUID

from booking_service.domain.commands import CompleteBooking
from booking_service.domain.refusal import Reason
from booking_service.group_commit.booking_packages import BookingPackages, Place
from booking_service.group_commit.rooms import Rooms
from booking_service.group_commit.submission import Submission
from booking_service.storage.database import Database
from tests.booking.group_commit.harness import Harness

REMEMBERED = 100_000
PACKAGE = UUID(int=1)


class CountedId(UUID):
    """A booking id that counts how often any such id is hashed or compared."""

    operations = 0

    def __hash__(self) -> int:
        CountedId.operations += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        CountedId.operations += 1
        return super().__eq__(other)


def asked(booking_id: UUID) -> Submission:
    return Submission(CompleteBooking(booking_id), "test", None, b"")


async def test_a_look_up_does_not_walk_what_is_remembered() -> None:
    packages = BookingPackages(Database("postgresql://unused"), Rooms(), max_remembered=REMEMBERED)
    packages.remember({CountedId(int=number): Place(PACKAGE, 1) for number in range(REMEMBERED)})
    group = [asked(CountedId(int=number)) for number in (0, 7, REMEMBERED - 1)]
    CountedId.operations = 0
    assert await packages.resolve(group) == {}
    assert CountedId.operations <= 10 * len(group)
    assert {submission.package_ids for submission in group} == {frozenset({PACKAGE})}


async def test_only_the_latest_bookings_are_remembered_and_others_are_read(
    harness: Harness,
) -> None:
    package_id = await harness.package(capacity=3)
    booked = [await harness.start(package_id) for _ in range(3)]
    packages = BookingPackages(harness.database, Rooms(), max_remembered=2)
    packages.remember({booking.id: Place(PACKAGE, 1) for booking in booked})
    forgotten, kept = asked(booked[0].id), asked(booked[2].id)
    unknown = asked(UUID(int=0))
    refusals = await packages.resolve([forgotten, kept, unknown])
    assert forgotten.package_ids == {package_id}
    assert kept.package_ids == {PACKAGE}
    assert {submission: refusal.reason for submission, refusal in refusals.items()} == {
        unknown: Reason.NOT_FOUND
    }
