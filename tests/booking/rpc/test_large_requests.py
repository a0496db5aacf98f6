"""The largest content of every field of every request is refused after a bounded amount of work.

Work is counted in calls, of Python and of C functions, so that the machine does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from booking_service.mapping.bounds import MAX_CHOICES
from booking_service.mapping.fields import MAX_VIOLATIONS, Fields
from booking_service.mapping.known_names import time_zones
from booking_service.rpc.booking import BookingService
from booking_service.rpc.catalog import CatalogService
from booking_service.rpc.command_gateway import CommandGateway
from booking_service.rpc.payment import PaymentService
from booking_service.rpc.profile import ProfileService
from booking_service.rpc.review import ReviewService
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from servicekit.errors import ApiError, Violation
from servicekit.handlers import MAX_REQUEST_BYTES
from tests.booking.rpc import bad_catalog, bad_payments, bad_reviews, bad_stays
from tests.booking.rpc.large_requests import GOOD, ID, IGNORED, Attack, attacks
from tests.booking.running_service import after, euro, start_of

MAX_CALLS: Final = 2_000
"""Of a request with one element in each list, whatever the field under attack holds."""

CALLS_PER_ELEMENT: Final = 40
HELD: Final = booking_pb2.Booking.HELD

ATTACKS: Final = tuple(attacks())
CONTRACT: Final = (booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2)


class AcceptedError(Exception):
    """The request was read and would be carried out."""


class Accepting:
    """In place of the command bus and of every read: to be called at all is to be accepted."""

    def __getattr__(self, name: str) -> Any:
        async def accept(*_: object, **__: object) -> None:
            raise AcceptedError

        return accept


class TooMuchWorkError(Exception):
    """More calls than allowed."""


@contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Raise TooMuchWorkError in the block once it has made more than `calls` calls."""
    made = 0

    def count(_: FrameType, event: str, __: object) -> None:
        nonlocal made
        if event in ("call", "c_call"):
            made += 1
            if made > calls:
                sys.setprofile(None)
                raise TooMuchWorkError(calls)

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


def servicers() -> dict[str, Any]:
    """Each servicer by the name of its service, over nothing."""
    any_: Any = Accepting()
    gateway = CommandGateway(any_)
    made = (
        BookingService(gateway, any_, any_, any_),
        CatalogService(gateway, any_, any_, any_, any_),
        PaymentService(gateway, any_, any_),
        ReviewService(gateway, any_),
        ProfileService(gateway, any_, any_),
    )
    return {type(each).__name__: each for each in made}


async def read(request: Message) -> None:
    """Let each RPC that takes this request read it. Raises ApiError or AcceptedError."""
    served = servicers()
    methods = [
        method
        for file in CONTRACT
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.input_type.full_name == request.DESCRIPTOR.full_name
    ]
    for method in methods[:1]:
        context: Any = None
        await getattr(served[method.containing_service.name], method.name)(request, context)


@pytest.mark.parametrize("request_", GOOD, ids=lambda each: each.DESCRIPTOR.name)
async def test_the_request_around_each_attack_is_good(request_: Message) -> None:
    with pytest.raises((AcceptedError, RuntimeError)) as caught:
        await read(request_)
    # A change is carried out in the name of its caller, and there is none here.
    assert caught.type is AcceptedError or "no RPC is being served" in str(caught.value)


