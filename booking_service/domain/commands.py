"""The commands: every change that can be requested, with all ids that it may need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from booking_service.domain.booking import PaymentKind
from booking_service.domain.money import Money
from booking_service.domain.package import PackageDraft
from booking_service.domain.policy import CancellationPolicy


@dataclass(frozen=True, slots=True)
class CreateVendor:
    vendor_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class UpdateVendor:
    vendor_id: UUID
    name: str
    etag: str


@dataclass(frozen=True, slots=True)
class CreatePackage:
    package: PackageDraft


@dataclass(frozen=True, slots=True)
class CapacityRange:
    """`capacity` units on each day of [start_date, end_date)."""

    start_date: date
    end_date: date
    capacity: int


@dataclass(frozen=True, slots=True)
class SetCapacity:
    package_id: UUID
    ranges: tuple[CapacityRange, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a whole stay; without a policy, the package's own applies."""

    price: Money
    cancellation_policy: CancellationPolicy | None


@dataclass(frozen=True, slots=True)
class StartBooking:
    booking_id: UUID
    package_id: UUID
    user_id: str
    session_id: str
    start_date: date
    end_date: date
    quantity: int
    party_size: int
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class StartBatch:
    """Several starts, of which either all succeed or none."""

    starts: tuple[StartBooking, ...]


@dataclass(frozen=True, slots=True)
class ExtendHold:
    booking_id: UUID
    etag: str = ""


@dataclass(frozen=True, slots=True)
class FailBooking:
    booking_id: UUID
    reason: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class CompleteBooking:
    booking_id: UUID
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ConfirmBooking:
    """`payment_row_id` and `refund_row_id` are the ids of the rows that may be created."""

    booking_id: UUID
    provider: str
    payment_id: str
    amount: Money
    payment_row_id: UUID
    refund_row_id: UUID


@dataclass(frozen=True, slots=True)
class AbandonBooking:
    booking_id: UUID
    reason: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class CancelBooking:
    """`expected_refund` is the refund that the caller was shown, `etag` the version that it read;
    both are optional.
    """

    booking_id: UUID
    reason: str
    refund_row_id: UUID
    expected_refund: Money | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True)
class RescheduleBooking:
    """Move a confirmed booking to [start_date, end_date)."""

    booking_id: UUID
    start_date: date
    end_date: date
    quote: Quote | None
    refund_row_id: UUID
    etag: str = ""


@dataclass(frozen=True, slots=True)
class RecordPayment:
    """`refund_id` is the provider's, for REFUNDED only; `failure_code` for FAILED only."""

    booking_id: UUID
    provider: str
    payment_id: str
    kind: PaymentKind
    amount: Money
    refund_id: str
    failure_code: str
    payment_row_id: UUID
    refund_row_id: UUID


@dataclass(frozen=True, slots=True)
class RefundPayment:
    """Request a refund of a payment, which is identified by its row."""

    booking_id: UUID
    payment_row_id: UUID
    amount: Money
    reason: str
    refund_row_id: UUID


@dataclass(frozen=True, slots=True)
class PaymentToClaim:
    """A failed payment that was due when it was read, with its booking."""

    payment_row_id: UUID
    booking_id: UUID
    package_id: UUID


@dataclass(frozen=True, slots=True)
class ClaimPayments:
    """Hand out those of the payments that are still due, for `lease_s` seconds."""

    payments: tuple[PaymentToClaim, ...]
    lease_s: int


@dataclass(frozen=True, slots=True)
class RefundToClaim:
    """A requested refund that was due when it was read, with its booking."""

    refund_id: UUID
    booking_id: UUID
    package_id: UUID


@dataclass(frozen=True, slots=True)
class ClaimRefunds:
    """Hand out those of the refunds that are still due, for `lease_s` seconds."""

    refunds: tuple[RefundToClaim, ...]
    lease_s: int


@dataclass(frozen=True, slots=True)
class CreateReview:
    review_id: UUID
    booking_id: UUID
    rating: int
    body: str


@dataclass(frozen=True, slots=True)
class UpdateProfile:
    """`changes` are fields of UserProfile with their new values. With `may_create`, a user without
    a profile gets one, whose id is `profile_id`.
    """

    profile_id: UUID
    user_id: str
    changes: Mapping[str, str]
    may_create: bool
    etag: str


@dataclass(frozen=True, slots=True)
class UpdatePackage:
    """`changes` are fields of PackageDraft with their new values."""

    package_id: UUID
    changes: Mapping[str, object]
    etag: str


@dataclass(frozen=True, slots=True)
class ReconcileInventory:
    """Recount at most MAX_RECOUNTED_DAYS days of a package, from the first that it has on or after
    `start_date`.
    """

    package_id: UUID
    repair: bool
    start_date: date = date.min


@dataclass(frozen=True, slots=True)
class ExpireHolds:
    """End the lapsed holds of a package."""

    package_id: UUID


@dataclass(frozen=True, slots=True)
class FulfilStays:
    """End the confirmed stays of a package whose last day has passed."""

    package_id: UUID


OfBooking = (
    CompleteBooking
    | ConfirmBooking
    | AbandonBooking
    | ExtendHold
    | FailBooking
    | CancelBooking
    | RescheduleBooking
    | RecordPayment
    | RefundPayment
    | CreateReview
)
OfPackage = (
    CreatePackage
    | UpdatePackage
    | SetCapacity
    | ReconcileInventory
    | StartBooking
    | ExpireHolds
    | FulfilStays
)
OfSeveral = StartBatch | ClaimPayments | ClaimRefunds
Command = CreateVendor | UpdateVendor | UpdateProfile | OfPackage | OfBooking | OfSeveral
