"""Proto to domain: packages, their cancellation policies and their capacity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask

from booking_service.domain.commands import CapacityRange
from booking_service.domain.package import PackageDraft, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.mapping.fields import FIRST_DATE, Fields
from protos.booking.v1 import catalog_pb2

MAX_PARTY_SIZE = 1000
MAX_CAPACITY = 1_000_000
MAX_CAPACITY_DAYS = 3660
MAX_CAPACITY_RANGES = 3660
MAX_TIERS = 10
_DAY_S = 24 * 3600

# What an update may name, and what that is of a PackageDraft.
_CHANGEABLE = {
    "title": ("title",),
    "type": ("type",),
    "location": ("location",),
    "status": ("status",),
    "bookable_from": ("bookable_from",),
    "bookable_until": ("bookable_until",),
    "base_price": ("base_price_minor", "currency"),
    "min_party_size": ("min_party_size",),
    "max_party_size": ("max_party_size",),
    "cutoff": ("cutoff_s",),
    "hold_ttl": ("hold_ttl_s",),
    "cancellation_policy": ("cancellation_policy",),
}


def draft(read: Fields, field: str, message: catalog_pb2.Package, package_id: UUID) -> PackageDraft:
    """A package as its creator describes it; output-only fields are ignored."""
    from_, until = _bookable(read, field, message)
    min_party, max_party = _party(read, field, message)
    price = read.money(
        f"{field}.base_price", message.base_price, present=message.HasField("base_price")
    )
    hold_ttl_s = 15 * 60
    if message.HasField("hold_ttl"):
        hold_ttl_s = read.seconds(f"{field}.hold_ttl", message.hold_ttl, low=60, high=_DAY_S)
    return PackageDraft(
        id=package_id,
        vendor_id=read.uuid(f"{field}.vendor_id", message.vendor_id),
        title=read.text(f"{field}.title", message.title, most=200),
        type=read.text(f"{field}.type", message.type, most=60),
        location=read.text(f"{field}.location", message.location, most=120),
        time_zone=read.time_zone(f"{field}.time_zone", message.time_zone),
        status=PackageStatus(
            read.choice(
                f"{field}.status", message.status, catalog_pb2.Package.Status, unset="ACTIVE"
            )
        ),
        bookable_from=from_,
        bookable_until=until,
        base_price_minor=price.minor,
        currency=price.currency,
        pricing=Pricing(
            read.choice(
                f"{field}.pricing",
                message.pricing,
                catalog_pb2.Package.Pricing,
                unset="PER_UNIT_DAY",
            )
        ),
        min_party_size=min_party,
        max_party_size=max_party,
        cutoff_s=read.seconds(f"{field}.cutoff", message.cutoff, low=0, high=365 * _DAY_S),
        hold_ttl_s=hold_ttl_s,
        cancellation_policy=policy(
            read, f"{field}.cancellation_policy", message.cancellation_policy
        ),
    )


def changes(
    read: Fields, field: str, message: catalog_pb2.Package, mask_field: str, mask: FieldMask
) -> dict[str, object]:
    """What an update changes, as fields of PackageDraft: those that the mask names, each checked as
    on creation. How they go with what is stored is for the domain to say.
    """
    if not mask.paths:
        read.bad(mask_field, "is required")
    named: list[str] = []
    for n, path in enumerate(mask.paths[: len(_CHANGEABLE) + 1]):
        if path not in _CHANGEABLE:
            read.bad(f"{mask_field}.paths[{n}]", f"must be one of {', '.join(_CHANGEABLE)}")
        elif path in named:
            read.bad(f"{mask_field}.paths[{n}]", f"names {path} again")
        else:
            named.append(path)
    if "status" in named and message.status == catalog_pb2.Package.STATUS_UNSPECIFIED:
        read.bad(f"{field}.status", "is required")
    change = catalog_pb2.Package()
    FieldMask(paths=named).MergeMessage(message, change)
    whole = Fields()
    value = draft(whole, field, change, UUID(int=0))
    read.take(whole, [f"{field}.{path}" for path in named])
    return {name: getattr(value, name) for path in named for name in _CHANGEABLE[path]}


def policy(read: Fields, field: str, message: catalog_pb2.CancellationPolicy) -> CancellationPolicy:
    """Tiers in any order, each with another `before`; the domain's are longest first."""
    if len(message.tiers) > MAX_TIERS:
        read.bad(f"{field}.tiers", f"must be at most {MAX_TIERS}, are {len(message.tiers)}")
        return CancellationPolicy()
    tiers: dict[int, Tier] = {}
    for n, tier in enumerate(message.tiers):
        path = f"{field}.tiers[{n}]"
        before_s = read.seconds(f"{path}.before", tier.before, low=0, high=366 * _DAY_S)
        share = read.number(
            f"{path}.refund_basis_points", tier.refund_basis_points, low=0, high=10_000
        )
        if before_s in tiers:
            read.bad(f"{path}.before", f"is {before_s} s in another tier too")
        tiers[before_s] = Tier(before_s, share)
    return CancellationPolicy(tuple(tiers[before_s] for before_s in sorted(tiers, reverse=True)))


