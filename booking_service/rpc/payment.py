"""booking.v1.PaymentService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any

import grpc

from booking_service.domain.booking import Payment, Refund
from booking_service.errors import found
from booking_service.mapping import payment, refund
from booking_service.reads.payments import PaymentQueries
from booking_service.reads.refunds import RefundQueries
from booking_service.rpc.command_gateway import CommandGateway
from protos.booking.v1 import payment_pb2, payment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PaymentService(payment_pb2_grpc.PaymentServiceServicer):
    """Events of payment providers, and the payments and refunds that remain to be made."""

    def __init__(
        self, gateway: CommandGateway, payments: PaymentQueries, refunds: RefundQueries
    ) -> None:
        self._gateway = gateway
        self._payments = payments
        self._refunds = refunds

    async def RecordPayment(
        self, request: payment_pb2.RecordPaymentRequest, context: Context
    ) -> payment_pb2.Payment:
        change = payment.record_payment(request)
        return payment.payment(await self._gateway.carry_out(change, Payment))

    async def ListPayments(
        self, request: payment_pb2.ListPaymentsRequest, context: Context
    ) -> payment_pb2.ListPaymentsResponse:
        listed = payment.list_payments(request)
        page = await self._payments.list(listed.booking_id, after=listed.after, limit=listed.limit)
        return payment.payments(request, found(page, "booking", listed.booking_id))

    async def ListFailedPayments(
        self, request: payment_pb2.ListFailedPaymentsRequest, context: Context
    ) -> payment_pb2.ListFailedPaymentsResponse:
        listed = payment.list_failed(request)
        page = await self._payments.list_failed(after=listed.after, limit=listed.limit)
        return payment.failed_payments(request, page)

    async def ClaimFailedPayments(
        self, request: payment_pb2.ClaimFailedPaymentsRequest, context: Context
    ) -> payment_pb2.ClaimFailedPaymentsResponse:
        claim = payment.claim_failed(request)
        due = await self._payments.find_due(claim.limit)
        return payment.claimed(await self._gateway.carry_out(claim.of(due), tuple))

    async def RefundPayment(
        self, request: payment_pb2.RefundPaymentRequest, context: Context
    ) -> payment_pb2.Refund:
        wanted = refund.refund_payment(request)
        booking_id = await self._payments.booking_of(wanted.payment_row_id)
        change = wanted.of(found(booking_id, "payment", wanted.payment_row_id))
        return refund.refund(await self._gateway.carry_out(change, Refund))

    async def GetRefund(
        self, request: payment_pb2.GetRefundRequest, context: Context
    ) -> payment_pb2.Refund:
        refund_id = refund.get_refund(request)
        return refund.refund(found(await self._refunds.get(refund_id), "refund", refund_id))

    async def ListRefunds(
        self, request: payment_pb2.ListRefundsRequest, context: Context
    ) -> payment_pb2.ListRefundsResponse:
        listed = refund.list_refunds(request)
        page = await self._refunds.list(listed.wanted, after=listed.after, limit=listed.limit)
        return refund.refunds(request, page)

    async def ClaimRefunds(
        self, request: payment_pb2.ClaimRefundsRequest, context: Context
    ) -> payment_pb2.ClaimRefundsResponse:
        claim = refund.claim_refunds(request)
        due = await self._refunds.find_due(claim.limit)
        return refund.claimed(await self._gateway.carry_out(claim.of(due), tuple))
