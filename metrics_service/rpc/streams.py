"""Writes the newest frames to one reader of a stream, at its pace, until it leaves, stalls or the
service stops; at most one frame is held for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

import grpc

from metrics_service.fanout import ClosedError, Fanout, FullError, Pace
from servicekit.errors import DRAINING, ApiError, ErrorSpec
from servicekit.pauses import pause_tolerant_timeout

STALL_S: Final = 30.0
REPEAT_S: Final = 15.0

SLOW_READER: Final = ErrorSpec(
    reason="SLOW_READER",
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="The reader of a stream took nothing for too long.",
)
TOO_MANY_READERS: Final = ErrorSpec(
    reason="TOO_MANY_READERS",
    code=grpc.StatusCode.RESOURCE_EXHAUSTED,
    kind="caller",
    counts_as_error=False,
    retryable=True,
    summary="As many streams, or different windows of streams, as allowed are open.",
)

Q = TypeVar("Q", bound=Hashable)
Context = grpc.aio.ServicerContext[Any, bytes]


def _anybody() -> None:
    """Admit every reader."""


async def stream_to(
    fanout: Fanout[Q],
    question: Q,
    pace: Pace,
    context: Context,
    *,
    stall_s: float,
    admit: Callable[[], None] = _anybody,
) -> None:
    """Write frames as they arrive, at most one each pace.gap_s. Ends only by an exception.

    `context` must belong to a handler without a response serialiser: frames are bytes already. A
    reader that HTTP/2 flow control holds up for stall_s is ended with SLOW_READER. `admit` is
    called when it is the reader's turn and raises where it is refused.
    """
    try:
        reader = await fanout.enter(question, pace, admit)
    except FullError:
        raise ApiError(TOO_MANY_READERS, "too many streams are open", retry_after_s=5.0) from None
    except ClosedError:
        raise ApiError(DRAINING, "the service is shutting down", retry_after_s=1.0) from None
    try:
        while True:
            await write_frame(context, await reader.take(), stall_s)
            await reader.pause(pace.gap_s)
    except ClosedError:
        raise ApiError(DRAINING, "the service is shutting down", retry_after_s=1.0) from None
    finally:
        fanout.leave(question, pace, reader)


async def write_frame(context: Context, frame: bytes, stall_s: float) -> None:
    """Write one frame; a reader that takes nothing for stall_s is ended with SLOW_READER."""
    try:
        await pause_tolerant_timeout(stall_s, context.write(frame))
    except TimeoutError:
        message = f"nothing was taken for {stall_s:g} s"
        raise ApiError(SLOW_READER, message, retry_after_s=1.0) from None
