"""Domain to proto: the replies of CatalogService."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.duration_pb2 import Duration

from booking_service.domain.catalog_events import CounterRun
from booking_service.domain.etag import etag
from booking_service.domain.package import Package, Vendor
from booking_service.mapping.paging import next_token
from booking_service.mapping.policy import policy
from booking_service.mapping.scalars import date_of, money, timestamp
from booking_service.reads.keyset import Page
from booking_service.reads.package_events import RecordedChange
from booking_service.reads.packages import Availability
from protos.booking.v1 import catalog_pb2

_FIELD_NAMES: Final = {
    "base_price_minor": "base_price",
    "cutoff_s": "cutoff",
    "hold_ttl_s": "hold_ttl",
}
"""The fields of Package whose attributes have other names."""


def vendor(value: Vendor) -> catalog_pb2.Vendor:
    return catalog_pb2.Vendor(
        id=str(value.id),
        name=value.name,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
    )


def vendors(
    request: catalog_pb2.ListVendorsRequest, page: Page[Vendor]
) -> catalog_pb2.ListVendorsResponse:
    return catalog_pb2.ListVendorsResponse(
        vendors=[vendor(each) for each in page.items],
        next_page_token=next_token(request, page.next),
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
        max_party_per_unit=value.max_party_per_unit,
        cutoff=Duration(seconds=value.cutoff_s),
        hold_ttl=Duration(seconds=value.hold_ttl_s),
        cancellation_policy=policy(value.cancellation_policy),
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
        rating=value.rating_hundredths / 100,
        review_count=value.review_count,
        popularity=value.popularity,
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


def package_events(
    request: catalog_pb2.ListPackageEventsRequest, page: Page[RecordedChange]
) -> catalog_pb2.ListPackageEventsResponse:
    return catalog_pb2.ListPackageEventsResponse(
        events=[_package_event(each) for each in page.items],
        next_page_token=next_token(request, page.next),
    )


def _package_event(recorded: RecordedChange) -> catalog_pb2.PackageEvent:
    event = recorded.event
    return catalog_pb2.PackageEvent(
        vendor_id=str(event.vendor_id),
        package_id=str(event.package_id or ""),
        change=event.change,
        fields=[
            catalog_pb2.FieldChange(
                field=_FIELD_NAMES.get(each.field, each.field),
                before=each.before,
                after=each.after,
            )
            for each in event.fields
        ],
        counters=[_counter_change(run) for run in event.runs],
        days_left_out=event.days_left_out,
        caller=recorded.caller,
        request_id=str(recorded.request_id or ""),
        time=timestamp(recorded.time),
    )


def _counter_change(run: CounterRun) -> catalog_pb2.CounterChange:
    return catalog_pb2.CounterChange(
        counter=run.counter,
        start_date=date_of(run.start_date),
        end_date=date_of(run.end_date),
        before=run.before,
        after=run.after,
    )
