"""Domain to proto: what callers are answered, money and times exact."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from google.protobuf.duration_pb2 import Duration
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money as MoneyMessage

from booking_service.domain.booking import Booking, State
from booking_service.domain.etag import etag
from booking_service.domain.money import exponent
from booking_service.domain.package import Package, Vendor
from booking_service.domain.policy import CancellationPolicy
from booking_service.mapping.lists import next_token
from booking_service.mapping.scalars import timestamp
from booking_service.reads.keyset import Page
from booking_service.reads.packages import Availability
from protos.booking.v1 import booking_pb2, catalog_pb2

_CONFIRMED = frozenset({State.CONFIRMED, State.FULFILLED, State.CANCELLED})


def vendor(value: Vendor) -> catalog_pb2.Vendor:
    return catalog_pb2.Vendor(
        id=str(value.id),
        name=value.name,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
    )


def package(value: Package) -> catalog_pb2.Package:
    return catalog_pb2.Package(
        id=str(value.id),
        vendor_id=str(value.vendor_id),
        title=value.title,
        type=value.type,
        location=value.location,
        time_zone=value.time_zone,
        status=catalog_pb2.Package.Status.Value(value.status),
        bookable_from=date_of(value.bookable_from),
        bookable_until=date_of(value.bookable_until),
        base_price=money(value.base_price_minor, value.currency),
        pricing=catalog_pb2.Package.Pricing.Value(value.pricing),
        min_party_size=value.min_party_size,
        max_party_size=value.max_party_size,
        cutoff=Duration(seconds=value.cutoff_s),
        hold_ttl=Duration(seconds=value.hold_ttl_s),
        cancellation_policy=policy(value.cancellation_policy),
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
    )


def packages(
    request: catalog_pb2.SearchPackagesRequest, page: Page[Package]
) -> catalog_pb2.SearchPackagesResponse:
    return catalog_pb2.SearchPackagesResponse(
        packages=[package(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def vendor_packages(
    request: catalog_pb2.ListVendorPackagesRequest, page: Page[Package]
) -> catalog_pb2.ListVendorPackagesResponse:
    return catalog_pb2.ListVendorPackagesResponse(
        packages=[package(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def package_batch(values: Iterable[Package]) -> catalog_pb2.BatchGetPackagesResponse:
    return catalog_pb2.BatchGetPackagesResponse(packages=[package(each) for each in values])


def capacity_set(days_set: int) -> catalog_pb2.SetCapacityResponse:
    return catalog_pb2.SetCapacityResponse(days_set=days_set)


def availability(found: Availability) -> catalog_pb2.CheckAvailabilityResponse:
    return catalog_pb2.CheckAvailabilityResponse(
        available=found.reason is None,
        days=[
            catalog_pb2.DayAvailability(
                date=date_of(each), capacity=day.capacity, taken=day.taken, free=day.free
            )
            for each, day in found.days
        ],
        reason=found.reason or "",
    )


def booking(value: Booking, *, foreseen: bool = False) -> booking_pb2.Booking:
    """`foreseen`: as it would be, without what only a stored booking has."""
    message = _booking(value)
    if not foreseen:
        return message
    message.ClearField("etag")
    if value.version == 1:
        # It would be started: there is no booking yet, and no hold.
        for stored in ("id", "state", "hold_expire_time", "create_time", "update_time"):
            message.ClearField(stored)
    return message


def bookings(
    request: booking_pb2.ListBookingsRequest, page: Page[Booking]
) -> booking_pb2.ListBookingsResponse:
    return booking_pb2.ListBookingsResponse(
        bookings=[booking(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def booking_batch(values: Iterable[Booking]) -> booking_pb2.BatchGetBookingsResponse:
    return booking_pb2.BatchGetBookingsResponse(bookings=[booking(each) for each in values])


def money(minor: int, currency: str) -> MoneyMessage:
    """An amount of at least 0 minor units."""
    digits = exponent(currency)
    if digits is None:
        raise ValueError(f"{currency} is stored and not a currency of ISO 4217")
    units, rest = divmod(minor, 10**digits)
    return MoneyMessage(currency_code=currency, units=units, nanos=rest * 10 ** (9 - digits))


def due_money(minor: int, currency: str) -> MoneyMessage | None:
    """An amount, or None for nothing."""
    return money(minor, currency) if minor else None


def policy(value: CancellationPolicy) -> catalog_pb2.CancellationPolicy:
    return catalog_pb2.CancellationPolicy(
        tiers=[
            catalog_pb2.CancellationPolicy.Tier(
                before=Duration(seconds=tier.before_s),
                refund_basis_points=tier.refund_basis_points,
            )
            for tier in value.tiers
        ]
    )


def date_of(value: date | None) -> Date | None:
    return None if value is None else Date(year=value.year, month=value.month, day=value.day)


def _booking(value: Booking) -> booking_pb2.Booking:
    cancelled = value.refund_minor is not None
    held = value.state not in _CONFIRMED
    return booking_pb2.Booking(
        id=str(value.id),
        package_id=str(value.package_id),
        vendor_id=str(value.vendor_id),
        user_id=value.user_id,
        session_id=value.session_id,
        state=booking_pb2.Booking.State.Value(value.state),
        start_date=date_of(value.start_date),
        end_date=date_of(value.end_date),
        quantity=value.quantity,
        party_size=value.party_size,
        price=money(value.price_minor, value.currency),
        cancellation_policy=policy(value.cancellation_policy),
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        hold_expire_time=timestamp(value.hold_expire_time) if held else None,
        complete_time=timestamp(value.complete_time),
        confirm_time=timestamp(value.confirm_time),
        end_time=timestamp(value.end_time),
        end_reason=value.end_reason,
        refund=money(value.refund_minor or 0, value.currency) if cancelled else None,
        refunded=money(value.refunded_minor, value.currency) if cancelled else None,
        etag=etag(value.version, value.update_time),
        balance_due=due_money(value.balance_due_minor, value.currency),
        extensions=value.extensions,
    )
