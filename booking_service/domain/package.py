"""What is sold and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from booking_service.domain.policy import CancellationPolicy


class PackageStatus(StrEnum):
    ACTIVE = "ACTIVE"
    CLOSED = "CLOSED"


class Pricing(StrEnum):
    """How the price of a booking is found: base price x units x days, or the caller's quote."""

    PER_UNIT_DAY = "PER_UNIT_DAY"
    QUOTED = "QUOTED"


@dataclass(frozen=True, slots=True)
class Vendor:
    """Sells packages."""

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
    cutoff_s: int
    hold_ttl_s: int
    cancellation_policy: CancellationPolicy

    def begins(self, day: date) -> datetime:
        """The instant at which a day begins where the package is."""
        return datetime.combine(day, time.min, ZoneInfo(self.time_zone)).astimezone(UTC)

    def today(self, now: datetime) -> date:
        """The date it is where the package is."""
        return now.astimezone(ZoneInfo(self.time_zone)).date()


@dataclass(frozen=True, slots=True)
class Package(PackageDraft):
    """A package as it is stored."""

    version: int
    create_time: datetime
    update_time: datetime
