"""How an RPC has ended: the record that is handed on, what gRPC tells of it, and faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import sentry_sdk
import structlog
from grpc import StatusCode

from servicekit.context import Call
from servicekit.errors import INTERNAL, ApiError, Kind

Context = grpc.aio.ServicerContext[Any, Any]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RpcEnd:
    """How one RPC ended.

    `reason` is empty for OK, from the catalogue for a refusal, and else the code's name. `kind` is
    empty if `reason` is not from the catalogue. `request` is None when the client streams, and when
    its bytes were refused. `queries` counts the database queries; 0 if they are not counted.
    """

    call: Call
    code: StatusCode
    reason: str
    kind: Kind | None
    counts_as_error: bool
    duration_us: int
    request: Any
    queries: int = 0

    @property
    def method(self) -> str:
        """The full method, such as `booking.v1.BookingService/StartBooking`."""
        return self.call.method


def code_of(context: Context) -> StatusCode:
    """Return the code that the handler has set; gRPC has 0 or None if it has set none."""
    code: Any = context.code()
    if isinstance(code, StatusCode):
        return code
    return next((each for each in StatusCode if each.value[0] == code), StatusCode.OK)


def why_cancelled(call: Call) -> StatusCode:
    """Return DEADLINE_EXCEEDED where the caller's time is over, else CANCELLED."""
    late = call.deadline is not None and call.remaining_s() == 0.0
    return StatusCode.DEADLINE_EXCEEDED if late else StatusCode.CANCELLED


def cancelled_by_grpc() -> bool:
    """Return whether this task is cancelled, rather than something that it has awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def report_fault(call: Call) -> ApiError:
    """Log the exception being handled, report it to Sentry, and return what the caller is told."""
    log.exception("rpc_failed", rpc=call.method, request_id=call.request_id)
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("rpc", call.method)
        scope.set_tag("request_id", call.request_id)
        scope.set_tag("caller", call.caller)
        if call.span is not None:
            scope.set_tag("trace_id", call.span.trace_id.hex())
        sentry_sdk.capture_exception()
    return ApiError(
        INTERNAL,
        f"internal error, correlation id {call.request_id}",
        metadata={"correlation_id": call.request_id},
    )
