"""Refunds, proto to domain and back.

Bounds are those that the comments of payment.proto state; every bad field is named at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from booking_service.domain.booking import Refund, RefundState
from booking_service.domain.commands import ClaimRefunds, RefundPayment, RefundToClaim
from booking_service.domain.money import Money
from booking_service.mapping import paging
from booking_service.mapping.command_request import CommandRequest, fingerprint, read_request_id
from booking_service.mapping.dates import read_created
from booking_service.mapping.fields import Fields
from booking_service.mapping.payment import Claim, read_claim
from booking_service.mapping.scalars import money, timestamp
from booking_service.reads.keyset import Key, Page
from booking_service.reads.refunds import RefundFilter
from protos.booking.v1 import payment_pb2


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A refund of a payment, before its booking is known."""

    payment_row_id: UUID
    amount: Money
    reason: str
    request_id: UUID | None
    fingerprint: bytes

    def of(self, booking_id: UUID) -> CommandRequest[RefundPayment]:
        command = RefundPayment(
            booking_id=booking_id,
            payment_row_id=self.payment_row_id,
            amount=self.amount,
            reason=self.reason,
            refund_row_id=uuid4(),
        )
        return CommandRequest(command, self.request_id, self.fingerprint)


@dataclass(frozen=True, slots=True)
class RefundList:
    """One page of refunds."""

    wanted: RefundFilter
    after: Key | None
    limit: int


def refund_payment(request: payment_pb2.RefundPaymentRequest) -> RefundRequest:
    read = Fields()
    payment_row_id = read.uuid("id", request.id)
    amount = read.money("amount", request.amount, present=request.HasField("amount"), low=1)
    reason = read.shown_text("reason", request.reason, required=False)
    request_id = read_request_id(read, request.request_id)
    read.refuse_bad()
    return RefundRequest(payment_row_id, amount, reason, request_id, fingerprint(request))


def get_refund(request: payment_pb2.GetRefundRequest) -> UUID:
    read = Fields()
    refund_id = read.uuid("id", request.id)
    read.refuse_bad()
    return refund_id


def list_refunds(request: payment_pb2.ListRefundsRequest) -> RefundList:
    read = Fields()
    created_from, created_until = read_created(read, request)
    states = read.choices("states", request.states, payment_pb2.Refund.State)
    wanted = RefundFilter(
        states=frozenset(RefundState(each) for each in states),
        booking_id=read.optional_uuid("booking_id", request.booking_id),
        vendor_id=read.optional_uuid("vendor_id", request.vendor_id),
        created_from=created_from,
        created_until=created_until,
    )
    limit = paging.size_of(read, "page_size", request.page_size)
    read.refuse_bad()
    return RefundList(wanted, paging.after(request, request.page_token), limit)


def claim_refunds(request: payment_pb2.ClaimRefundsRequest) -> Claim[RefundToClaim, ClaimRefunds]:
    return read_claim(request, ClaimRefunds)


def refund(value: Refund) -> payment_pb2.Refund:
    requested = value.state is RefundState.REQUESTED
    return payment_pb2.Refund(
        id=str(value.id),
        booking_id=str(value.booking_id),
        payment_id=str(value.payment_id),
        state=payment_pb2.Refund.State.Value(value.state),
        amount=money(value.amount_minor, value.currency),
        reason=value.reason,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        paid_out=money(value.paid_out_minor, value.currency),
        vendor_id=str(value.vendor_id),
        provider=value.provider,
        provider_payment_id=value.provider_payment_id,
        next_attempt_time=timestamp(value.next_attempt_time) if requested else None,
    )


def refunds(
    request: payment_pb2.ListRefundsRequest, page: Page[Refund]
) -> payment_pb2.ListRefundsResponse:
    return payment_pb2.ListRefundsResponse(
        refunds=[refund(each) for each in page.items],
        next_page_token=paging.next_token(request, page.next),
    )


def claimed(values: tuple[Refund, ...]) -> payment_pb2.ClaimRefundsResponse:
    return payment_pb2.ClaimRefundsResponse(refunds=[refund(each) for each in values])
