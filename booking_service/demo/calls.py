"""Calls the services over gRPC and tries again what may be tried again.

A request keeps its request_id over all its attempts, so that an answer lost with a killed server
is asked for again and nothing is done twice. Every retry is bounded in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

CALL_TIMEOUT_S = 10.0
GIVE_UP_S = 120.0
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        # How a server that shuts down ends what it did not get to.
        grpc.StatusCode.CANCELLED,
    }
)
# gRPC waits up to two minutes between attempts to connect unless told.
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class RefusalError(Exception):
    """The service's own answer is no; `reason` is its code for it."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.reason = reason


class UnreachableError(Exception):
    """One line: a service did not answer for too long."""


class Client:
    """One service at `target` ("host:port"); closes its channel at the end of `async with`."""

    def __init__(self, target: str, *, give_up_s: float = GIVE_UP_S) -> None:
        self.target = target
        self.channel = aio.insecure_channel(target, options=_OPTIONS)
        self.requests = 0
        self.retries = 0
        self._give_up_s = give_up_s

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def connect(self, timeout_s: float = 5.0) -> None:
        """Returns once the service can be reached; raises UnreachableError when it cannot."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.channel.channel_ready()
        except TimeoutError:
            raise UnreachableError(
                f"nothing answers on {self.target}; `make run` starts the services"
            ) from None

    async def call(
        self,
        method: aio.UnaryUnaryMultiCallable[_Request, _Answer],
        request: _Request,
        *,
        session_id: str = "",
    ) -> _Answer:
        """The answer; raises RefusalError, or UnreachableError after the last attempt."""
        self.requests += 1
        metadata = (("x-session-id", session_id),) if session_id else ()
        give_up = time.monotonic() + self._give_up_s
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                return await method(request, timeout=CALL_TIMEOUT_S, metadata=metadata)
            except aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    raise refusal(error) from error
                if time.monotonic() + delay_s > give_up:
                    raise UnreachableError(
                        f"{self.target} does not answer: {error.code().name}: {error.details()}"
                    ) from error
            self.retries += 1
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


def refusal(error: aio.AioRpcError) -> RefusalError:
    """The error with the reason of its ErrorInfo; "" where it has none."""
    info = error_details_pb2.ErrorInfo()
    # AioRpcError has the three methods of a Call that are read.
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return RefusalError(error.code(), info.reason, error.details() or "")
