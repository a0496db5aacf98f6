"""Packages and the vendors that sell them, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from booking_service.domain.policy import CancellationPolicy


class PackageStatus(StrEnum):
    ACTIVE = "ACTIVE"
    CLOSED = "CLOSED"


class Pricing(StrEnum):
    """Where the price of a booking comes from: base price x units x days, or the caller's quote."""

    PER_UNIT_DAY = "PER_UNIT_DAY"
    QUOTED = "QUOTED"


@dataclass(frozen=True, slots=True)
class Vendor:
    """The seller of packages."""

    id: UUID
    name: str
    version: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class PackageDraft:
    """A package as its creator describes it. Dates are in `time_zone`, an IANA name."""

    id: UUID
    vendor_id: UUID
    title: str
    type: str
    location: str
    time_zone: str
    status: PackageStatus
    bookable_from: date | None
    bookable_until: date | None
    base_price_minor: int
    currency: str
    pricing: Pricing
    min_party_size: int
    max_party_size: int
    # 0: as many as there are.
    max_party_per_unit: int = field(default=0, kw_only=True)
    cutoff_s: int
    hold_ttl_s: int
    cancellation_policy: CancellationPolicy

    def largest_party(self, quantity: int) -> int:
        """Return how many persons may book this many units."""
        if self.max_party_per_unit == 0:
            return self.max_party_size
        return min(self.max_party_size, quantity * self.max_party_per_unit)

    def begins(self, day: date) -> datetime:
        """Return the instant at which a day begins in the package's time zone."""
        return datetime.combine(day, time.min, ZoneInfo(self.time_zone)).astimezone(UTC)

    def today(self, now: datetime) -> date:
        """Return the date in the package's time zone."""
        return now.astimezone(ZoneInfo(self.time_zone)).date()


@dataclass(frozen=True, slots=True)
class Package(PackageDraft):
    """A stored package. What the sweeper keeps changes neither version nor update_time: the rating
    and the number of its reviews, and the bookings confirmed in the last 30 days.
    """

    version: int
    create_time: datetime
    update_time: datetime
    review_count: int = 0
    rating_hundredths: int = 0
    popularity: int = 0