def capacity_ranges(
    read: Fields, field: str, messages: Sequence[catalog_pb2.CapacityRange]
) -> tuple[CapacityRange, ...]:
    """Ranges that do not overlap, of at most 3660 days together."""
    if not messages:
        read.bad(field, "is required")
    if len(messages) > MAX_CAPACITY_RANGES:
        read.bad(field, f"must be at most {MAX_CAPACITY_RANGES} ranges, are {len(messages)}")
        return ()
    numbered: list[tuple[date, date, int]] = []
    ranges = []
    for n, message in enumerate(messages):
        path = f"{field}[{n}]"
        start = read.day(
            f"{path}.start_date",
            message.start_date,
            present=message.HasField("start_date"),
            required=True,
        )
        end_present = message.HasField("end_date")
        end = read.day(f"{path}.end_date", message.end_date, present=end_present, required=False)
        capacity = read.number(f"{path}.capacity", message.capacity, low=0, high=MAX_CAPACITY)
        first, after = read.day_range(
            f"{path}.end_date", start, end, end_present=end_present, most=MAX_CAPACITY_DAYS
        )
        ranges.append(CapacityRange(first, after, capacity))
        if start is not None and first < after:
            numbered.append((first, after, n))
    numbered.sort()
    furthest, owner = FIRST_DATE, 0
    for first, after, n in numbered:
        if first < furthest:
            read.bad(f"{field}[{n}].start_date", f"overlaps {field}[{owner}]")
        if after > furthest:
            furthest, owner = after, n
    total_days = sum((after - first).days for first, after, _ in numbered)
    if len(messages) > 1 and total_days > MAX_CAPACITY_DAYS:
        read.bad(field, f"must be at most {MAX_CAPACITY_DAYS} days together, are {total_days}")
    return tuple(ranges)


def _bookable(
    read: Fields, field: str, message: catalog_pb2.Package
) -> tuple[date | None, date | None]:
    from_ = read.day(
        f"{field}.bookable_from",
        message.bookable_from,
        present=message.HasField("bookable_from"),
        required=False,
    )
    until = read.day(
        f"{field}.bookable_until",
        message.bookable_until,
        present=message.HasField("bookable_until"),
        required=False,
    )
    if from_ is not None and until is not None and until <= from_:
        read.bad(f"{field}.bookable_until", f"must be after bookable_from {from_}, is {until}")
    return from_, until


def _party(read: Fields, field: str, message: catalog_pb2.Package) -> tuple[int, int]:
    low = read.number(
        f"{field}.min_party_size", message.min_party_size, low=1, high=MAX_PARTY_SIZE, zero=1
    )
    high = read.number(
        f"{field}.max_party_size",
        message.max_party_size,
        low=1,
        high=MAX_PARTY_SIZE,
        zero=MAX_PARTY_SIZE,
    )
    if 1 <= high < low <= MAX_PARTY_SIZE:
        read.bad(f"{field}.max_party_size", f"must be at least min_party_size {low}, is {high}")
    return low, high
