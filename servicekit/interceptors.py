"""Wraps every RPC: its context, deadline, errors and access log.

An RPC ends exactly once, with OK, with a status of the catalogue, or with INTERNAL and a
correlation id; the text of an unexpected error appears only in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from grpc import StatusCode
from grpc_status.rpc_status import to_status

from servicekit.arrivals import Arrivals
from servicekit.context import Call, QueryCount, current_call
from servicekit.errors import DEADLINE_TOO_SHORT, DRAINING, STARTING, ApiError
from servicekit.exposition.rpcs import RpcCounts
from servicekit.handlers import (
    Behaviour,
    LineLimit,
    RefusedBytes,
    Slots,
    ageing,
    reading,
    refusing,
    writing,
)
from servicekit.identity.access import AccessRefused
from servicekit.identity.gate import EVERYBODY, Admission, Gate
from servicekit.metadata import certificate_names, header
from servicekit.rpc_end import RpcEnd, cancelled_by_grpc, code_of, report_fault, why_cancelled
from servicekit.tracing.span import enter
from servicekit.tracing.tracer import OFF, Tracer, end_rpc

if TYPE_CHECKING:
    # Generic for type checkers, but not at run time.
    Handler = grpc.RpcMethodHandler[Any, Any]

HEALTH_PREFIX: Final = "grpc.health."
WAY_BACK_S: Final = 0.005
"""Subtracted from the caller's deadline for the answer's way back."""

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Context, deadline, errors and access log of every RPC of one server.

    `domain` is that of ErrorInfo. `on_rpc` is called at the end of each RPC and must not block;
    what it raises is only logged. `count_queries` starts counting the queries of the RPC in whose
    context it is called. `gate` decides who may call what; without one everybody may do everything.
    `tracer` makes the spans of RPCs that may be called, except health checks.
    Once `draining` is set, new RPCs are refused, except health checks; while
    `starting` is, except those and the RPCs of the services `early`, such as
    `metrics.v1.HealthService`. `large_messages` are the full methods whose messages may have 1 MiB.
    Streams end with OK when they are max_stream_s old.
    """

    def __init__(
        self,
        domain: str,
        *,
        on_rpc: Callable[[RpcEnd], None] | None = None,
        count_queries: Callable[[], QueryCount] | None = None,
        gate: Gate = EVERYBODY,
        tracer: Tracer = OFF,
        large_messages: Collection[str] = (),
        early: Collection[str] = (),
        max_stream_s: float = math.inf,
    ) -> None:
        self._domain = domain
        self._on_rpc = on_rpc
        self._count_queries = count_queries
        self._gate = gate
        self._tracer = tracer
        self._large_messages = frozenset(large_messages)
        self._early = frozenset(early)
        self._max_stream_s = max_stream_s
        self._arrivals = Arrivals()
        self.counts = RpcCounts()
        self.draining = False
        self.starting = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        # By reason, so that many strangers do not hide the refusal of a known caller.
        self._refused_lines: dict[str, LineLimit] = defaultdict(LineLimit)
        self._cancelled_lines = LineLimit()
        # One entry per served method: an unknown method has no handler.
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    async def wait_idle(self) -> None:
        """Wait until no RPC is in flight, except health checks."""
        while self._in_flight:
            self._idle.clear()
            await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Replace the handler by its wrapped form."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._wrap(handler, method.lstrip("/")))
        return known[1]

    def _wrap(self, handler: Handler, method: str) -> Handler:
        # Exactly one of the four is set; their types are those of gRPC's threaded server.
        behaviour: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        if handler.response_streaming and inspect.isasyncgenfunction(behaviour):
            behaviour = writing(behaviour)
        if handler.response_streaming:
            behaviour = ageing(behaviour, max_age_s=self._max_stream_s)
        behaviour = reading(behaviour, streaming=handler.request_streaming)
        behaviour = self._guard(behaviour, method, request_streaming=handler.request_streaming)
        if handler.response_streaming:
            behaviour = Slots().counting(behaviour)
        if not handler.request_streaming:
            behaviour = self._arrivals.awaiting(behaviour)
        make: Any = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        large = method in self._large_messages
        counts = self.counts.of(method, handler)
        wrapped: Handler = make(
            behaviour,
            request_deserializer=counts.receiving(
                refusing(handler.request_deserializer, large=large)
            ),
            response_serializer=counts.sending(handler.response_serializer),
        )
        return wrapped

    def _guard(
        self, behaviour: Behaviour, method: str, *, request_streaming: bool
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        counted = not method.startswith(HEALTH_PREFIX)
        early = not counted or method.partition("/")[0] in self._early

        async def guarded(request: Any, context: Context) -> Any:
            if not counted:
                return await serve(request, context)
            self._in_flight += 1
            try:
                return await serve(request, context)
            finally:
                self._in_flight -= 1
                self._idle.set()

        async def serve(request: Any, context: Context) -> Any:
            started_ns = time.perf_counter_ns()
            metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
            admission = self._gate.admit(method, partial(certificate_names, context), metadata)
            call = self._enter(method, context, metadata, admission, traced=counted)
            named = None if request_streaming or isinstance(request, RefusedBytes) else request
            try:
                if admission.refusal is not None:
                    raise admission.refusal
                if self.draining and counted:
                    raise ApiError(DRAINING, "this process is ending", retry_after_s=1.0)
                if self.starting and not early:
                    raise ApiError(STARTING, "this process does not serve yet", retry_after_s=1.0)
                if call.deadline is not None and call.remaining_s() == 0.0:
                    raise ApiError(DEADLINE_TOO_SHORT, "too little time was left to begin")
                response = await behaviour(request, context)
            except ApiError as error:
                self._end(call, started_ns, named, error=error)
                await context.abort_with_status(to_status(error.to_status(self._domain)))
            except grpc.aio.AbortError:
                self._end(call, started_ns, named, code=code_of(context))
                raise
            except asyncio.CancelledError:
                if cancelled_by_grpc():
                    code = why_cancelled(call)
                    if code is StatusCode.CANCELLED:
                        self._arrivals.resets.count(context.peer())
                    self._end(call, started_ns, named, code=code)
                    raise
                # Something that the handler awaited was cancelled: gRPC would send no answer.
                await self._internal(call, started_ns, named, context)
            except Exception as error:
                if isinstance(error, grpc.aio.BaseError) and context.cancelled():
                    self._end(call, started_ns, named, code=StatusCode.CANCELLED)
                    raise
                await self._internal(call, started_ns, named, context)
            else:
                self._end(call, started_ns, named, code=code_of(context))
                return response
            finally:
                self._gate.leave(admission)

        return guarded

    def _enter(
        self,
        method: str,
        context: Context,
        metadata: Mapping[str, Any],
        admission: Admission,
        *,
        traced: bool = False,
    ) -> Call:
        self.counts.begin(method)
        remaining_s = context.time_remaining()
        request_id = header(metadata, "x-request-id") or uuid.uuid4().hex
        traced = traced and admission.refusal is None
        call = Call(
            method=method,
            request_id=request_id,
            identity=admission.identity,
            session_id=header(metadata, "x-session-id"),
            deadline=(None if remaining_s is None else time.monotonic() + remaining_s - WAY_BACK_S),
            query_count=None if self._count_queries is None else self._count_queries(),
            span=self._tracer.begin_rpc(method, metadata, request_id) if traced else None,
        )
        current_call.set(call)
        if call.span is not None:
            enter(call.span)
        return call

    async def _internal(self, call: Call, started_ns: int, request: Any, context: Context) -> None:
        """Answer INTERNAL for the exception being handled."""
        error = report_fault(call)
        self._end(call, started_ns, request, error=error)
        await context.abort_with_status(to_status(error.to_status(self._domain)))

    def _end(
        self,
        call: Call,
        started_ns: int,
        request: Any,
        *,
        error: ApiError | None = None,
        code: StatusCode = StatusCode.OK,
    ) -> None:
        duration_us = (time.perf_counter_ns() - started_ns) // 1000
        if error is not None:
            spec = error.spec
            code, reason, kind, counts = spec.code, spec.reason, spec.kind, spec.counts_as_error
        else:
            reason, kind, counts = "" if code is StatusCode.OK else code.name, None, False
        if call.span is not None:
            end_rpc(call.span, code, reason=reason, kind=kind)
        self.counts.end(call.method, code, duration_us)
        suppressed: int | None = 0
        if isinstance(error, RefusedBytes | AccessRefused):
            suppressed = self._refused_lines[reason].take()
        elif code is StatusCode.CANCELLED:
            suppressed = self._cancelled_lines.take()
        if suppressed is not None:
            write = log.debug if code is StatusCode.OK else log.info
            write(
                "rpc_ended",
                rpc=call.method,
                code=code.name,
                reason=reason,
                duration_ms=duration_us / 1000,
                caller=call.caller,
                **({"suppressed": suppressed} if suppressed else {}),
            )
        if self._on_rpc is None:
            return
        queries = 0 if call.query_count is None else call.query_count.queries
        try:
            self._on_rpc(RpcEnd(call, code, reason, kind, counts, duration_us, request, queries))
        except Exception:
            log.exception("rpc_callback_failed", rpc=call.method)
