"""Bad requests that start, complete, confirm, end and list bookings, each with the fields that its
refusal names.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from protos.booking.v1 import booking_pb2, catalog_pb2
from tests.booking.rpc.bad_catalog import policy
from tests.booking.running_service import after, confirm_of, euro, start_of

ID = str(uuid4())
Tier = catalog_pb2.CancellationPolicy.Tier
Listing = booking_pb2.ListBookingsRequest


def confirmation(**fields: Any) -> booking_pb2.ConfirmBookingRequest:
    return confirm_of(booking_pb2.Booking(id=ID, price=euro(100)), **fields)


CASES: list[tuple[str, Message, set[str]]] = [
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
            request_id="x" * 129,
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
    ("a provider alone", Listing(provider="stripe"), {"payment_id"}),
    ("a payment alone", Listing(payment_id="1"), {"provider"}),
    (
        "a long payment",
        Listing(provider="x" * 61, payment_id="x" * 129),
        {"provider", "payment_id"},
    ),
    (
        "instants",
        Listing(created_from=Timestamp(nanos=-1), created_until=Timestamp(seconds=2**62)),
        {"created_from.nanos", "created_until"},
    ),
    (
        "created in no time",
        Listing(created_from=Timestamp(seconds=9), created_until=Timestamp(seconds=9)),
        {"created_until"},
    ),
    ("states", Listing(states=[1, 0, 99]), {"states[1]", "states[2]"}),  # type: ignore[list-item] # as above
]


UUID_FIELDS: list[tuple[Message, str]] = [
    (start_of(ID), "package_id"),
    (start_of(ID), "booking_id"),
    (booking_pb2.CompleteBookingRequest(booking_id=ID), "booking_id"),
    (confirmation(), "booking_id"),
    (booking_pb2.AbandonBookingRequest(booking_id=ID), "booking_id"),
    (booking_pb2.CancelBookingRequest(booking_id=ID), "booking_id"),
    (booking_pb2.GetBookingRequest(), "booking_id"),
    (Listing(), "package_id"),
    (Listing(), "vendor_id"),
]


DATE_FIELDS: list[tuple[Message, str]] = [
    (start_of(ID), "start_date"),
    (start_of(ID), "end_date"),
    (Listing(), "start_date"),
    (Listing(), "end_date"),
]


MONEY_FIELDS: list[tuple[Message, str]] = [
    (start_of(ID, quote=booking_pb2.Quote(price=euro(1))), "quote.price"),
    (confirmation(), "amount"),
]
