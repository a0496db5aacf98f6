"""Bad requests about payments and refunds, each with the fields that its refusal names."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from protos.booking.v1 import payment_pb2
from tests.booking.running_service import euro

ID = str(uuid4())
Claim = payment_pb2.ClaimFailedPaymentsRequest
ClaimRefunds = payment_pb2.ClaimRefundsRequest
REFUNDED = payment_pb2.RecordPaymentRequest.REFUNDED
FAILED = payment_pb2.RecordPaymentRequest.FAILED


def recorded(**fields: Any) -> payment_pb2.RecordPaymentRequest:
    good: dict[str, Any] = {
        "booking_id": ID,
        "provider": "stripe",
        "payment_id": "pay-1",
        "kind": payment_pb2.RecordPaymentRequest.CAPTURED,
        "amount": euro(100),
    }
    return payment_pb2.RecordPaymentRequest(**(good | fields))


def refunding(**fields: Any) -> payment_pb2.RefundPaymentRequest:
    good: dict[str, Any] = {"id": ID, "amount": euro(100)}
    return payment_pb2.RefundPaymentRequest(**(good | fields))


CASES: list[tuple[str, Message, set[str]]] = [
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
        Claim(limit=-1, lease=Duration(), request_id="x" * 129),
        {"limit", "lease", "request_id"},
    ),
    ("more than a day", Claim(lease=Duration(seconds=24 * 3600 + 1)), {"lease"}),
    ("half a second", Claim(lease=Duration(seconds=1, nanos=5 * 10**8)), {"lease.nanos"}),
    ("nothing", payment_pb2.RefundPaymentRequest(), {"id", "amount"}),
    ("of nothing", refunding(amount=euro(0)), {"amount"}),
    ("of less than nothing", refunding(amount=euro(-100)), {"amount"}),
    ("a long reason", refunding(reason="x" * 201), {"reason"}),
    ("nothing", payment_pb2.GetRefundRequest(), {"id"}),
    (
        "everything",
        payment_pb2.ListRefundsRequest(
            states=[payment_pb2.Refund.REQUESTED, 0, 9],  # type: ignore[list-item] # no state
            booking_id="1",
            vendor_id="1",
            created_from=Timestamp(seconds=-(10**12)),
            created_until=Timestamp(nanos=-1),
            page_size=-1,
        ),
        {
            *("states[1]", "states[2]", "booking_id", "vendor_id"),
            *("created_from", "created_until.nanos", "page_size"),
        },
    ),
    (
        "until the beginning",
        payment_pb2.ListRefundsRequest(
            created_from=Timestamp(seconds=1), created_until=Timestamp(seconds=1)
        ),
        {"created_until"},
    ),
    (
        "many states",
        payment_pb2.ListRefundsRequest(states=[payment_pb2.Refund.REQUESTED] * 21),
        {"states"},
    ),
    (
        "everything",
        ClaimRefunds(limit=-1, lease=Duration(), request_id="x" * 129),
        {"limit", "lease", "request_id"},
    ),
    ("more than a day", ClaimRefunds(lease=Duration(seconds=24 * 3600 + 1)), {"lease"}),
]


UUID_FIELDS: list[tuple[Message, str]] = [
    (recorded(), "booking_id"),
    (payment_pb2.ListPaymentsRequest(), "booking_id"),
    (refunding(), "id"),
    (payment_pb2.GetRefundRequest(), "id"),
    (payment_pb2.ListRefundsRequest(), "booking_id"),
    (payment_pb2.ListRefundsRequest(), "vendor_id"),
]


DATE_FIELDS: list[tuple[Message, str]] = []


MONEY_FIELDS: list[tuple[Message, str]] = [
    (recorded(), "amount"),
    (refunding(), "amount"),
]
