"""Payments, proto to domain and back.

Bounds are those that the comments of payment.proto state; every bad field is named at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from uuid import UUID, uuid4

from booking_service.domain.booking import Payment, PaymentKind
from booking_service.domain.commands import (
    ClaimPayments,
    PaymentToClaim,
    RecordPayment,
)
from booking_service.mapping import paging
from booking_service.mapping.command_request import (
    C,
    CommandRequest,
    fingerprint,
    read_request_id,
)
from booking_service.mapping.fields import Fields
from booking_service.mapping.scalars import money, timestamp
from booking_service.reads.keyset import Key, Page
from protos.booking.v1 import payment_pb2

D = TypeVar("D")

DEFAULT_CLAIM: Final = 10
MAX_CLAIM: Final = 100
DEFAULT_LEASE_S: Final = 5 * 60
MAX_LEASE_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class PaymentList:
    """One page of the payments of a booking."""

    booking_id: UUID
    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class FailedList:
    """One page of failed payments."""

    after: Key | None
    limit: int


@dataclass(frozen=True, slots=True)
class Claim(Generic[D, C]):
    """A request for at most `limit` of what is due, before that is known: failed payments or
    requested refunds. `command` claims them for so many seconds.
    """

    command: Callable[[tuple[D, ...], int], C]
    limit: int
    lease_s: int
    request_id: UUID | None
    fingerprint: bytes

    def of(self, due: tuple[D, ...]) -> CommandRequest[C]:
        command = self.command(due, self.lease_s)
        return CommandRequest(command, self.request_id, self.fingerprint)


def record_payment(request: payment_pb2.RecordPaymentRequest) -> CommandRequest[RecordPayment]:
    read = Fields()
    kind = read.choice("kind", request.kind, payment_pb2.RecordPaymentRequest.Kind)
    refunded = kind == "REFUNDED"
    booking_id = read.uuid("booking_id", request.booking_id)
    provider = read.text("provider", request.provider, most=60)
    payment_id = read.text("payment_id", request.payment_id, most=128)
    amount = read.money(
        "amount", request.amount, present=request.HasField("amount"), low=1 if refunded else 0
    )
    refund_id = read.text("refund_id", request.refund_id, most=128) if refunded else ""
    failure_code = ""
    if kind == "FAILED":
        failure_code = read.text("failure_code", request.failure_code, most=60, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    command = RecordPayment(
        booking_id=booking_id,
        provider=provider,
        payment_id=payment_id,
        kind=PaymentKind(kind),
        amount=amount,
        refund_id=refund_id,
        failure_code=failure_code,
        payment_row_id=uuid4(),
        refund_row_id=uuid4(),
    )
    return CommandRequest(command, request_id, fingerprint(request))


def list_payments(request: payment_pb2.ListPaymentsRequest) -> PaymentList:
    read = Fields()
    booking_id = read.uuid("booking_id", request.booking_id)
    limit = paging.size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return PaymentList(booking_id, paging.after(request, request.page_token), limit)


def list_failed(request: payment_pb2.ListFailedPaymentsRequest) -> FailedList:
    read = Fields()
    limit = paging.size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return FailedList(paging.after(request, request.page_token), limit)


def read_claim(
    request: payment_pb2.ClaimFailedPaymentsRequest | payment_pb2.ClaimRefundsRequest,
    command: Callable[[tuple[D, ...], int], C],
) -> Claim[D, C]:
    read = Fields()
    limit = paging.size_of(read, "limit", request.limit, default=DEFAULT_CLAIM, most=MAX_CLAIM)
    lease_s = DEFAULT_LEASE_S
    if request.HasField("lease"):
        lease_s = read.seconds("lease", request.lease, low=1, high=MAX_LEASE_S)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return Claim(command, limit, lease_s, request_id, fingerprint(request))


def claim_failed(
    request: payment_pb2.ClaimFailedPaymentsRequest,
) -> Claim[PaymentToClaim, ClaimPayments]:
    return read_claim(request, ClaimPayments)


def payment(value: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        id=str(value.id),
        booking_id=str(value.booking_id),
        provider=value.provider,
        payment_id=value.payment_id,
        state=payment_pb2.Payment.State.Value(value.state),
        amount=money(value.amount_minor, value.currency),
        refunded=money(value.refunded_minor, value.currency),
        failure_code=value.failure_code,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        next_retry_time=timestamp(value.next_retry_time),
    )


def payments(
    request: payment_pb2.ListPaymentsRequest, page: Page[Payment]
) -> payment_pb2.ListPaymentsResponse:
    return payment_pb2.ListPaymentsResponse(
        payments=[payment(each) for each in page.items],
        next_page_token=paging.next_token(request, page.next),
    )


def failed_payments(
    request: payment_pb2.ListFailedPaymentsRequest, page: Page[Payment]
) -> payment_pb2.ListFailedPaymentsResponse:
    return payment_pb2.ListFailedPaymentsResponse(
        payments=[payment(each) for each in page.items],
        next_page_token=paging.next_token(request, page.next),
    )


def claimed(values: tuple[Payment, ...]) -> payment_pb2.ClaimFailedPaymentsResponse:
    return payment_pb2.ClaimFailedPaymentsResponse(payments=[payment(each) for each in values])
