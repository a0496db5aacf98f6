"""Counts RPCs by method, by the names of go-grpc-prometheus, so that common dashboards fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, Final

from google.protobuf import descriptor_pool
from grpc import RpcMethodHandler, StatusCode

from servicekit.exposition.declare import Buckets, Family, Metric

_METHOD: Final = ("grpc_type", "grpc_service", "grpc_method")

STARTED: Final = Metric(
    "grpc_server_started_total",
    "counter",
    "RPCs whose handling has begun.",
    _METHOD,
    everywhere=True,
)
HANDLED: Final = Metric(
    "grpc_server_handled_total",
    "counter",
    "RPCs that have ended, by their status.",
    (*_METHOD, "grpc_code"),
    everywhere=True,
)
RECEIVED: Final = Metric(
    "grpc_server_msg_received_total",
    "counter",
    "Messages that have arrived.",
    _METHOD,
    everywhere=True,
)
SENT: Final = Metric(
    "grpc_server_msg_sent_total",
    "counter",
    "Messages that were sent.",
    _METHOD,
    everywhere=True,
)
HANDLING: Final = Metric(
    "grpc_server_handling_seconds",
    "histogram",
    "Times from the message of an RPC, or from the begin of a client's stream, to its end.",
    _METHOD,
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    everywhere=True,
)
METRICS: Final = (STARTED, HANDLED, RECEIVED, SENT, HANDLING)

LEFT_OUT: Final = "grpc."
"""How the services begin that are not counted: health checks and reflection."""

CODES: Final = {
    code: "Canceled" if code is StatusCode.CANCELLED else code.name.title().replace("_", "")
    for code in StatusCode
} | {StatusCode.OK: "OK"}

FROM_ZERO: Final = (
    StatusCode.OK,
    StatusCode.UNKNOWN,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
)
"""Every method has these from the start: a rate of faults cannot see the first of a new series."""

_BOUNDS_US: Final = [round(bound * 1e6) for bound in HANDLING.buckets]
_TYPES: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


class MethodCounts:
    """The RPCs of one method."""

    __slots__ = ("codes", "durations", "labels", "received", "sent", "started", "sum_us")

    def __init__(self, method: str, kind: str) -> None:
        service, _, name = method.rpartition("/")
        self.labels = (kind, service, name)
        self.started = self.received = self.sent = self.sum_us = 0
        self.codes = dict.fromkeys(FROM_ZERO, 0)
        self.durations = [0] * (len(_BOUNDS_US) + 1)

    def end(self, code: StatusCode, duration_us: int) -> None:
        """Count the end of an RPC."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.durations[bisect_left(_BOUNDS_US, duration_us)] += 1
        self.sum_us += duration_us

    def receiving(self, read: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        """Wrap a deserialiser, which may be none, to count what arrives."""

        def counted(data: bytes) -> Any:
            self.received += 1
            return data if read is None else read(data)

        return counted

    def sending(self, write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
        """Wrap a serialiser, which may be none, to count what is sent."""

        def counted(message: Any) -> bytes:
            self.sent += 1
            return message if write is None else write(message)

        return counted


class RpcCounts:
    """The RPCs of one server, but for health checks and reflection."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodCounts] = {}

    def declare(self, services: Iterable[str]) -> None:
        """Begin every method of these services at zero, where their contract is known."""
        for name in services:
            try:
                service = descriptor_pool.Default().FindServiceByName(name)
            except KeyError:
                continue
            for method in service.methods:
                kind = _TYPES[method.client_streaming, method.server_streaming]
                self._of(f"{name}/{method.name}", kind)

    def of(self, method: str, handler: RpcMethodHandler[Any, Any]) -> MethodCounts:
        """Return the counts of a method; those of one that is left out are nowhere else."""
        kind = _TYPES[bool(handler.request_streaming), bool(handler.response_streaming)]
        return MethodCounts(method, kind) if method.startswith(LEFT_OUT) else self._of(method, kind)

    def begin(self, method: str) -> None:
        """Count the begin of an RPC."""
        counts = self._methods.get(method)
        if counts is not None:
            counts.started += 1

    def end(self, method: str, code: StatusCode, duration_us: int) -> None:
        """Count the end of an RPC."""
        counts = self._methods.get(method)
        if counts is not None:
            counts.end(code, duration_us)

    def families(self) -> Iterator[Family]:
        """Yield the families of METRICS."""
        counts = [*self._methods.values()]
        yield Family(STARTED, {each.labels: each.started for each in counts})
        yield Family(
            HANDLED,
            {
                (*each.labels, CODES[code]): ended
                for each in counts
                for code, ended in each.codes.items()
            },
        )
        yield Family(RECEIVED, {each.labels: each.received for each in counts})
        yield Family(SENT, {each.labels: each.sent for each in counts})
        yield Family(
            HANDLING,
            {
                each.labels: Buckets([*accumulate(each.durations)], each.sum_us / 1e6)
                for each in counts
            },
        )

    def _of(self, method: str, kind: str) -> MethodCounts:
        found = self._methods.get(method)
        if found is None:
            found = self._methods[method] = MethodCounts(method, kind)
        return found
