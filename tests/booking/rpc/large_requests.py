"""Good requests of every RPC of booking.v1, and the largest content that each field can be given.

Everything is made from the descriptors: a new field is tried as soon as it is in the contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from tests.booking.rpc import bad_bookings, bad_catalog, bad_payments, bad_reviews, bad_stays
from tests.booking.running_service import after, euro, start_of
from tests.large_fields import fills

ID: Final = str(uuid4())

POLICY: Final = bad_catalog.policy(catalog_pb2.CancellationPolicy.Tier(before=Duration(seconds=60)))
QUOTE: Final = booking_pb2.Quote(price=euro(100), cancellation_policy=POLICY)
PRICED: Final = {"min_price": euro(1), "max_price": euro(2)}

# Every message field is set, so that what is inside of it is tried as well.
GOOD: Final[tuple[Message, ...]] = (
    start_of(ID, quote=QUOTE),
    booking_pb2.BatchStartBookingsRequest(
        requests=[start_of(ID, quote=QUOTE)], all_or_nothing=True
    ),
    booking_pb2.CompleteBookingRequest(booking_id=ID),
    bad_bookings.confirmation(),
    booking_pb2.AbandonBookingRequest(booking_id=ID),
    booking_pb2.CancelBookingRequest(booking_id=ID, expected_refund=euro(1)),
    booking_pb2.GetBookingRequest(booking_id=ID),
    booking_pb2.ListBookingsRequest(provider="stripe", payment_id="1"),
    booking_pb2.ExtendHoldRequest(booking_id=ID),
    booking_pb2.FailBookingRequest(booking_id=ID, reason="TIMEOUT"),
    booking_pb2.PreviewCancellationRequest(booking_id=ID),
    bad_stays.moving(quote=QUOTE),
    booking_pb2.BatchGetBookingsRequest(booking_ids=[ID]),
    booking_pb2.ListBookingEventsRequest(booking_id=ID),
    bad_stays.report(),
    booking_pb2.ReconcileInventoryRequest(package_id=ID),
    bad_catalog.vendor_of(),
    bad_catalog.creation(cancellation_policy=POLICY),
    bad_catalog.capacity(bad_catalog.run(after(0))),
    bad_catalog.vendor_update("name"),
    catalog_pb2.GetVendorRequest(vendor_id=ID),
    catalog_pb2.ListVendorsRequest(),
    catalog_pb2.GetPackageRequest(package_id=ID),
    catalog_pb2.SearchPackagesRequest(**PRICED),
    catalog_pb2.CheckAvailabilityRequest(package_id=ID, start_date=after(0)),
    catalog_pb2.BatchGetPackagesRequest(package_ids=[ID]),
    bad_stays.update(
        *("title", "type", "location", "base_price", "cancellation_policy"),
        title="Room",
        type="hotel_room",
        location="Lisbon",
        base_price=euro(1),
        cancellation_policy=POLICY,
    ),
    catalog_pb2.ListVendorPackagesRequest(vendor_id=ID),
    catalog_pb2.ListPackageEventsRequest(package_id=ID),
    bad_payments.recorded(kind=bad_payments.REFUNDED, refund_id="r"),
    bad_payments.recorded(kind=bad_payments.FAILED),
    payment_pb2.ListPaymentsRequest(booking_id=ID),
    payment_pb2.ListFailedPaymentsRequest(),
    payment_pb2.ClaimFailedPaymentsRequest(),
    bad_payments.refunding(),
    payment_pb2.GetRefundRequest(id=ID),
    payment_pb2.ListRefundsRequest(),
    payment_pb2.ClaimRefundsRequest(),
    bad_reviews.reviewing(),
    review_pb2.ListReviewsRequest(package_id=ID),
    profile_pb2.GetUserProfileRequest(user_id="ana"),
    profile_pb2.EraseUserRequest(user_id="ana"),
    bad_reviews.profiled(),
    bad_reviews.masked("display_name", "email", "locale"),
)

# What an RPC does not read, so that it is neither stored nor compared.
IGNORED: Final = {
    "CreateVendorRequest": {"vendor.id", "vendor.etag"},
    "CreatePackageRequest": {"package.id", "package.etag"},
    "UpdatePackageRequest": {"package.vendor_id", "package.time_zone"},
    "RecordPaymentRequest": {"failure_code", "refund_id"},
}


@dataclass(frozen=True)
class Attack:
    """A request that is good but for `field`, which holds as much as a request can."""

    request: Message
    field: str
    what: str

    @property
    def name(self) -> str:
        return self.request.DESCRIPTOR.name

    def __str__(self) -> str:
        return f"{self.name}.{self.field}-{self.what}"


def attacks() -> Iterator[Attack]:
    for request in GOOD:
        for field, what, fill in fills(request.DESCRIPTOR):
            large = type(request)()
            large.CopyFrom(request)
            if fill(large):
                yield Attack(large, field, what)
