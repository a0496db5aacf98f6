"""Every field of every request: what is missing, malformed or out of range is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from tests.booking.rpc import bad_stays
from tests.booking.running_service import (
    Shell,
    after,
    confirm_of,
    euro,
    package_of,
    refusal_of,
    running,
    start_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ID = str(uuid4())
Tier = catalog_pb2.CancellationPolicy.Tier
Claim = payment_pb2.ClaimFailedPaymentsRequest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shell(shared_dsn: str) -> AsyncIterator[Shell]:
    async with running(shared_dsn) as service:
        yield service


def rpc_of(shell: Shell, request: Message) -> Any:
    """The method that takes a request, which has its name."""
    method = type(request).__name__.removesuffix("Request")
    for stub in (shell.catalog, shell.booking, shell.payment, shell.review, shell.profile):
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


def vendor_of(**fields: Any) -> catalog_pb2.CreateVendorRequest:
    good: dict[str, Any] = {"vendor": catalog_pb2.Vendor(name="Costa Tours")}
    return catalog_pb2.CreateVendorRequest(**(good | fields))


def creation(**fields: Any) -> catalog_pb2.CreatePackageRequest:
    return catalog_pb2.CreatePackageRequest(package=package_of(ID, **fields))


def policy(*tiers: catalog_pb2.CancellationPolicy.Tier) -> catalog_pb2.CancellationPolicy:
    return catalog_pb2.CancellationPolicy(tiers=tiers)


def capacity(*ranges: catalog_pb2.CapacityRange, **fields: Any) -> catalog_pb2.SetCapacityRequest:
    good: dict[str, Any] = {"package_id": ID, "ranges": ranges}
    return catalog_pb2.SetCapacityRequest(**(good | fields))


def run(start: Date | None = None, end: Date | None = None, units: int = 1) -> Any:
    return catalog_pb2.CapacityRange(start_date=start, end_date=end, capacity=units)


def refunding(**fields: Any) -> payment_pb2.RefundPaymentRequest:
    good: dict[str, Any] = {"id": ID, "amount": euro(100)}
    return payment_pb2.RefundPaymentRequest(**(good | fields))


def reviewing(**fields: Any) -> review_pb2.CreateReviewRequest:
    good: dict[str, Any] = {"booking_id": ID, "rating": 5}
    return review_pb2.CreateReviewRequest(**(good | fields))


def profiled(**fields: Any) -> profile_pb2.UpdateUserProfileRequest:
    good: dict[str, Any] = {"user_id": "ana", "display_name": "Ana"}
    return profile_pb2.UpdateUserProfileRequest(profile=profile_pb2.UserProfile(**(good | fields)))


def confirmation(**fields: Any) -> booking_pb2.ConfirmBookingRequest:
    return confirm_of(booking_pb2.Booking(id=ID, price=euro(100)), **fields)


def recorded(**fields: Any) -> payment_pb2.RecordPaymentRequest:
    good: dict[str, Any] = {
        "booking_id": ID,
        "provider": "stripe",
        "payment_id": "pay-1",
        "kind": payment_pb2.RecordPaymentRequest.CAPTURED,
        "amount": euro(100),
    }
    return payment_pb2.RecordPaymentRequest(**(good | fields))


def available(**fields: Any) -> catalog_pb2.CheckAvailabilityRequest:
    good: dict[str, Any] = {"package_id": ID, "start_date": after(0)}
    return catalog_pb2.CheckAvailabilityRequest(**(good | fields))


Search = catalog_pb2.SearchPackagesRequest
Listing = booking_pb2.ListBookingsRequest
REFUNDED = payment_pb2.RecordPaymentRequest.REFUNDED
FAILED = payment_pb2.RecordPaymentRequest.FAILED

CASES: list[tuple[str, Message, set[str]]] = [
    *bad_stays.CASES,
    ("no vendor", catalog_pb2.CreateVendorRequest(), {"vendor"}),
    ("no name", vendor_of(vendor=catalog_pb2.Vendor()), {"vendor.name"}),
    ("long name", vendor_of(vendor=catalog_pb2.Vendor(name="x" * 201)), {"vendor.name"}),
    ("NUL in a name", vendor_of(vendor=catalog_pb2.Vendor(name="a\0b")), {"vendor.name"}),
    ("no package", catalog_pb2.CreatePackageRequest(), {"package"}),
    (
        "an empty package",
        catalog_pb2.CreatePackageRequest(package=catalog_pb2.Package(), request_id="x"),
        {
            "request_id",
            "package.vendor_id",
            "package.title",
            "package.type",
            "package.location",
            "package.time_zone",
            "package.base_price",
        },
    ),
    ("long title", creation(title="x" * 201), {"package.title"}),
    ("long type", creation(type="x" * 61), {"package.type"}),
    ("long location", creation(location="x" * 121), {"package.location"}),
    ("no such zone", creation(time_zone="Europe/Atlantis"), {"package.time_zone"}),
    ("an offset", creation(time_zone="+02:00"), {"package.time_zone"}),
    ("a path", creation(time_zone="../../etc/passwd"), {"package.time_zone"}),
    ("a zone's folder", creation(time_zone="Europe"), {"package.time_zone"}),
    ("the machine's zone", creation(time_zone="localtime"), {"package.time_zone"}),
    ("status 7", creation(status=7), {"package.status"}),
    ("pricing 9", creation(pricing=9), {"package.pricing"}),
    (
        "an empty window",
        creation(bookable_from=after(1), bookable_until=after(1)),
        {"package.bookable_until"},
    ),
    ("party of -1", creation(min_party_size=-1), {"package.min_party_size"}),
    ("party of 1001", creation(max_party_size=1001), {"package.max_party_size"}),
    (
        "largest below smallest",
        creation(min_party_size=5, max_party_size=4),
        {"package.max_party_size"},
    ),
    ("negative cutoff", creation(cutoff=Duration(seconds=-1)), {"package.cutoff"}),
    ("long cutoff", creation(cutoff=Duration(seconds=365 * 86400 + 1)), {"package.cutoff"}),
    ("half a second", creation(cutoff=Duration(nanos=500_000_000)), {"package.cutoff.nanos"}),
    ("short hold", creation(hold_ttl=Duration(seconds=59)), {"package.hold_ttl"}),
    ("hold of no time", creation(hold_ttl=Duration()), {"package.hold_ttl"}),
    ("long hold", creation(hold_ttl=Duration(seconds=86401)), {"package.hold_ttl"}),
    ("hold of ages", creation(hold_ttl=Duration(seconds=2**62)), {"package.hold_ttl"}),
    (
        "eleven tiers",
        creation(
            cancellation_policy=policy(*(Tier(before=Duration(seconds=n)) for n in range(11)))
        ),
        {"package.cancellation_policy.tiers"},
    ),
    (
        "bad tiers",
        creation(
            cancellation_policy=policy(
                Tier(before=Duration(seconds=5), refund_basis_points=10_001),
                Tier(before=Duration(seconds=5), refund_basis_points=-1),
                Tier(before=Duration(seconds=366 * 86400 + 1)),
            )
        ),
        {
            "package.cancellation_policy.tiers[0].refund_basis_points",
            "package.cancellation_policy.tiers[1].refund_basis_points",
            "package.cancellation_policy.tiers[1].before",
            "package.cancellation_policy.tiers[2].before",
        },
    ),
    ("no package id and no range", catalog_pb2.SetCapacityRequest(), {"package_id", "ranges"}),
    ("no start", capacity(run()), {"ranges[0].start_date"}),
    ("end is the start", capacity(run(after(0), after(0))), {"ranges[0].end_date"}),
    ("end before the start", capacity(run(after(3), after(1))), {"ranges[0].end_date"}),
    ("negative capacity", capacity(run(after(0), units=-1)), {"ranges[0].capacity"}),
    ("huge capacity", capacity(run(after(0), units=1_000_001)), {"ranges[0].capacity"}),
    ("3661 days", capacity(run(after(0), after(3661))), {"ranges[0].end_date"}),
    (
        "3661 days together",
        capacity(run(after(0), after(3660)), run(after(3660))),
        {"ranges"},
    ),
    ("3661 ranges", capacity(*(run(after(n)) for n in range(3661))), {"ranges"}),
    (
        "overlaps, in any order",
        capacity(run(after(5)), run(after(0), after(9)), run(after(8)), run(after(9))),
        {"ranges[0].start_date", "ranges[2].start_date"},
    ),
    (
        "several ranges",
        capacity(run(after(0)), run(after(5), after(4)), run(Date(year=2026, month=9, day=31))),
        {"ranges[1].end_date", "ranges[2].start_date"},
    ),
    ("no id", catalog_pb2.GetPackageRequest(), {"package_id"}),
    ("long place", Search(location="x" * 121), {"location"}),
    ("long type", Search(type="x" * 61), {"type"}),
    ("end alone", Search(end_date=after(1)), {"start_date"}),
    ("367 days", Search(start_date=after(0), end_date=after(367)), {"end_date"}),
    ("no days", Search(start_date=after(1), end_date=after(1)), {"end_date"}),
    ("units without dates", Search(quantity=2), {"quantity"}),
    ("101 units", Search(start_date=after(0), quantity=101), {"quantity"}),
    ("-1 units", Search(start_date=after(0), quantity=-1), {"quantity"}),
    ("party of -1", Search(party_size=-1), {"party_size"}),
    ("party of 1001", Search(party_size=1001), {"party_size"}),
    (
        "two currencies",
        Search(min_price=euro(1), max_price=Money(currency_code="USD", units=1)),
        {"max_price.currency_code"},
    ),
    ("least above greatest", Search(min_price=euro(2), max_price=euro(1)), {"max_price"}),
    ("order 9", Search(order_by=9), {"order_by"}),  # type: ignore[arg-type] # what proto3 lets through
    ("page of -1", Search(page_size=-1), {"page_size"}),
    ("nothing", catalog_pb2.CheckAvailabilityRequest(), {"package_id", "start_date"}),
    ("367 days", available(end_date=after(367)), {"end_date"}),
    ("101 units", available(quantity=101), {"quantity"}),
    ("-1 units", available(quantity=-1), {"quantity"}),
    (
        "nothing",
        booking_pb2.StartBookingRequest(),
        {"package_id", "user_id", "start_date"},
    ),
    ("long user", start_of(ID, user_id="u" * 129), {"user_id"}),
    ("NUL in a user", start_of(ID, user_id="\0"), {"user_id"}),
    ("no days", start_of(ID, end_date=after(0)), {"end_date"}),
    ("367 days", start_of(ID, end_date=after(367)), {"end_date"}),
    ("101 units", start_of(ID, quantity=101), {"quantity"}),
    ("-1 units", start_of(ID, quantity=-1), {"quantity"}),
    ("party of 1001", start_of(ID, party_size=1001), {"party_size"}),
    ("party of -1", start_of(ID, party_size=-1), {"party_size"}),
    ("a quote without a price", start_of(ID, quote=booking_pb2.Quote()), {"quote.price"}),
    (
        "a quote with a bad tier",
        start_of(
            ID,
            quote=booking_pb2.Quote(
                price=euro(1), cancellation_policy=policy(Tier(refund_basis_points=10_001))
            ),
        ),
        {"quote.cancellation_policy.tiers[0].refund_basis_points"},
    ),
    (
        "everything",
        start_of(
            "1",
            user_id="",
            start_date=Date(year=2026, month=2, day=29),
            quantity=-1,
            party_size=-1,
            quote=booking_pb2.Quote(price=Money(units=1)),
            booking_id="2",
            request_id="3",
        ),
        {
            "package_id",
            "user_id",
            "start_date",
            "quantity",
            "party_size",
            "quote.price.currency_code",
            "booking_id",
            "request_id",
        },
    ),
    ("no id", booking_pb2.CompleteBookingRequest(), {"booking_id"}),
    (
        "nothing",
        booking_pb2.ConfirmBookingRequest(),
        {"booking_id", "provider", "payment_id", "amount"},
    ),
    ("long provider", confirmation(provider="x" * 61), {"provider"}),
    ("long payment id", confirmation(payment_id="x" * 129), {"payment_id"}),
    ("no id", booking_pb2.AbandonBookingRequest(), {"booking_id"}),
    (
        "long reason",
        booking_pb2.AbandonBookingRequest(booking_id=ID, reason="x" * 201),
        {"reason"},
    ),
    ("no id", booking_pb2.CancelBookingRequest(), {"booking_id"}),
    (
        "long reason",
        booking_pb2.CancelBookingRequest(booking_id=ID, reason="x" * 201),
        {"reason"},
    ),
    ("no id", booking_pb2.GetBookingRequest(), {"booking_id"}),
    ("long user", Listing(user_id="x" * 129), {"user_id"}),
    ("no days", Listing(start_date=after(1), end_date=after(1)), {"end_date"}),
    ("page of -1", Listing(page_size=-1), {"page_size"}),
    ("states", Listing(states=[1, 0, 99]), {"states[1]", "states[2]"}),  # type: ignore[list-item] # as above
    (
        "nothing",
        payment_pb2.RecordPaymentRequest(),
        {"booking_id", "provider", "payment_id", "kind", "amount"},
    ),
    ("kind 9", recorded(kind=9), {"kind"}),
    ("long provider", recorded(provider="x" * 61), {"provider"}),
    ("long payment id", recorded(payment_id="x" * 129), {"payment_id"}),
    ("a refund without an id", recorded(kind=REFUNDED), {"refund_id"}),
    ("a long refund id", recorded(kind=REFUNDED, refund_id="x" * 129), {"refund_id"}),
    (
        "a refund of nothing",
        recorded(kind=REFUNDED, refund_id="r", amount=euro(0)),
        {"amount"},
    ),
    ("a long code", recorded(kind=FAILED, failure_code="x" * 61), {"failure_code"}),
    ("nothing", payment_pb2.ListPaymentsRequest(), {"booking_id"}),
    (
        "a negative page",
        payment_pb2.ListPaymentsRequest(booking_id=ID, page_size=-1),
        {"page_size"},
    ),
    ("a negative page", payment_pb2.ListFailedPaymentsRequest(page_size=-1), {"page_size"}),
    (
        "everything",
        Claim(limit=-1, lease=Duration(), request_id="1"),
        {"limit", "lease", "request_id"},
    ),
    ("more than a day", Claim(lease=Duration(seconds=24 * 3600 + 1)), {"lease"}),
    ("half a second", Claim(lease=Duration(seconds=1, nanos=5 * 10**8)), {"lease.nanos"}),
    ("nothing", payment_pb2.RefundPaymentRequest(), {"id", "amount"}),
    ("of nothing", refunding(amount=euro(0)), {"amount"}),
    ("of less than nothing", refunding(amount=euro(-100)), {"amount"}),
    ("a long reason", refunding(reason="x" * 201), {"reason"}),
    ("nothing", review_pb2.CreateReviewRequest(), {"booking_id", "rating"}),
    ("rating 6", reviewing(rating=6), {"rating"}),
    ("rating -1", reviewing(rating=-1), {"rating"}),
    ("a long body", reviewing(body="x" * 4001), {"body"}),
    ("nothing", review_pb2.ListReviewsRequest(), {"package_id"}),
    (
        "both",
        review_pb2.ListReviewsRequest(package_id=ID, user_id="ana"),
        {"user_id"},
    ),
    (
        "a rating of a user",
        review_pb2.ListReviewsRequest(user_id="ana", min_rating=3),
        {"min_rating"},
    ),
    (
        "everything",
        review_pb2.ListReviewsRequest(package_id="1", min_rating=6, page_size=-1),
        {"package_id", "min_rating", "page_size"},
    ),
    ("nothing", profile_pb2.GetUserProfileRequest(), {"user_id"}),
    ("a long user", profile_pb2.GetUserProfileRequest(user_id="x" * 129), {"user_id"}),
    ("nothing", profile_pb2.UpdateUserProfileRequest(), {"profile"}),
    (
        "an empty profile",
        profile_pb2.UpdateUserProfileRequest(profile=profile_pb2.UserProfile(), request_id="1"),
        {"profile.user_id", "profile.display_name", "request_id"},
    ),
    (
        "everything",
        profiled(
            user_id="x" * 129,
            display_name="x" * 201,
            email="a@" + "x" * 253,
            locale="e" * 36,
            etag="x" * 101,
        ),
        {f"profile.{name}" for name in ("user_id", "display_name", "email", "locale", "etag")},
    ),
    ("an email without @", profiled(email="ana"), {"profile.email"}),
    ("an email with a space", profiled(email="a na@b"), {"profile.email"}),
    ("an underscore in a locale", profiled(locale="pt_BR"), {"profile.locale"}),
    ("an empty subtag", profiled(locale="pt--BR"), {"profile.locale"}),
]

UUID_FIELDS: list[tuple[Message, str]] = [
    *bad_stays.UUID_FIELDS,
    (vendor_of(), "vendor_id"),
    (vendor_of(), "request_id"),
    (creation(), "package_id"),
    (creation(), "request_id"),
    (capacity(run(after(0))), "package_id"),
    (capacity(run(after(0))), "request_id"),
    (catalog_pb2.GetPackageRequest(), "package_id"),
    (available(), "package_id"),
    (start_of(ID), "package_id"),
    (start_of(ID), "booking_id"),
    (start_of(ID), "request_id"),
    (booking_pb2.CompleteBookingRequest(booking_id=ID), "booking_id"),
    (booking_pb2.CompleteBookingRequest(booking_id=ID), "request_id"),
    (confirmation(), "booking_id"),
    (confirmation(), "request_id"),
    (booking_pb2.AbandonBookingRequest(booking_id=ID), "booking_id"),
    (booking_pb2.AbandonBookingRequest(booking_id=ID), "request_id"),
    (booking_pb2.CancelBookingRequest(booking_id=ID), "booking_id"),
    (booking_pb2.CancelBookingRequest(booking_id=ID), "request_id"),
    (booking_pb2.GetBookingRequest(), "booking_id"),
    (Listing(), "package_id"),
    (recorded(), "booking_id"),
    (recorded(), "request_id"),
    (payment_pb2.ListPaymentsRequest(), "booking_id"),
    (Claim(), "request_id"),
    (refunding(), "id"),
    (refunding(), "request_id"),
    (reviewing(), "booking_id"),
    (reviewing(), "request_id"),
    (review_pb2.ListReviewsRequest(), "package_id"),
    (profiled(), "request_id"),
]

DATE_FIELDS: list[tuple[Message, str]] = [
    *bad_stays.DATE_FIELDS,
    (creation(), "package.bookable_from"),
    (creation(), "package.bookable_until"),
    (capacity(run(after(0))), "ranges[0].start_date"),
    (capacity(run(after(0))), "ranges[0].end_date"),
    (Search(), "start_date"),
    (Search(start_date=after(0)), "end_date"),
    (available(), "start_date"),
    (available(), "end_date"),
    (start_of(ID), "start_date"),
    (start_of(ID), "end_date"),
    (Listing(), "start_date"),
    (Listing(), "end_date"),
]

MONEY_FIELDS: list[tuple[Message, str]] = [
    *bad_stays.MONEY_FIELDS,
    (creation(), "package.base_price"),
    (start_of(ID, quote=booking_pb2.Quote(price=euro(1))), "quote.price"),
    (confirmation(), "amount"),
    (recorded(), "amount"),
    (refunding(), "amount"),
    (Search(), "min_price"),
    (Search(), "max_price"),
]


def with_field(request: Message, path: str, value: Any) -> Message:
    """A copy with one field replaced, by its path as a violation names it."""
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
    shell: Shell, request_: Message, fields: set[str]
) -> None:
    refusal = await refusal_of(rpc_of(shell, request_)(request_))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "INVALID_ARGUMENT"
    assert refusal.fields == fields


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in UUID_FIELDS],
)
async def test_an_id_is_a_uuid_in_canonical_form(
    shell: Shell, request_: Message, field: str
) -> None:
    for what, text in BAD_UUIDS.items():
        refusal = await refusal_of(rpc_of(shell, request_)(with_field(request_, field, text)))
        assert (what, refusal.fields) == (what, {field})


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in DATE_FIELDS],
)
async def test_a_date_is_a_day_of_the_calendar(shell: Shell, request_: Message, field: str) -> None:
    for what, date in BAD_DATES.items():
        refusal = await refusal_of(rpc_of(shell, request_)(with_field(request_, field, date)))
        assert (what, refusal.fields) == (what, {field})


@pytest.mark.parametrize(
    ("request_", "field"),
    [pytest.param(r, f, id=f"{type(r).__name__}.{f}") for r, f in MONEY_FIELDS],
)
async def test_an_amount_is_exact_in_its_currency(
    shell: Shell, request_: Message, field: str
) -> None:
    for what, (amount, part) in BAD_MONEY.items():
        refusal = await refusal_of(rpc_of(shell, request_)(with_field(request_, field, amount)))
        assert (what, refusal.fields) == (what, {f"{field}{part}"})


async def test_a_refusal_too_large_for_a_trailer_is_cut_and_says_so(shell: Shell) -> None:
    """GRPC drops an answer whose metadata is beyond 8 kB: the caller would learn nothing."""
    bad = [run(Date(year=2026, month=13, day=1), units=-1) for _ in range(3660)]
    refusal = await refusal_of(shell.catalog.SetCapacity(capacity(*bad)))
    assert refusal.reason == "INVALID_ARGUMENT"
    assert {"ranges[0].start_date", "ranges[0].capacity", "..."} <= refusal.fields


async def test_every_rpc_of_the_contract_has_bad_input_here() -> None:
    served = {
        method.input_type.full_name
        for file in (catalog_pb2, booking_pb2, payment_pb2, review_pb2, profile_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {request.DESCRIPTOR.full_name for _, request, _ in CASES} == served