def test_every_request_of_the_contract_is_attacked() -> None:
    served = {
        method.input_type.full_name
        for file in CONTRACT
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {request.DESCRIPTOR.full_name for request in GOOD} == served
    assert all(attack.request.ByteSize() < MAX_REQUEST_BYTES for attack in ATTACKS)
    assert len(ATTACKS) > 200


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
async def test_a_field_of_the_largest_size_costs_little_and_is_named(attack: Attack) -> None:
    time_zones()  # They are read from files once.
    with pytest.raises((ApiError, AcceptedError, RuntimeError)) as caught, at_most(MAX_CALLS):
        await read(attack.request)
    if isinstance(caught.value, ApiError):
        assert caught.value.spec.code.name == "INVALID_ARGUMENT"
        named = [each.field for each in caught.value.violations]
        # A currency and a user may also disagree with another field.
        assert attack.field in named
        assert len(named) <= 2
    else:
        assert attack.field in IGNORED.get(attack.name, ()), f"{attack} is accepted"


DAYS: Final = [bad_catalog.run(after(n)) for n in range(3660)]
BAD_DAYS: Final = [bad_catalog.run(Date(year=2026, month=13), units=-1)] * 3660
TIERS: Final = bad_catalog.policy(
    *(catalog_pb2.CancellationPolicy.Tier(before=Duration(seconds=n)) for n in range(10))
)
LONG: Final = start_of(
    ID,
    user_id="\u00e9" * 128,
    booking_id=ID,
    quote=booking_pb2.Quote(price=euro(1), cancellation_policy=TIERS),
)
BAD_TIERS: Final = bad_catalog.policy(
    *[catalog_pb2.CancellationPolicy.Tier(before=Duration(nanos=1), refund_basis_points=-1)] * 10
)
BAD_LONG: Final = start_of("1", quote=booking_pb2.Quote(cancellation_policy=BAD_TIERS))


@pytest.mark.parametrize(
    ("request_", "elements"),
    [
        pytest.param(bad_catalog.capacity(*DAYS), 3660, id="days"),
        pytest.param(bad_catalog.capacity(*BAD_DAYS), 3660, id="bad days"),
        pytest.param(bad_stays.Batch(requests=[LONG] * 100, all_or_nothing=True), 1000, id="tiers"),
        pytest.param(bad_stays.Batch(requests=[BAD_LONG] * 100), 1000, id="bad tiers"),
    ],
)
async def test_the_largest_lists_cost_a_fixed_amount_for_each_element(
    request_: Message, elements: int
) -> None:
    assert request_.ByteSize() < MAX_REQUEST_BYTES
    with pytest.raises((ApiError, RuntimeError)), at_most(elements * CALLS_PER_ELEMENT):
        await read(request_)


async def test_only_violations_that_are_sent_are_kept() -> None:
    read_ = Fields()
    for n in range(MAX_VIOLATIONS + 1000):
        read_.bad(f"ranges[{n}]", "is wrong")
    with pytest.raises(ApiError) as caught:
        read_.refuse_bad()
    assert len(read_._violations) == MAX_VIOLATIONS
    assert caught.value.violations[-1] == Violation("...", "and 1000 more")
    assert "(and 1039 more)" in caught.value.message


@pytest.mark.parametrize(
    ("request_", "field", "character", "most"),
    [
        (start_of(ID), "user_id", "\u20ac", 85),
        (start_of(ID), "user_id", "\u00e9", 128),
        (start_of(ID), "request_id", "\u00e9", 128),
        (bad_catalog.creation(), "package.location", "\u20ac", 85),
        (bad_catalog.creation(), "package.title", "\U0001f3e8", 200),
        (bad_catalog.vendor_of(), "vendor.name", "\U0001f3e8", 200),
        (bad_payments.recorded(), "payment_id", "\u20ac", 85),
        (bad_payments.refunding(), "reason", "\U0001f3e8", 200),
        (bad_reviews.reviewing(), "body", "\U0001f3e8", 4000),
    ],
)
async def test_a_text_is_bounded_in_bytes(
    request_: Message, field: str, character: str, most: int
) -> None:
    with pytest.raises((AcceptedError, RuntimeError)):
        await read(_with_text(request_, field, character * most))
    with pytest.raises(ApiError) as caught:
        await read(_with_text(request_, field, character * (most + 1)))
    assert [each.field for each in caught.value.violations] == [field]


async def test_as_many_enum_values_as_there_may_be_are_read() -> None:
    with pytest.raises(AcceptedError):
        await read(booking_pb2.ListBookingsRequest(states=[HELD] * MAX_CHOICES))
    with pytest.raises(ApiError) as caught:
        await read(booking_pb2.ListBookingsRequest(states=[HELD] * (MAX_CHOICES + 1)))
    assert [each.field for each in caught.value.violations] == ["states"]


def _with_text(request: Message, path: str, text: str) -> Message:
    changed = type(request)()
    changed.CopyFrom(request)
    owner: Any = changed
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, text)
    return changed
