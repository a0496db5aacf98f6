"""Calls the services over gRPC and retries what may be retried.

A request keeps its request_id over all attempts, so that a retry after a lost answer gets that
answer and nothing is done twice. Every retry is bounded in time.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final, TypeVar

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from servicekit.channels import PLAINTEXT, ClientFiles

CALL_TIMEOUT_S: Final = 10.0
GIVE_UP_S: Final = 120.0
_FIRST_DELAY_S: Final = 0.05
_MAX_DELAY_S: Final = 1.0
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        # A server that shuts down ends waiting requests with this.
        grpc.StatusCode.CANCELLED,
    }
)
# By default gRPC waits up to two minutes between attempts to connect.
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class RefusalError(Exception):
    """The service refused a request; `reason` is the code of the refusal."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.reason = reason


class UnreachableError(Exception):
    """A service did not answer for too long; one line."""


class Client:
    """A channel to one service at `target` ("host:port"), closed at the end of `async with`."""

    def __init__(
        self, target: str, *, give_up_s: float = GIVE_UP_S, files: ClientFiles = PLAINTEXT
    ) -> None:
        self.target = target
        self.channel = files.open(target, _OPTIONS)
        self.requests = 0
        self.retries = 0
        self._give_up_s = give_up_s

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def connect(self, timeout_s: float = 5.0) -> None:
        """Wait until the service can be reached. Raises UnreachableError."""
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
        """Return the answer. Raises RefusalError, or UnreachableError after the last attempt."""
        self.requests += 1
        metadata = (("x-session-id", session_id),) if session_id else ()
        give_up = time.monotonic() + self._give_up_s
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                return await method(request, timeout=CALL_TIMEOUT_S, metadata=metadata)
            except aio.AioRpcError as error:
                if error.code() not in _RETRYABLE:
                    raise refusal(error) from error
                if time.monotonic() + delay_s > give_up:
                    raise UnreachableError(
                        f"{self.target} does not answer: {error.code().name}: {error.details()}"
                    ) from error
            self.retries += 1
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            delay_s = min(2 * delay_s, _MAX_DELAY_S)


def refusal(error: aio.AioRpcError) -> RefusalError:
    """Translate an error with the reason of its ErrorInfo, "" where it has none."""
    info = error_details_pb2.ErrorInfo()
    # AioRpcError has the three methods of Call that rpc_status uses.
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return RefusalError(error.code(), info.reason, error.details() or "")
