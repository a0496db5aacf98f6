"""Adapts handlers to the interceptor: how they get their messages, and how they answer.

gRPC reads the bytes of a request before it calls the handler, and answers UNKNOWN with a traceback
in the log if that fails. Here the refusal takes the place of the message, and is raised in the RPC.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc

from servicekit.errors import MALFORMED, TOO_LARGE, TOO_MANY_STREAMS, ApiError

Behaviour = Callable[[Any, Any], Any]

MAX_MESSAGE_BYTES: Final = 1024 * 1024
"""Of every message that a server reads; gRPC refuses a larger one by itself."""

MAX_REQUEST_BYTES: Final = 256 * 1024
"""Of a message to an RPC that is not named as one of large messages."""

MAX_STREAMS: Final = 512
"""Open streams of an RPC, with those that cannot be ended since their client reads nothing."""

LINE_GAP_S: Final = 1.0
"""The least time between two log lines of a kind, such as those about refused bytes."""


class RefusedBytes(ApiError):  # noqa: N818 - a refusal, which also takes the place of a message
    """Why the bytes of a request were refused."""


def refusing(
    deserialise: Callable[[bytes], Any] | None, *, large: bool = False
) -> Callable[[bytes], Any] | None:
    """Wrap a deserialiser: it returns RefusedBytes in place of a message that it cannot read, and
    does not read one that is too large.
    """
    most_bytes = MAX_MESSAGE_BYTES if large else MAX_REQUEST_BYTES
    if deserialise is None:
        return None

    def read(data: bytes) -> Any:
        if len(data) > most_bytes:
            return RefusedBytes(
                TOO_LARGE, f"a message has {len(data)} bytes; this RPC takes at most {most_bytes}"
            )
        try:
            return deserialise(data)
        except Exception:
            # Whatever it is, the bytes have caused it, and its text may quote them.
            return RefusedBytes(MALFORMED, "the bytes are no message of the type this RPC takes")

    return read


def reading(behaviour: Behaviour, *, streaming: bool) -> Behaviour:
    """Wrap a handler: refused bytes end the RPC with their error, whatever the handler does."""

    async def of_one(request: Any, context: Any) -> Any:
        if isinstance(request, RefusedBytes):
            raise request
        return await behaviour(request, context)

    async def of_stream(messages: AsyncIterator[Any], context: Any) -> Any:
        if isinstance(messages, RefusedBytes):
            raise messages
        requests = Requests(messages)
        try:
            response = await behaviour(requests, context)
        except grpc.aio.BaseError:
            # The stream has ended already: it was aborted, or the other side is gone.
            raise
        except Exception:
            if requests.refused is None:
                raise
        if requests.refused is not None:
            raise requests.refused
        return response

    return of_stream if streaming else of_one


def writing(behaviour: Behaviour) -> Behaviour:
    """Let an async generator answer through `context.write`, as the other handlers do."""

    async def write(request: Any, context: Any) -> None:
        responses = behaviour(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            await responses.aclose()

    return write


def ageing(behaviour: Behaviour, *, max_age_s: float) -> Behaviour:
    """Let a stream end with OK when it is as old as that, or a tenth less: its connection is to be
    replaced by a new one.
    """

    async def stream(request: Any, context: Any) -> None:
        # Without it a stream whose first frame is never read could not be ended with a status: gRPC
        # would send the headers with that frame and, since it never returns, again with the status.
        await context.send_initial_metadata(())
        age_s = max_age_s * random.uniform(0.9, 1.0)  # noqa: S311 - jitter
        try:
            async with asyncio.timeout(age_s) as age:
                await behaviour(request, context)
        except TimeoutError:
            if not age.expired():
                raise

    return stream


class Slots:
    """The open streams of one RPC. A surplus one is handed a refusal in place of its request."""

    def __init__(self) -> None:
        self._open = 0

    def counting(self, behaviour: Behaviour) -> Behaviour:
        """Wrap a handler, so that a stream has its place until nothing is left of it."""

        async def counted(request: Any, context: Any) -> Any:
            full = self._open >= MAX_STREAMS
            self._open += 1
            try:
                if full:
                    message = f"{MAX_STREAMS} streams are open"
                    request = RefusedBytes(TOO_MANY_STREAMS, message, retry_after_s=5.0)
                return await behaviour(request, context)
            finally:
                self._open -= 1

        return counted


class Requests:
    """The messages of a client's stream, which end by raising RefusedBytes where one is refused.

    `refused` is then set: a handler may read in a task of its own, and end without the error.
    """

    def __init__(self, messages: AsyncIterator[Any]) -> None:
        self._messages = messages
        self.refused: RefusedBytes | None = None

    def __aiter__(self) -> Requests:
        return self

    async def __anext__(self) -> Any:
        """Return the next message; once one was refused, each call raises."""
        if self.refused is None:
            message = await anext(self._messages)
            if not isinstance(message, RefusedBytes):
                return message
            self.refused = message
        raise self.refused


class LineLimit:
    """Allows one log line per gap_s, and counts those it suppresses."""

    def __init__(
        self, now_s: Callable[[], float] = time.monotonic, *, gap_s: float = LINE_GAP_S
    ) -> None:
        self._now_s = now_s
        self._gap_s = gap_s
        self._next_s = 0.0
        self._suppressed = 0

    def take(self) -> int | None:
        """Return how many lines were suppressed since the last one; None to suppress this one."""
        now_s = self._now_s()
        if now_s < self._next_s:
            self._suppressed += 1
            return None
        self._next_s = now_s + self._gap_s
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
