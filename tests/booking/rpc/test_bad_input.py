"""Every field of every request: a missing, malformed or out-of-range one is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from servicekit.handlers import MAX_REQUEST_BYTES
from tests.booking.rpc import bad_bookings, bad_catalog, bad_payments, bad_reviews, bad_stays
from tests.booking.rpc.bad_catalog import capacity, run
from tests.booking.running_service import RunningService, refusal_of, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

ID = str(uuid4())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_service(shared_dsn: str) -> AsyncIterator[RunningService]:
    async with running(shared_dsn) as service:
        yield service


def rpc_of(running_service: RunningService, request: Message) -> Any:
    """The method that takes a request, found by its name."""
    method = type(request).__name__.removesuffix("Request")
    for stub in (
        running_service.catalog,
        running_service.booking,
        running_service.payment,
        running_service.review,
        running_service.profile,
    ):
        if hasattr(stub, method):
            return getattr(stub, method)
    raise AssertionError(method)


BAD_UUIDS = {
    "not a UUID": "42",
    "without dashes": ID.replace("-", ""),
    "upper case": ID.upper() if ID.upper() != ID else "A" + ID[1:],
    "in braces": f"{{{ID}}}",
    "with a space": f"{ID} ",
    "as a URN": f"urn:uuid:{ID}",
}
BAD_DATES = {
    "30 February": Date(year=2026, month=2, day=30),
    "month 13": Date(year=2026, month=13, day=1),
    "no day": Date(year=2026, month=6),
    "no year": Date(month=6, day=1),
    "nothing": Date(),
    "negative": Date(year=-1, month=1, day=1),
    "beyond what an integer holds": Date(year=2**31 - 1, month=1, day=1),
    "1899": Date(year=1899, month=12, day=31),
    "3000": Date(year=3000, month=1, day=1),
    "29 February of a common year": Date(year=2027, month=2, day=29),
}
BAD_MONEY = {
    "no currency": (Money(units=1), ".currency_code"),
    "lower case": (Money(currency_code="eur", units=1), ".currency_code"),
    "no such currency": (Money(currency_code="QQQ", units=1), ".currency_code"),
    "four letters": (Money(currency_code="EURO", units=1), ".currency_code"),
    "nanos of a yen": (Money(currency_code="JPY", units=1, nanos=10_000_000), ".nanos"),
    "a tenth of a cent": (Money(currency_code="EUR", units=1, nanos=1_000_000), ".nanos"),
    "a tenth of a fils": (Money(currency_code="KWD", units=1, nanos=100_000), ".nanos"),
    "a billion nanos": (Money(currency_code="EUR", nanos=1_000_000_000), ".nanos"),
    "signs that differ": (Money(currency_code="EUR", units=1, nanos=-10_000_000), ".nanos"),
    "negative units": (Money(currency_code="EUR", units=-1), ""),
    "negative nanos": (Money(currency_code="EUR", nanos=-10_000_000), ""),
    "more than 64 bits of cents": (Money(currency_code="EUR", units=2**63 - 1), ""),
    "above the maximum": (Money(currency_code="EUR", units=10**12, nanos=10_000_000), ""),
}


BAD = (bad_stays, bad_catalog, bad_bookings, bad_payments, bad_reviews)

CASES = [case for module in BAD for case in module.CASES]

UUID_FIELDS = [case for module in BAD for case in module.UUID_FIELDS]

DATE_FIELDS = [case for module in BAD for case in module.DATE_FIELDS]

MONEY_FIELDS = [case for module in BAD for case in module.MONEY_FIELDS]


def with_field(request: Message, path: str, value: Any) -> Message:
    """A copy with one field replaced, by its path in violations."""
    changed = type(request)()
    changed.CopyFrom(request)
    owner: Any = changed
    *parents, name = path.split(".")
    for parent in parents:
        field, _, index = parent.partition("[")
        owner = getattr(owner, field)
        owner = owner[int(index.rstrip("]"))] if index else owner
    if isinstance(value, Message):
        getattr(owner, name).CopyFrom(value)
    else:
        setattr(owner, name, value)
    return changed


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        pytest.param(request, fields, id=f"{type(request).__name__}-{what}")
        for what, request, fields in CASES
    ],
)
async def test_exactly_the_bad_fields_are_named(
    running_service: RunningService, request_: Message, fields: set[str]
) -> None:
    refusal = await refusal_of(rpc_of(running_service, request_)(request_))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_ARGUMENT"
    assert refusal.fields == fields


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in UUID_FIELDS],
)
async def test_an_id_is_a_uuid_in_canonical_form(
    running_service: RunningService, request_: Message, field: str
) -> None:
    for what, text in BAD_UUIDS.items():
        refusal = await refusal_of(
            rpc_of(running_service, request_)(with_field(request_, field, text))
        )
        assert (what, refusal.fields) == (what, {field})


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in DATE_FIELDS],
)
async def test_a_date_is_a_day_of_the_calendar(
    running_service: RunningService, request_: Message, field: str
) -> None:
    for what, date in BAD_DATES.items():
        refusal = await refusal_of(
            rpc_of(running_service, request_)(with_field(request_, field, date))
        )
        assert (what, refusal.fields) == (what, {field})


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in MONEY_FIELDS],
)
async def test_an_amount_is_exact_in_its_currency(
    running_service: RunningService, request_: Message, field: str
) -> None:
    for what, (amount, part) in BAD_MONEY.items():
        refusal = await refusal_of(
            rpc_of(running_service, request_)(with_field(request_, field, amount))
        )
        assert (what, refusal.fields) == (what, {f"{field}{part}"})


async def test_a_refusal_too_large_for_a_trailer_is_cut_and_marked(
    running_service: RunningService,
) -> None:
    """GRPC drops an answer with metadata beyond 8 kB, and the caller would not see the reason."""
    bad = [run(Date(year=2026, month=13, day=1), units=-1) for _ in range(3660)]
    refusal = await refusal_of(running_service.catalog.SetCapacity(capacity(*bad)))
    assert refusal.reason == "INVALID_ARGUMENT"
    assert {"ranges[0].start_date", "ranges[0].capacity", "..."} <= refusal.fields


async def test_a_request_larger_than_every_legal_one_is_refused_unread(
    running_service: RunningService,
) -> None:
    states = [booking_pb2.Booking.HELD] * MAX_REQUEST_BYTES
    refusal = await refusal_of(
        running_service.booking.ListBookings(booking_pb2.ListBookingsRequest(states=states))
    )
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MESSAGE_TOO_LARGE",
    )


async def test_every_rpc_of_the_contract_has_bad_input_here() -> None:
    served = {
        method.input_type.full_name
        for file in (catalog_pb2, booking_pb2, payment_pb2, review_pb2, profile_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {request.DESCRIPTOR.full_name for _, request, _ in CASES} == served
