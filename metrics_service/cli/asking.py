"""Asks a running metrics_service; what comes of it that is no answer is one line and an exit
status.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from metrics_service.cli.plain import plain
from protos.metrics.v1 import (
    alert_pb2_grpc,
    deployment_pb2_grpc,
    metrics_pb2_grpc,
)
from protos.metrics.v1 import (
    health_pb2_grpc as database_pb2_grpc,
)
from servicekit.channels import ClientFiles
from servicekit.start import StartError

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 4
"""Exit statuses; servicekit has 2 for settings too."""

_NO_ANSWER: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_NOT_ALLOWED: Final = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
)

T = TypeVar("T")


class NotReachableError(StartError):
    """The service does not answer."""

    exit_status = UNREACHABLE


class NotAllowedError(StartError):
    """The service does not answer this caller."""

    exit_status = UNREACHABLE


class BadQuestionError(StartError):
    """The service refuses what was asked."""

    exit_status = USAGE


class Service:
    """A metrics_service at an address such as "127.0.0.1:50052"."""

    def __init__(self, channel: grpc.aio.Channel, target: str) -> None:
        self.target = target
        # Its methods are those of the stubs' asynchronous twins, which are classes for mypy only.
        self.metrics: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        self.health: Any = database_pb2_grpc.HealthServiceStub(channel)
        self.alerts: Any = alert_pb2_grpc.AlertServiceStub(channel)
        self.deployments: Any = deployment_pb2_grpc.DeploymentServiceStub(channel)

    async def ask(
        self, method: Callable[..., Awaitable[T]], request: Any, timeout_s: float = TIMEOUT_S
    ) -> T:
        """Return the answer to a request. Raises StartError."""
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise refusal(error, self.target) from None


async def booking_serves(target: str, files: ClientFiles) -> bool:
    """Return whether a booking_service says that it serves. Raises StartError."""
    async with files.open(target) as channel:
        # Its types name no methods.
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise refusal(error, target, "booking_service") from None
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def refusal(error: grpc.aio.AioRpcError, target: str, who: str = "metrics_service") -> StartError:
    """Return the line that says why there is no answer."""
    code, details = error.code(), plain(error.details() or error.code().name)
    if code in _NO_ANSWER:
        return NotReachableError(f"{who} at {plain(target)} does not answer: {details}")
    if code in _NOT_ALLOWED:
        return NotAllowedError(f"{who} at {plain(target)} does not allow it: {details}")
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return BadQuestionError(details)
    return StartError(details)


@asynccontextmanager
async def asking(target: str, files: ClientFiles) -> AsyncIterator[Service]:
    """Open a channel to a service, which need not answer. Raises PemError."""
    # Without a handler, gRPC would write a traceback for an answer that it cannot read.
    logging.getLogger("grpc").addHandler(logging.NullHandler())
    options = (("grpc.max_receive_message_length", MAX_ANSWER_BYTES),)
    async with files.open(target, options) as channel:
        yield Service(channel, target)
