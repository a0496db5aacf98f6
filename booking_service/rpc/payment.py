"""booking.v1.PaymentService: translates, calls, translates back."""

from typing import Any

import grpc

from booking_service.domain.booking import Payment
from booking_service.mapping import answers, requests
from booking_service.rpc.changes import Changes
from protos.booking.v1 import payment_pb2, payment_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PaymentService(payment_pb2_grpc.PaymentServiceServicer):
    """What the payment service tells of what happened at a provider."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def RecordPayment(
        self, request: payment_pb2.RecordPaymentRequest, context: Context
    ) -> payment_pb2.Payment:
        change = requests.record_payment(request)
        return answers.payment(await self._changes.carry_out(change, Payment))
