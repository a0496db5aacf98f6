"""booking.v1.PaymentService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any

import grpc

from booking_service.domain.booking import Payment, Refund
from booking_service.errors import found
from booking_service.mapping import payment
from booking_service.reads.payments import PaymentQueries
from booking_service.rpc.command_gateway import CommandGateway
from protos.booking.v1 import payment_pb2, payment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PaymentService(payment_pb2_grpc.PaymentServiceServicer):
    """Events of payment providers, and the payments and refunds that remain to be made."""

    def __init__(self, gateway: CommandGateway, queries: PaymentQueries) -> None:
        self._gateway = gateway
        self._payments = queries

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
        refund = payment.refund_payment(request)
        booking_id = await self._payments.booking_of(refund.payment_row_id)
        change = refund.of(found(booking_id, "payment", refund.payment_row_id))
        return payment.refund(await self._gateway.carry_out(change, Refund))
