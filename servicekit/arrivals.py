"""Waits for the message of a call, in bounded time and number, and counts the calls that a client
resets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc

from servicekit.errors import MALFORMED, TOO_MANY_RESETS, UNFINISHED
from servicekit.handlers import Behaviour, RefusedBytes

MAX_REQUEST_S: Final = 10.0
"""The time for the message of a call that has one, from its headers on."""

MAX_WAITING: Final = 2048
"""Calls at a time that wait for their message: a further one ends the oldest of them, once it has
waited for CROWDED_S.
"""

CROWDED_S: Final = 1.0

GONE_S: Final = 0.1
"""A client that ends a call without a message has reset it, if that shows within this time."""

MAX_RESETS: Final = 2_000
RESETS_PER_S: Final = 500
"""A connection may reset MAX_RESETS calls at once, and so many a second in the long run."""

MAX_PEERS: Final = 1_024
"""Connections whose resets are counted, the newest ones."""


class Resets:
    """Counts the calls that the client of a connection resets, so that one which resets too many
    gets no more work done. gRPC's own work for a reset call has no bound.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._counted: dict[str, tuple[float, float]] = {}

    def count(self, peer: str) -> None:
        """Count one reset of a connection, such as `ipv4:127.0.0.1:4711`."""
        resets = self._resets(peer) + 1.0
        self._counted.pop(peer, None)
        if len(self._counted) >= MAX_PEERS:
            del self._counted[next(iter(self._counted))]
        self._counted[peer] = resets, self._now_s()

    def too_many(self, context: Any) -> bool:
        """Whether the connection of a call has reset too many."""
        return bool(self._counted) and self._resets(context.peer()) > MAX_RESETS

    def _resets(self, peer: str) -> float:
        resets, counted_s = self._counted.get(peer, (0.0, 0.0))
        return max(0.0, resets - RESETS_PER_S * (self._now_s() - counted_s))


class Arrivals:
    """The calls of a server whose message is not here yet.

    For gRPC they are streams of messages, of which the first is read: it would wait for a single
    message without end, and before it calls a handler.
    """

    def __init__(self) -> None:
        self.resets = Resets()
        self._waiting: dict[asyncio.Timeout, None] = {}

    def awaiting(self, behaviour: Behaviour) -> Behaviour:
        """Wrap a handler that takes one message, or the refusal of what was to be one."""

        async def first(_: AsyncIterator[Any], context: Any) -> Any:
            return await behaviour(await self._message(context), context)

        return first

    async def _message(self, context: Any) -> Any:
        self._make_room()
        message: Any = grpc.aio.EOF
        limit = asyncio.timeout(MAX_REQUEST_S)
        try:
            async with limit:
                self._waiting[limit] = None
                message = await context.read()
                if message is grpc.aio.EOF:
                    await asyncio.sleep(GONE_S)
        except TimeoutError:
            return RefusedBytes(UNFINISHED, "the message of the call did not arrive in time")
        except asyncio.CancelledError:
            self.resets.count(context.peer())
            raise
        finally:
            self._waiting.pop(limit, None)
        if message is grpc.aio.EOF:
            return RefusedBytes(MALFORMED, "the call has no message")
        if self.resets.too_many(context):
            why = f"the connection has reset more than {RESETS_PER_S} calls a second"
            return RefusedBytes(TOO_MANY_RESETS, why, retry_after_s=1.0)
        return message

    def _make_room(self) -> None:
        if len(self._waiting) < MAX_WAITING:
            return
        oldest = next(iter(self._waiting))
        now_s = asyncio.get_running_loop().time()
        until_s = oldest.when()
        if until_s is not None and until_s - now_s < MAX_REQUEST_S - CROWDED_S:
            del self._waiting[oldest]
            if not oldest.expired():
                oldest.reschedule(now_s)
